"""RegisterJobDefinition, DescribeJobDefinitions, DeregisterJobDefinition (aws-batch.md §6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from flowbatch.errors import WorkflowInvalid
from flowbatch.http.calls import Answer, Call, context_of_request
from flowbatch.http.effective import contexts_of_body
from flowbatch.http.failures import ClientFailure
from flowbatch.http.operations.shapes import Shape, Tags, Token, read
from flowbatch.http.pages import page_size
from flowbatch.http.service import Service
from flowbatch.model.definition import DefinitionRow
from flowbatch.model.stimuli import DeregisterDefinition, RegisterDefinition
from flowbatch.spec.definitions import SIZE_MAX, Reference, registration
from flowbatch.spec.positions import nowhere
from flowbatch.spec.strict import definition_objection
from flowbatch.spec.submitting import told

NAMES_MAX: Final = 100
PROBLEMS_SHOWN: Final = 5
SHOWN: Final = (
    "type", "parameters", "schedulingPriority", "containerProperties", "nodeProperties", "ecsProperties", "eksProperties",
    "retryStrategy", "timeout", "propagateTags", "platformCapabilities", "consumableResourceProperties",
)  # fmt: skip
LISTS: Final = ("command", "environment", "mountPoints", "resourceRequirements", "secrets", "ulimits", "volumes")


class Tagged(Shape):
    tags: Tags | None = None


class DescribeInput(Shape):
    jobDefinitions: Annotated[list[str], Field(max_length=NAMES_MAX)] | None = None
    maxResults: int | None = None
    jobDefinitionName: str | None = None
    status: str | None = None
    nextToken: Token | None = None


class DeregisterInput(Shape):
    jobDefinition: Annotated[str, Field(min_length=1)]


async def register_job_definition(call: Call) -> Answer:
    """Its shape is judged as a workflow file's definitions are."""
    name = call.given.get("jobDefinitionName")
    tags = read(Tagged, {"tags": call.given.get("tags")}).tags or {}
    arn = call.service.account.arn("job-definition", str(name))
    said = context_of_request(tags)
    targets = [call.target(arn, {**said, **context}) for context in contexts_of_body(call.given)]
    call.allow(*targets)
    target = targets[0]
    if tags:
        call.also("batch:TagResource", target)
    try:
        made = registration(nowhere("RegisterJobDefinition", dict(call.given)))
    except WorkflowInvalid as error:
        problems = list(map(told, error.problems))
        more = f" (and {len(problems) - PROBLEMS_SHOWN} more)" if len(problems) > PROBLEMS_SHOWN else ""
        raise ClientFailure("; ".join(problems[:PROBLEMS_SHOWN]) + more) from None
    objection = definition_objection(call.given) if call.service.limits.strict else None
    if objection is not None:
        raise ClientFailure(objection)
    value = await call.ask(lambda ticket: RegisterDefinition(ticket, made))
    revision = int(value["revision"])
    arn = call.service.account.arn("job-definition", f"{made.name}:{revision}")
    return {"jobDefinitionName": made.name, "jobDefinitionArn": arn, "revision": revision}


async def deregister_job_definition(call: Call) -> Answer:
    given = read(DeregisterInput, call.given)
    service = call.service
    try:
        reference = Reference.parse(given.jobDefinition)
    except ValueError as error:
        raise ClientFailure(str(error)) from None
    number = reference.revision
    if number is None:
        raise ClientFailure(f"{given.jobDefinition}: which revision? Write {reference.name}:REVISION, or its ARN")
    row = service.reader.revision(reference.name, number)
    tags = call.tags_of("job-definition", str(reference), lambda: dict(row.tags) if row is not None else {})
    call.allow(call.target(service.account.arn("job-definition", str(reference)), tags))
    await call.ask(lambda ticket: DeregisterDefinition(ticket, reference.name, number))
    return {}


async def describe_job_definitions(call: Call) -> Answer:
    given = read(DescribeInput, call.given)
    call.allow()
    service = call.service
    if given.jobDefinitions:
        if given.jobDefinitionName or given.status or given.nextToken or given.maxResults:
            raise ClientFailure("jobDefinitions cannot be combined with other parameters")
        named = [row for text in given.jobDefinitions for row in rows_of(service, text)]
        return {"jobDefinitions": [shown(service, row) for row in named]}
    if given.status is not None and given.status not in ("ACTIVE", "INACTIVE"):
        raise ClientFailure(f"status is ACTIVE or INACTIVE, not {given.status[:32]!r}")
    size = page_size(given.maxResults)
    question = given.model_dump(exclude={"maxResults", "nextToken"})
    cursor: list[str | int] = (
        service.pages.cursor(question, given.nextToken) if given.nextToken is not None else ["", 0]
    )
    last, after = str(cursor[0]), int(cursor[1])
    found: list[DefinitionRow] = []
    answer: dict[str, Any] = {}
    name = given.jobDefinitionName
    if name is not None and name.startswith("arn:"):
        name = service.account.name_of("job-definition", name).partition(":")[0]
    for row in service.reader.revisions_after(name, last, after):
        if given.status is not None and row.active != (given.status == "ACTIVE"):
            continue
        if len(found) == size:
            answer["nextToken"] = service.pages.token(question, [found[-1].name, found[-1].revision])
            break
        found.append(row)
    return {"jobDefinitions": [shown(service, row) for row in found], **answer}


def rows_of(service: Service, text: str) -> list[DefinitionRow]:
    """What is named; of a name alone every revision. Unknown ones are silently missing."""
    try:
        reference = Reference.parse(text)
    except ValueError as error:
        raise ClientFailure(str(error)) from None
    if reference.revision is None:
        return service.reader.revisions(reference.name)
    row = service.reader.revision(reference.name, reference.revision)
    return [] if row is None else [row]


def shown(service: Service, row: DefinitionRow) -> dict[str, Any]:
    """With the empty lists that AWS adds (aws-batch.md §6.1)."""
    body = service.body(row)
    found: dict[str, Any] = {
        "jobDefinitionName": row.name,
        "jobDefinitionArn": service.account.arn("job-definition", row.id),
        "revision": row.revision,
        "status": "ACTIVE" if row.active else "INACTIVE",
        "containerOrchestrationType": "ECS",
        "tags": dict(service.tags("job-definition", row.id, lambda: dict(row.tags))),
        **{key: body[key] for key in SHOWN if body.get(key) is not None},
    }
    found.setdefault("type", "container")
    found.setdefault("parameters", {})
    box = found.get("containerProperties")
    if isinstance(box, Mapping):
        found["containerProperties"] = {**{key: [] for key in LISTS}, **box}
    retry = found.get("retryStrategy")
    if isinstance(retry, Mapping):
        found["retryStrategy"] = {"evaluateOnExit": [], **retry}
    return found


__all__ = ["SIZE_MAX", "deregister_job_definition", "describe_job_definitions", "register_job_definition"]
