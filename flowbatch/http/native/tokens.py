"""Tokens, the consumable resources of AWS, over the native API: the verbs of `flowbatch tokens`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from flowbatch.http.calls import Call, context_of_request
from flowbatch.http.native.changing import asked_of_engine
from flowbatch.http.native.queue_changes import Deletion
from flowbatch.http.native.routes import asked, variable
from flowbatch.http.operations.consumables import KIND, tags_made_with
from flowbatch.http.operations.shapes import Name, Shape, Tags, Whole
from flowbatch.model.stimuli import PutTags
from flowbatch.model.tokens import figures


class NewToken(Shape):
    name: Name
    total: Whole
    type: Literal["REPLENISHABLE", "NON_REPLENISHABLE"] = Field(
        "REPLENISHABLE", description="NON_REPLENISHABLE: used up by each attempt, and never given back."
    )
    tags: Tags = Field(default={})


class TokenUpdate(Shape):
    operation: Literal["SET", "ADD", "REMOVE"]
    quantity: Whole


async def list_tokens(call: Call) -> Any:
    """What tokens there are: everybody's, and of open runs their own."""
    call.allow()
    reader = call.service.reader
    with reader.snapshot():
        used = reader.tokens_in_use()
        return {"tokens": [figures(row, used.get(row.name, 0)) for row in reader.tokens()]}


async def create_token(call: Call) -> Any:
    """Create tokens that all runs share. Needs batch:CreateConsumableResource, too."""
    given = asked(call, NewToken)
    target = call.target(call.service.account.arn(KIND, given.name), context_of_request(given.tags))
    call.allow(target)
    call.also("batch:CreateConsumableResource", target)
    if given.tags:
        call.also("batch:TagResource", target)
    return await asked_of_engine(call, "create_token", given.model_dump())


async def update_token(call: Call) -> Any:
    """Change how many tokens there are; jobs that hold some go on. Needs batch:UpdateConsumableResource, too."""
    given = asked(call, TokenUpdate)
    name = allowed(call, "batch:UpdateConsumableResource")
    return await asked_of_engine(call, "update_token", {"name": name, **given.model_dump()})


async def delete_token(call: Call) -> Any:
    """Delete tokens that no open job needs. Needs batch:DeleteConsumableResource, too."""
    asked(call, Deletion)
    name = allowed(call, "batch:DeleteConsumableResource")
    value = await asked_of_engine(call, "delete_token", {"name": name})
    await call.service.engine.ask(lambda ticket: PutTags(ticket, KIND, name, None))  # another of that name has its own
    return value


def allowed(call: Call, action: str) -> str:
    """The name. Raises AccessDenied."""
    name = variable(call, "token")
    held = call.service.state.tokens.held.get(name)
    tags = call.tags_of(KIND, name, lambda: tags_made_with(held))
    target = call.target(call.service.account.arn(KIND, name), tags)
    call.allow(target)
    call.also(action, target)
    return name
