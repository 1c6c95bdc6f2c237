"""Where jobs may run: environments and queues as the engine knows them, paths, and what can never fit."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from msgspec import Struct

from flowbatch.model.jobspec import Environment, JobSpec, Queue
from flowbatch.model.resources import Resources, memory_text, smallest, vcpus_text
from flowbatch.spec.environment_schema import EnvironmentModel
from flowbatch.spec.environments import environment_of, judge_environment
from flowbatch.spec.findings import Findings
from flowbatch.spec.queue_schema import QueueModel
from flowbatch.spec.queues import judge_queue, queue_of

DEFAULT = "default"


class Surroundings(Struct, frozen=True):
    """Of the workflow: its folder, its user's home, and whether jobs may run as others."""

    folder: str
    home: str
    root: bool = False

    def absolute(self, path: str) -> str:
        """Of a path as the file has it: below the workflow's folder, or from `~`."""
        if path == "~" or path.startswith("~/"):
            path = posixpath.join(self.home, path[2:])
        return posixpath.normpath(posixpath.join(self.folder, path))


def judge_places(
    environments: Mapping[str, EnvironmentModel],
    queues: Mapping[str, QueueModel],
    known: Iterable[str],
    findings: Findings,
    *,
    of_settings: bool = False,
) -> None:
    """`known` are the names of environments that a queue may give."""
    names = list(known)
    for name, environment in environments.items():
        judge_environment(name, environment, findings, of_settings=of_settings)
    for name, queue in queues.items():
        judge_queue(name, queue, names, findings)


def machine_of(available: Iterable[Environment]) -> Resources:
    """What the machine has, as the engine's `default` environment (or its first) says."""
    environments = list(available)
    for environment in environments:
        if environment.name == DEFAULT:
            return environment.total()
    return environments[0].total() if environments else Resources(1000, 0, 0)


class Places(Struct, frozen=True):
    """The environments and queues of a run, and which of them are the file's own."""

    environments: dict[str, Environment]
    queues: dict[str, Queue]
    own_environments: tuple[Environment, ...] = ()
    own_queues: tuple[Queue, ...] = ()
    host: Resources | None = None  # where the settings name it, no task can have more

    @classmethod
    def of(
        cls,
        environments: Mapping[str, EnvironmentModel],
        queues: Mapping[str, QueueModel],
        available: tuple[Environment, ...],
        engine_queues: tuple[Queue, ...],
        host: Resources | None = None,
    ) -> Places:
        machine = machine_of(available)
        own = tuple(environment_of(name, model, machine) for name, model in environments.items())
        usable = own or available
        names = [environment.name for environment in usable]
        if environments or queues:
            named = [queue_of(name, model, names) for name, model in queues.items()]
        else:
            named = list(engine_queues)
        if all(queue.name != DEFAULT for queue in named):
            steady = [environment.name for environment in usable if not environment.spot]  # Spot is asked for by name
            over = steady or names if own or DEFAULT not in names else [DEFAULT]
            named.append(Queue(DEFAULT, environments=tuple(over), title=DEFAULT))
        own_queues = tuple(named) if environments or queues else ()
        return cls({item.name: item for item in usable}, {queue.name: queue for queue in named}, own, own_queues, host)

    def misfit(self, spec: JobSpec) -> str | None:
        """Why no environment of its queue can ever hold the job; None where one can."""
        queue = self.queues[spec.queue]
        environments = [self.environments[name] for name in queue.environments if name in self.environments]
        able = [environment for environment in environments if environment.backend_of(spec) is not None]
        if not able and spec.nodes is not None and any(each.spot or not each.managed for each in environments):
            kinds = ", ".join(
                f"{each.name} is {'Spot capacity' if each.spot else 'UNMANAGED'}" for each in environments
            )
            return f"a multi-node job needs a MANAGED environment that is not Spot, and queue {queue.name} has none ({kinds})"
        if not able:
            what = "processes" if spec.kind == "process" else "containers"
            return f"no environment of queue {queue.name} runs {what}"
        rooms = {place.name: [smallest(room, self.host or room) for room in place.rooms()] for place in able}
        if any(spec.resources.fits(room) for each in rooms.values() for room in each):
            return None
        return _shortage(spec.resources, rooms, queue.name)


def _shortage(need: Resources, rooms: dict[str, list[Resources]], queue: str) -> str:
    """`rooms`: environment → the most that one task may have there, of each of its nodes."""
    if not any(rooms.values()):
        return f"{' and '.join(rooms)} of queue {queue} {'has' if len(rooms) == 1 else 'have'} no nodes; register some"
    largest = Resources(*(max(room[at] for each in rooms.values() for room in each) for at in range(3)))
    short = []
    if need.vcpus_milli > largest.vcpus_milli:
        short.append((f"{vcpus_text(need.vcpus_milli)} vCPU", f"{vcpus_text(largest.vcpus_milli)} vCPU"))
    if need.memory_mib > largest.memory_mib:
        short.append((memory_text(need.memory_mib), memory_text(largest.memory_mib)))
    if need.gpus > largest.gpus:
        short.append((f"{need.gpus} GPU", f"{largest.gpus} GPU"))
    if not short:
        shapes = "; ".join(f"{name} has {' and '.join(map(str, each))}" for name, each in rooms.items())
        return f"needs {need} at once, and no environment of queue {queue} has all of it ({shapes})"
    return "; ".join(
        f"needs {wanted}, the largest environment of queue {queue} has {available}" for wanted, available in short
    )
