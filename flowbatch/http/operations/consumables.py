"""Consumable resources, `tokens` in a workflow file (aws-batch.md §6.9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from flowbatch.core.tokens import TokenState
from flowbatch.http.calls import Answer, Call, context_of_request
from flowbatch.http.failures import ClientFailure
from flowbatch.http.operations.job_details import Json, put
from flowbatch.http.operations.jobs import Filter
from flowbatch.http.operations.shapes import Name, Shape, Tags, Token, read
from flowbatch.http.pages import page_size
from flowbatch.http.service import Service
from flowbatch.model.places import is_of_run
from flowbatch.model.status import Status
from flowbatch.model.stimuli import CreateToken, DeleteToken, PutTags, UpdateToken
from flowbatch.model.tokens import Token as Declared
from flowbatch.model.tokens import TokenKind, TokenOperation

KIND = "consumable-resource"


class CreateInput(Shape):
    consumableResourceName: Name
    totalQuantity: Annotated[int, Field(ge=0)] | None = None
    resourceType: Literal["REPLENISHABLE", "NON_REPLENISHABLE"] | None = None
    tags: Tags | None = None


class OneInput(Shape):
    consumableResource: Annotated[str, Field(min_length=1)]


class UpdateInput(OneInput):
    operation: Literal["SET", "ADD", "REMOVE"] | None = None
    quantity: Annotated[int, Field(ge=0)] | None = None
    clientToken: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class ListInput(Shape):
    filters: list[Filter] | None = None
    maxResults: int | None = None
    nextToken: Token | None = None


class JobsInput(OneInput, ListInput):
    pass


async def create_consumable_resource(call: Call) -> Answer:
    given = read(CreateInput, call.given)
    tags = given.tags or {}
    arn = call.service.account.arn(KIND, given.consumableResourceName)
    target = call.target(arn, context_of_request(tags))
    call.allow(target)
    if tags:
        call.also("batch:TagResource", target)
    kind = TokenKind[given.resourceType or "REPLENISHABLE"]
    made = Declared(given.consumableResourceName, given.totalQuantity or 0, kind)
    await call.ask(lambda ticket: CreateToken(ticket, made, tuple(tags.items())))
    return {"consumableResourceName": made.name, "consumableResourceArn": arn}


async def describe_consumable_resource(call: Call) -> Answer:
    token = allowed(call, read(OneInput, call.given).consumableResource)
    beside = {"availableQuantity": token.available, "createdAt": token.created_at}
    return {**figures(call.service, token), **beside, "tags": dict(tags_of(call.service, token))}


async def update_consumable_resource(call: Call) -> Answer:
    """`clientToken`: repeated within the server's life, nothing is changed again."""
    given = read(UpdateInput, call.given)
    token = allowed(call, given.consumableResource)
    arn = call.service.account.arn(KIND, token.name)
    once = None if given.clientToken is None else (token.name, given.clientToken)
    if given.operation is not None and given.quantity is not None and once not in call.service.updated:
        operation, quantity = TokenOperation[given.operation], given.quantity
        await call.ask(lambda ticket: UpdateToken(ticket, token.name, operation, quantity))
        if once is not None:
            call.service.remember_update(once)
    return {"consumableResourceName": token.name, "consumableResourceArn": arn, "totalQuantity": token.total}


async def delete_consumable_resource(call: Call) -> Answer:
    token = allowed(call, read(OneInput, call.given).consumableResource)
    await call.ask(lambda ticket: DeleteToken(ticket, token.name))
    await call.service.engine.ask(lambda ticket: PutTags(ticket, KIND, token.name, None))
    return {}


async def list_consumable_resources(call: Call) -> Answer:
    given = read(ListInput, call.given)
    call.allow()
    service = call.service
    names = sorted(name for name in service.state.tokens.held if not is_of_run(name))
    for each in given.filters or []:
        if each.name != "CONSUMABLE_RESOURCE_NAME":
            raise ClientFailure(f"The filter {each.name[:64]!r} is not known; there is CONSUMABLE_RESOURCE_NAME")
        names = [name for name in names if any(matches(wanted, name) for wanted in each.values)]
    shown, answer = page(call, given, names)
    held = service.state.tokens.held
    return {"consumableResources": [figures(service, held[name]) for name in shown], **answer}


