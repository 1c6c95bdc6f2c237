"""Queues, environments and schedules of the native API, as the command line's `--json` has them."""

from __future__ import annotations

from typing import Any

from flowbatch.core import place_views
from flowbatch.core.snapshot import overview, snapshot
from flowbatch.http.calls import Call
from flowbatch.http.native.routes import NotFound, variable
from flowbatch.model.ids import Millis


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
