"""The event log of a server as it grows: one stream, taken up again where it broke off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from flowbatch.errors import BackendUnavailable
from flowbatch.http.native.shapes import EventSaid
from flowbatch.model.status import RunStatus
from flowbatch.remote.channel import Channel
from flowbatch.store.results import Event, RunView

PATIENCE_S: Final = 60.0  # with a server that has gone away
PAUSE_S: Final = 0.5
ENDS: Final = ("run.succeeded", "run.failed")


def told(channel: Channel, after: int, run: RunView | None) -> Iterator[Event]:
    """Never ends without a run; with one, once that has ended. Raises BackendUnavailable where the server stays away."""
    if run is not None and run.status is not RunStatus.RUNNING:
        return
    lost = 0.0
    while True:
        try:
            for kind, data in channel.stream("events", since=after, run=None if run is None else run.id, follow=True):
                lost = 0.0
                if kind == "message":
                    said = EventSaid.model_validate(data)
                    after = said.seq
                    yield said.view()
                    if run is not None and said.run == run.id and said.kind in ENDS:
                        return
        except BackendUnavailable:
            if lost >= PATIENCE_S:
                raise
        lost += PAUSE_S
        time.sleep(PAUSE_S)