def matches(wanted: str, name: str) -> bool:
    """Whatever the case; a prefix where it ends in `*`."""
    low = wanted.lower()
    return name.lower().startswith(low[:-1]) if low.endswith("*") else name.lower() == low


def page(call: Call, given: ListInput, names: list[str]) -> tuple[list[str], dict[str, str]]:
    question = given.model_dump(exclude={"maxResults", "nextToken"})
    size = page_size(given.maxResults)
    if given.nextToken is not None:
        last = str(call.service.pages.cursor(question, given.nextToken)[0])
        names = [name for name in names if name > last]
    shown = names[:size]
    return shown, {"nextToken": call.service.pages.token(question, [shown[-1]])} if len(names) > size else {}


async def list_jobs_by_consumable_resource(call: Call) -> Answer:
    """Open jobs alone: what a job that has ended once held is nobody's question."""
    given = read(JobsInput, call.given)
    token = allowed(call, given.consumableResource)
    service = call.service
    found = {
        job.id: job for job in service.state.jobs.values() if any(name == token.name for name, _ in job.spec.tokens)
    }
    for each in given.filters or []:
        if each.name == "JOB_STATUS":
            wanted = {Status[value] for value in each.values if value in Status.__members__}
            found = {key: job for key, job in found.items() if job.status in wanted}
        elif each.name == "JOB_NAME":
            found = {
                key: job for key, job in found.items() if any(matches(value, job.spec.key) for value in each.values)
            }
        else:
            raise ClientFailure(f"The filter {each.name[:64]!r} is not known; there are JOB_STATUS and JOB_NAME")
    shown, answer = page(call, given, sorted(found))
    jobs: list[Json] = []
    for job_id in shown:
        job = found[job_id]  # type: ignore[index]
        arn = service.account.arn
        entry: Json = {
            "jobArn": arn("job", job.id),
            "jobQueueArn": arn("job-queue", job.spec.queue),
            "jobName": job.spec.key,
            "jobDefinitionArn": arn("job-definition", job.spec.definition),
            "jobStatus": job.status.name,
            "quantity": dict(job.spec.tokens)[token.name],
            "createdAt": job.created_at,
            "consumableResourceProperties": properties(service, job.spec.tokens),
        }
        put(entry, statusReason=job.status_reason, startedAt=job.started_at)
        jobs.append(entry)
    return {"jobs": jobs, **answer}


def properties(service: Service, demand: tuple[tuple[str, int], ...]) -> dict[str, Any]:
    return {
        "consumableResourceList": [
            {"consumableResource": service.account.arn(KIND, name), "quantity": quantity} for name, quantity in demand
        ]
    }


def allowed(call: Call, text: str) -> TokenState:
    """Raises AccessDenied; ClientFailure where there is none."""
    service = call.service
    name = service.account.name_of(KIND, text)
    token = service.state.tokens.held.get(name)
    context = call.tags_of(KIND, name, lambda: tags_made_with(token))
    call.allow(call.target(service.account.arn(KIND, name), context))
    if token is None or is_of_run(name):
        raise ClientFailure(f"Consumable resource {name} not found")
    return token


def tags_made_with(token: TokenState | None) -> Mapping[str, str]:
    return {} if token is None else dict(token.tags)


def tags_of(service: Service, token: TokenState) -> Mapping[str, str]:
    return service.tags(KIND, token.name, lambda: tags_made_with(token))


def figures(service: Service, token: TokenState) -> Json:
    return {
        "consumableResourceName": token.name,
        "consumableResourceArn": service.account.arn(KIND, token.name),
        "totalQuantity": token.total,
        "inUseQuantity": token.in_use,
        "resourceType": token.kind.name,
    }
