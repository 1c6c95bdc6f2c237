"""Job definitions over the native API: the verbs of `flowbatch definitions`."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field
from pydantic_core import from_json

from flowbatch.errors import InputError
from flowbatch.http.calls import Call, context_of_request
from flowbatch.http.effective import contexts_of_body
from flowbatch.http.failures import ClientFailure
from flowbatch.http.native.changing import asked_of_engine
from flowbatch.http.native.definition_shapes import DefinitionSaid, DefinitionsSaid
from flowbatch.http.native.queue_changes import Deletion
from flowbatch.http.native.routes import Query, asked, variable
from flowbatch.http.operations.shapes import Shape, check_tags
from flowbatch.spec.definitions import Reference, read_registration

KIND = "job-definition"
PAGE_MAX = 1000
Limit = Annotated[int, Field(ge=1, le=PAGE_MAX)]


class Definitions(Query):
    every: bool = Field(False, description="Every revision, INACTIVE ones too.")
    after: Annotated[str, Field(max_length=160)] | None = Field(None, description="`next` of the page before.")
    limit: Limit = 100


class Revisions(Query):
    limit: Limit = 100


class Definition(Shape):
    definition: Annotated[str, Field(min_length=1, max_length=1024 * 1024)] = Field(
        description="The text of a file: RegisterJobDefinition's JSON, or the same in YAML."
    )
    file: Annotated[str, Field(min_length=1, max_length=4096)] = Field("definition", description="As messages call it.")


async def list_definitions(call: Call) -> DefinitionsSaid:
    """Job definitions by name: of each the latest ACTIVE revision, or every one."""
    call.allow()
    given = asked(call, Definitions)
    after = ("", 0) if given.after is None else named(given.after)
    found = call.service.reader.definitions(every=given.every, after=(after[0], after[1] or 0))
    rows = list(islice(found, given.limit + 1))
    more = rows[given.limit - 1].id if len(rows) > given.limit else None
    return DefinitionsSaid(definitions=[DefinitionSaid.of(row) for row in rows[: given.limit]], next=more)


async def get_definition(call: Call) -> DefinitionsSaid:
    """The revisions of a job definition, the newest first; of `name:3` that one alone. None where there are none."""
    text = variable(call, "definition")
    call.allow(call.target(call.service.account.arn(KIND, text)))
    given = asked(call, Revisions)
    name, number = named(text)
    reader = call.service.reader
    row = None if number is None else reader.revision(name, number)
    rows = reader.revisions(name, limit=given.limit) if number is None else [] if row is None else [row]
    return DefinitionsSaid(definitions=[DefinitionSaid.of(each) for each in rows], next=None)


async def register_definition(call: Call) -> Any:
    """Register a file's text as a new revision. Needs batch:RegisterJobDefinition with its containers, too."""
    given = asked(call, Definition)
    try:
        made = await anyio.to_thread.run_sync(lambda: read_registration(given.definition.encode(), given.file))
        tags = dict(check_tags(dict(made.tags)))
    except (InputError, ValueError) as error:
        raise ClientFailure(str(error)) from None
    arn, said = call.service.account.arn(KIND, made.name), context_of_request(tags)
    targets = [call.target(arn, {**said, **context}) for context in contexts_of_body(from_json(made.body))]
    call.allow(*targets)
    call.also("batch:RegisterJobDefinition", *targets)
    if tags:
        call.also("batch:TagResource", targets[0])
    arguments = {"name": made.name, "body": made.body, "digest": made.digest, "tags": tags}
    return await asked_of_engine(call, "register_definition", arguments)


async def deregister_definition(call: Call) -> Any:
    """Make a revision INACTIVE: nothing new is made from it. Needs batch:DeregisterJobDefinition, too."""
    asked(call, Deletion)
    text = variable(call, "definition")
    name, number = named(text)
    row = None if number is None else call.service.reader.revision(name, number)
    tags = call.tags_of(KIND, text, lambda: {} if row is None else dict(row.tags))
    target = call.target(call.service.account.arn(KIND, text), tags)
    call.allow(target)
    call.also("batch:DeregisterJobDefinition", target)
    if number is None:
        raise ClientFailure(f"{name}: which revision? Its number is needed, as in {name}:1")
    return await asked_of_engine(call, "deregister_definition", {"name": name, "revision": number})


def named(text: str) -> tuple[str, int | None]:
    """Raises ClientFailure; an ARN would name what was not asked for."""
    if text.startswith("arn:"):
        raise ClientFailure(f"{text[:200]}: a name is needed, or name:revision")
    try:
        found = Reference.parse(text)
    except ValueError as error:
        raise ClientFailure(str(error)) from None
    return found.name, found.revision
