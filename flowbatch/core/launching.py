"""What is launched: an attempt of a job in a place, with all that its orders need to know of both."""

from __future__ import annotations

from flowbatch.core.queues import QueueState
from flowbatch.core.runs import main_status
from flowbatch.core.state import EnvironmentState, Job, Live
from flowbatch.model.effects import Launch, Place
from flowbatch.model.ids import AttemptKey
from flowbatch.model.jobspec import Stage
from flowbatch.model.resources import Resources


class LaunchMaker:
    """What the launches of one job in one place have in common."""

    __slots__ = ("backend", "cpu", "environment", "facts", "queue", "run_status", "spec")

    def __init__(self, job: Job, queue: QueueState, environment: EnvironmentState, backend: str) -> None:
        self.backend = backend
        self.environment = environment.spec.title or environment.spec.name
        self.cpu = environment.spec.cpu
        self.queue = queue.spec.title or queue.spec.name
        self.spec = job.spec
        self.facts = None if job.run is None else job.run.facts
        self.run_status = main_status(job.run) if job.run is not None and job.stage is Stage.FINALLY else ""

    def launch(self, key: AttemptKey, resources: Resources, place: Place | None = None) -> Launch:
        return Launch(
            key, self.backend, self.environment, self.queue, self.spec, resources, self.facts, self.run_status, self.cpu,
            place,
        )  # fmt: skip


def maker_of(live: Live) -> LaunchMaker:
    return LaunchMaker(live.job, live.queue, live.environment, live.backend)


def launch_again(live: Live) -> Launch:
    return maker_of(live).launch(live.key, live.resources)
