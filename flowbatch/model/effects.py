"""What the core asks of the world, performed only after the turn that decided it is durable."""

from __future__ import annotations

from flowbatch.model.container import Cpu
from flowbatch.model.ending import Halt
from flowbatch.model.ids import AttemptKey
from flowbatch.model.jobspec import JobSpec, RunFacts
from flowbatch.model.record import record
from flowbatch.model.resources import Resources


@record
class Launch:
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


@record
class Stop:
    key: AttemptKey
    backend: str
    grace_ms: int
    why: Halt


@record
class Forget:
    """The end is durable: the backend may drop what it keeps."""

    key: AttemptKey
    backend: str


@record
class Answer:
    """To a command. `error` is a sentence, or None where it was done; `value` is JSON-able."""

    ticket: int
    error: str | None = None
    value: object = None


Effect = Launch | Stop | Forget | Answer
