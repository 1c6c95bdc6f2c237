"""ListTagsForResource, TagResource, UntagResource (aws-batch.md §13.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from flowbatch.core.scheduling_policies import all_of
from flowbatch.http.arns import Arn
from flowbatch.http.calls import Answer, Call, context_of_request, context_of_tags
from flowbatch.http.failures import ClientFailure
from flowbatch.http.operations.identifiers import job_name
from flowbatch.http.operations.shapes import Shape, Tags, check_tags, read
from flowbatch.model.places import is_of_run
from flowbatch.model.stimuli import PutTags
from flowbatch.spec.definitions import Reference


class ListInput(Shape):
    resourceArn: str


class TagInput(Shape):
    resourceArn: str
    tags: Tags


class UntagInput(Shape):
    resourceArn: str
    tagKeys: Annotated[list[str], Field(min_length=1, max_length=50)]


async def list_tags_for_resource(call: Call) -> Answer:
    given = read(ListInput, call.given)
    arn = call.service.account.parse(given.resourceArn)
    tags = tags_of(call, arn)
    call.allow(call.target(given.resourceArn, context_of_tags(tags or {})))
    if tags is None:
        raise ClientFailure(f"{given.resourceArn} not found")
    return {"tags": dict(tags)}


async def tag_resource(call: Call) -> Answer:
    """Others of its tags stay. Allowed must be both what it was tagged with and what it will be: nobody tags a resource into
    their own hands (security.md §1)."""
    given = read(TagInput, call.given)
    async with call.service.tagging:
        return await put(call, given.resourceArn, given.tags, ())


async def untag_resource(call: Call) -> Answer:
    given = read(UntagInput, call.given)
    async with call.service.tagging:
        return await put(call, given.resourceArn, {}, tuple(given.tagKeys))


async def put(call: Call, text: str, added: Mapping[str, str], gone: tuple[str, ...]) -> Answer:
    arn = call.service.account.parse(text)
    tags = tags_of(call, arn)
    after = {key: value for key, value in {**(tags or {}), **added}.items() if key not in gone}
    asked = context_of_request(added) or {"aws:tagkeys": gone}
    call.allow(
        call.target(text, {**asked, **context_of_tags(tags or {})}),
        call.target(text, {**asked, **context_of_tags(after)}),
    )
    if tags is None:
        raise ClientFailure(f"{text} not found")
    try:
        check_tags(after)
    except ValueError as error:
        raise ClientFailure(f"tags: {error}") from None
    await call.ask(lambda ticket: PutTags(ticket, arn.kind, arn.name, tuple(after.items())))
    return {}


def tags_of(call: Call, arn: Arn) -> Mapping[str, str] | None:
    """None where there is no such resource. Raises ClientFailure where it takes no tags."""
    service = call.service
    match arn.kind:
        case "job":
            name = job_name(service.account, arn.name)
            if name.index is not None or name.node is not None:
                raise ClientFailure("Children of arrays and nodes have no tags; tag the job")
            job = service.reader.job(name.job)
            return None if job is None else service.tags("job", job.id, lambda: dict(service.spec(job).tags))
        case "job-definition":
            try:
                reference = Reference.parse(arn.name)
            except ValueError as error:
                raise ClientFailure(str(error)) from None
            if reference.revision is None:
                raise ClientFailure(f"A revision is tagged: {arn.name}:REVISION")
            row = service.reader.revision(reference.name, reference.revision)
            return None if row is None else service.tags("job-definition", row.id, lambda: dict(row.tags))
        case "job-queue" | "compute-environment":
            known = service.state.queues if arn.kind == "job-queue" else service.state.environments
            there = arn.name in known and not is_of_run(arn.name)
            return service.tags(arn.kind, arn.name, dict) if there else None
        case "scheduling-policy":
            return service.tags(arn.kind, arn.name, dict) if arn.name in all_of(service.state) else None
        case "consumable-resource":
            token = service.state.tokens.held.get(arn.name)
            if token is None or is_of_run(arn.name):
                return None
            return service.tags(arn.kind, arn.name, lambda: dict(token.tags))
        case _:
            return None
