"""Queues, environments, schedules and deliveries of the native API, as the command line's `--json` has them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

from pydantic import Field

from flowbatch.clock import WallClock
from flowbatch.core import place_views
from flowbatch.core.snapshot import overview, snapshot
from flowbatch.errors import InputError
from flowbatch.http.calls import Call
from flowbatch.http.failures import ClientFailure
from flowbatch.http.native.changing import asked_of_engine
from flowbatch.http.native.routes import NotFound, Query, asked, variable
from flowbatch.http.operations.shapes import Natural, Shape
from flowbatch.model.event_ids import seq_of
from flowbatch.model.ids import Millis
from flowbatch.spec.scheduled import scheduled
from flowbatch.store.deliveries import document
from flowbatch.store.outbox import Outbox, SinkView


async def list_queues(call: Call) -> Any:
    """The job queues, the highest priority first."""
    call.allow()
    return {"queues": overview(call.service.state)}


async def get_queue(call: Call) -> Any:
    """A queue: its policy, who uses it, and the first hundred jobs in the order they will be served."""
    name = variable(call, "queue")
    call.allow(call.target(call.service.account.arn("job-queue", name)))
    queue = call.service.state.queues.get(name)
    if queue is None:
        raise NotFound(f"There is no queue {name[:128]}")
    return snapshot(call.service.state, queue, Millis(call.service.now()))


async def list_environments(call: Call) -> Any:
    """The compute environments with what runs there, and the host's guard."""
    call.allow()
    state = call.service.state
    return {"host": place_views.host_view(state), "environments": place_views.overview(state)}


async def list_schedules(call: Call) -> Any:
    """Which workflows of the watched folders run when, the next one first."""
    call.allow()
    return {"schedules": scheduled(call.service.reader.shelves(), WallClock().now())}


# --- deliveries


class Deliveries(Query):
    sink: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        None, description="Of this receiver alone."
    )
    failed: bool = Field(False, description="What was refused, instead of what was delivered.")
    limit: Annotated[int, Field(ge=1, le=1000)] = 20


class Redelivery(Shape):
    """One of: events from `first` to `last`, an `event`, or what was given up (`dead`)."""

    sink: Annotated[str, Field(min_length=1, max_length=512)]
    first: Natural | None = None
    last: Natural | None = None
    event: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None, description="One, by the id that receivers see."
    )
    dead: bool = False


class Enabling(Shape):
    """No more than the receiver, which is in the path."""


async def list_deliveries(call: Call) -> Any:
    """How far each receiver of events is, and its newest deliveries or what it refused."""
    call.allow()
    given = asked(call, Deliveries)
    with Outbox(call.service.reader.path) as outbox:
        views = outbox.sinks() if given.sink is None else [sink_of(outbox, given.sink)]
        return document(outbox, views, given.limit, failed=given.failed)


async def redeliver(call: Call) -> Any:
    """Deliver events again to one receiver, or what was given up for it."""
    call.allow()
    given = asked(call, Redelivery)
    with Outbox(call.service.reader.path) as outbox:
        view, end = sink_of(outbox, given.sink), outbox.last_seq()
        first, last = given.first, min(given.last or end, end)
        if given.event is not None and first is None:
            try:
                first = last = seq_of(outbox.instance(), given.event)
            except ValueError as error:
                raise ClientFailure(f"event: {error}") from None
        if first is not None and not given.dead:
            try:
                first, last = outbox.kept(first, last)
            except InputError as error:
                raise ClientFailure(f"{str(error)[:1].upper()}{str(error)[1:]}") from None
        dead = 0
        if given.dead:
            try:
                dead = len(outbox.dead_of(view))
            except InputError as error:
                raise ClientFailure(str(error)) from None
    if given.dead == (first is not None):
        raise ClientFailure("One of `dead`, `event` and `first` is needed, the last with or without `last`")
    if given.dead:
        await asked_of_engine(call, "revive_dead", {"key": view.key})
        return {"sink": view.key, "events": dead}
    assert first is not None
    key = f"{view.key.partition('~')[0]}~{uuid4().hex[:6]}"
    await asked_of_engine(call, "redeliver", {"key": key, "source": view.key, "first": first, "last": last})
    return {"sink": view.key, "events": last - first + 1}


async def enable_sink(call: Call) -> Any:
    """Switch a receiver on again after it was disabled; it goes on where it stood."""
    call.allow()
    asked(call, Enabling)
    with Outbox(call.service.reader.path) as outbox:
        view = sink_of(outbox, variable(call, "sink"))
    await asked_of_engine(call, "enable_sink", {"key": view.key})
    return {"sink": view.key, "enabled": True}


async def test_sink(call: Call) -> Any:
    """Send a receiver of the settings a test message at once, whatever its filter wants."""
    call.allow()
    asked(call, Enabling)
    name, known = variable(call, "sink"), call.service.receivers()
    found = next((each for each in known if each.name == name), None)
    if found is None or call.service.try_sink is None:
        names = ", ".join(each.name for each in known) or "none"
        raise NotFound(f"The settings have no receiver {name[:128]!r}; there are: {names}")
    answer = await call.service.try_sink(found)
    return {
        "sink": found.name, "to": found.target, "delivered": answer.outcome.name == "DELIVERED",
        "status": answer.status or None, "error": answer.error or None, "latency_ms": answer.latency_ms,
    }  # fmt: skip


def sink_of(outbox: Outbox, name: str) -> SinkView:
    """Raises NotFound."""
    try:
        return outbox.find(name)
    except InputError as error:
        raise NotFound(str(error)) from None
