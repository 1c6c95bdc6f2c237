"""What is known of an attempt between its launch, or its being found, and its container's removal."""

from __future__ import annotations

import anyio
from msgspec import Struct, field

from flowbatch.backends.docker.ends import Look
from flowbatch.backends.docker.logs import AttemptLog
from flowbatch.model.ids import AttemptKey, Millis
from flowbatch.model.stimuli import Exited, LaunchFailed
from flowbatch.ports import LaunchOrder


class Attempt(Struct, eq=False):
    """Acted upon by one task at a time (`busy`); others only leave wishes in it and wake that task."""

    key: AttemptKey
    name: str
    log: AttemptLog
    order: LaunchOrder | None = None  # until it has begun: afterwards its secrets are nobody's business
    id: str = ""  # the container's, once one exists
    started_at: Millis | None = None
    stop_signal: str = "SIGTERM"
    address: str = ""
    pid: int = 0  # of its first process, as the Engine's machine counts
    image: str = ""  # the very one that its container was made from
    fact: LaunchFailed | Exited | None = None  # how it ended, as told
    told: bool = False  # that it has started
    # wishes
    look: bool = False  # it may have ended
    grace_ms: int | None = None  # it shall stop
    forget: bool = False
    # what is or was done
    pulling: str | None = None  # the image
    sent: bool = False  # a create was sent, so that a container may exist
    stopped: bool = False  # we asked it to end
    foul: str | None = None  # why it had to be killed as soon as it ran
    asked: bool = False  # politely, so that it is not asked again
    kill_at: float | None = None
    looked_at: float = 0.0
    oom_event: bool = False
    starts: int = 0  # start events seen; a second one is a defect
    log_done: bool = False
    later: bool = False  # its removal failed: the next round tries again
    revived: bool = False  # somebody has started it again after its end: it was killed for that
    busy: bool = False
    wake: anyio.Event = field(default_factory=anyio.Event)
    waiting: anyio.CancelScope | None = None  # a wait that a stop ends

    @property
    def running(self) -> bool:
        return self.started_at is not None and self.fact is None

    def take(self, look: Look, now: float) -> None:
        self.id = look.id
        self.started_at = look.started_at
        self.stop_signal = look.stop_signal
        self.address = look.address
        self.pid = look.pid
        self.looked_at = now

    def nudge(self) -> None:
        self.wake.set()
        self.wake = anyio.Event()
