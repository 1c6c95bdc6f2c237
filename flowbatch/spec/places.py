"""Where jobs may run: environments and queues as the engine knows them, paths, and what can never fit."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flowbatch.model.container import Cpu
from flowbatch.model.jobspec import Environment, JobSpec, Queue
from flowbatch.model.resources import Resources, memory_text, vcpus_text
from flowbatch.spec.findings import Findings
from flowbatch.spec.queue_schema import QueueModel
from flowbatch.spec.queues import judge_queue, queue_of
from flowbatch.spec.schema import EnvironmentModel

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of the workflow: its folder, its user's home, and whether jobs may run as others."""

    folder: str
    home: str
    root: bool = False

    def absolute(self, path: str) -> str:
        """Of a path as the file has it: below the workflow's folder, or from `~`."""
        if path == "~" or path.startswith("~/"):
            path = posixpath.join(self.home, path[2:])
        return posixpath.normpath(posixpath.join(self.folder, path))


def environment_of(name: str, model: EnvironmentModel, machine: Resources) -> Environment:
    """What the model leaves out is the machine's."""
    vcpus_milli = model.vcpus if model.vcpus is not None else model.max_vcpus
    return Environment(
        name=name,
        backend=model.backend,
        capacity=Resources(
            machine.vcpus_milli if vcpus_milli is None else vcpus_milli,
            machine.memory_mib if model.memory is None else model.memory,
            model.gpus or 0,
        ),
        enabled=model.state is not False,
        title=name,
        cpu=Cpu(model.cpu),
    )


def judge_places(
    environments: Mapping[str, EnvironmentModel],
    queues: Mapping[str, QueueModel],
    known: Iterable[str],
    findings: Findings,
) -> None:
    """`known` are the names of environments that a queue may give. Serves settings too."""
    names = list(known)
    for name, environment in environments.items():
        if environment.vcpus is not None and environment.max_vcpus is not None:
            findings.problem(
                ("environments", name, "max_vcpus"), "says the same as 'vcpus'; give one of them", at_key=True
            )
    for name, queue in queues.items():
        judge_queue(name, queue, names, findings)


def machine_of(available: Iterable[Environment]) -> Resources:
    """What the machine has, as the engine's `default` environment (or its first) says."""
    environments = list(available)
    for environment in environments:
        if environment.name == DEFAULT:
            return environment.capacity
    return environments[0].capacity if environments else Resources(1000, 0, 0)


@dataclass(frozen=True, slots=True)
class Places:
    """The environments and queues of a run, and which of them are the file's own."""

    environments: dict[str, Environment]
    queues: dict[str, Queue]
    own_environments: tuple[Environment, ...] = ()
    own_queues: tuple[Queue, ...] = ()

    @classmethod
    def of(
        cls,
        environments: Mapping[str, EnvironmentModel],
        queues: Mapping[str, QueueModel],
        available: tuple[Environment, ...],
        engine_queues: tuple[Queue, ...],
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
            over = names if own or DEFAULT not in names else [DEFAULT]
            named.append(Queue(DEFAULT, environments=tuple(over), title=DEFAULT))
        own_queues = tuple(named) if environments or queues else ()
        return cls({item.name: item for item in usable}, {queue.name: queue for queue in named}, own, own_queues)

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
        for environment in able:
            if spec.resources.fits(environment.capacity):
                return None
        return _shortage(spec.resources, able, queue.name)


def _shortage(need: Resources, environments: list[Environment], queue: str) -> str:
    largest = Resources(*(max(environment.capacity[at] for environment in environments) for at in range(3)))
    short = []
    if need.vcpus_milli > largest.vcpus_milli:
        short.append((f"{vcpus_text(need.vcpus_milli)} vCPU", f"{vcpus_text(largest.vcpus_milli)} vCPU"))
    if need.memory_mib > largest.memory_mib:
        short.append((memory_text(need.memory_mib), memory_text(largest.memory_mib)))
    if need.gpus > largest.gpus:
        short.append((f"{need.gpus} GPU", f"{largest.gpus} GPU"))
    if not short:
        shapes = "; ".join(f"{environment.name} has {environment.capacity}" for environment in environments)
        return f"needs {need} at once, and no environment of queue {queue} has all of it ({shapes})"
    return "; ".join(
        f"needs {wanted}, the largest environment of queue {queue} has {available}" for wanted, available in short
    )
