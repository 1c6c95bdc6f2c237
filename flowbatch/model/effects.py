"""What the core asks of the world, performed only after the turn that decided it is durable."""

from __future__ import annotations

from msgspec import Struct

from flowbatch.model.container import Cpu
from flowbatch.model.ending import Halt
from flowbatch.model.ids import AttemptKey
from flowbatch.model.jobspec import JobSpec, Part, RunFacts
from flowbatch.model.resources import Resources


class Place(Struct, frozen=True):
    """Of a member among the others of its attempt."""

    part: Part  # what it runs
    label: str  # as people name it: `3`, `sidecar`, `3.sidecar`
    node: int
    nodes: int | None = None  # of a multi-node parallel job; None: one task of several containers
    main: int = 0
    address: str = ""  # its node's own, where the backend gives none
    main_address: str = ""  # empty on the main node
    holder: AttemptKey | None = None  # the member whose network it shares
    holds: bool = False  # it is that member itself
    share_ipc: bool = False
    share_pid: bool = False


class Launch(Struct, frozen=True):
    """Start this attempt. Repeatable: the attempt's id makes it one start."""

    key: AttemptKey
    backend: str
    environment: str  # its title: AWS_BATCH_CE_NAME
    queue: str  # likewise: AWS_BATCH_JQ_NAME
    spec: JobSpec
    resources: Resources  # of this attempt: memory may have grown
    run: RunFacts | None
    run_status: str = ""  # for `${{ run.status }}` in `finally`
    cpu: Cpu = Cpu.SHARES  # of the environment
    place: Place | None = None  # of a member

    @property
    def timeout_ms(self) -> int | None:
        """What the backend itself may enforce. The clock of a job of several members runs from its main node's start: a
        main node that is one process has it too, the others are stopped with that one."""
        place = self.place
        if place is None or (place.node == place.main and not place.part.name and not place.holds):
            return self.spec.timeout_ms
        return None

    @property
    def program(self) -> JobSpec:
        """What is run: of a member its part's spec, else the job's."""
        return self.spec if self.place is None else self.place.part.spec


class Stop(Struct, frozen=True):
    key: AttemptKey
    backend: str
    grace_ms: int
    why: Halt


class Forget(Struct, frozen=True):
    """The end is durable: the backend may drop what it keeps."""

    key: AttemptKey
    backend: str


class Answer(Struct, frozen=True):
    """To a command. `error` is a sentence, or None where it was done; `value` is JSON-able."""

    ticket: int
    error: str | None = None
    value: object = None


Effect = Launch | Stop | Forget | Answer
