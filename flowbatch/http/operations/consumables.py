"""Consumable resources, `tokens` in a workflow file (aws-batch.md §6.9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

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
from flowbatch.store import pages

KIND: Final = "consumable-resource"
LOOKED_AT: Final = 2000  # jobs of a page, whatever its filters


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
    """With a `clientToken` that was seen in the last eight hours with the same payload, nothing is changed again."""
    given = read(UpdateInput, call.given)
    token = allowed(call, given.consumableResource)
    arn = call.service.account.arn(KIND, token.name)
    if given.operation is not None and given.quantity is not None:
        operation, quantity, once = TokenOperation[given.operation], given.quantity, given.clientToken or ""
        await call.ask(lambda ticket: UpdateToken(ticket, token.name, operation, quantity, once))
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
    """The newest first, ended ones too. Of many that the filters leave out a page may come out short, and the next one goes on."""
    given = read(JobsInput, call.given)
    token = allowed(call, given.consumableResource)
    service = call.service
    wanted = accepting(given.filters or [])
    question, size = given.model_dump(exclude={"maxResults", "nextToken"}), page_size(given.maxResults)
    before = None
    if given.nextToken is not None:
        before = int(service.pages.cursor(question, given.nextToken)[0])
    looked_at = pages.by_token(service.reader, token.name, before, LOOKED_AT + 1)
    rest = looked_at[LOOKED_AT:]
    found: list[int] = []
    last = 0
    for at, (no, status, name) in enumerate(looked_at[:LOOKED_AT]):
        if len(found) == size:
            rest = looked_at[at:]
            break
        last = no
        if wanted(status, name):
            found.append(no)
    answer: Json = {"jobs": [usage_of(service, each, token.name) for each in pages.listed(service.reader, found)[0]]}
    if rest:
        answer["nextToken"] = service.pages.token(question, [last])
    return answer


def accepting(filters: Sequence[Filter]) -> Callable[[Status, str], bool]:
    """Every filter holds, each with one of its values. Raises ClientFailure."""
    statuses, names = set(Status), [["*"]]
    for each in filters:
        if each.name == "JOB_STATUS":
            unknown = next((value for value in each.values if value not in Status.__members__), None)
            if unknown is not None:
                raise ClientFailure(
                    f"The filter JOB_STATUS takes {', '.join(Status.__members__)}, not {unknown[:64]!r}"
                )
            statuses &= {Status[value] for value in each.values}
        elif each.name == "JOB_NAME":
            names.append(each.values)
        else:
            raise ClientFailure(f"The filter {each.name[:64]!r} is not known; there are JOB_STATUS and JOB_NAME")
    return lambda status, name: (
        status in statuses and all(any(matches(value, name) for value in each) for each in names)
    )


def usage_of(service: Service, job: pages.Listed, token: str) -> Json:
    spec, arn = service.spec(job), service.account.arn
    entry: Json = {
        "jobArn": arn("job", job.id),
        "jobQueueArn": arn("job-queue", spec.queue),
        "jobName": job.name,
        "jobStatus": Status(job.status).name,
        "quantity": dict(spec.tokens)[token],
        "createdAt": job.created_at,
        "consumableResourceProperties": properties(service, spec.tokens),
    }
    put(
        entry,
        jobDefinitionArn=arn("job-definition", spec.definition) if spec.definition else None,
        shareIdentifier=spec.share,
        statusReason=job.task_reason or job.status_reason,
        startedAt=job.started_at,
    )
    return entry


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
