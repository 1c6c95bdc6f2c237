"""The verbs of environments, nodes, queues and scheduling policies: arguments as JSON has them, made into commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec.structs import replace

from flowbatch.core import place_views, scheduling_policies
from flowbatch.core.state import State
from flowbatch.errors import InputError
from flowbatch.model.container import Cpu
from flowbatch.model.place_commands import (
    AddNode,
    CreateEnvironment,
    CreateQueue,
    CreateSchedulingPolicy,
    DeleteEnvironment,
    DeleteQueue,
    DeleteSchedulingPolicy,
    DrainNode,
    EnvironmentChange,
    QueueChange,
    RemoveNode,
    UpdateEnvironment,
    UpdateQueue,
    UpdateSchedulingPolicy,
)
from flowbatch.model.places import HERE, Node, is_of_run
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Stimulus
from flowbatch.spec.endpoints import endpoint_of

Arguments = Mapping[str, Any]
Ask = Callable[[Callable[[int], Stimulus]], Awaitable[object]]

NUMBERS = (
    "min_vcpus_milli", "max_vcpus_milli", "desired_vcpus_milli", "scale_down_ms", "memory_mib", "gpus", "notice_ms",
)  # fmt: skip


class PlaceVerbs:
    def __init__(self, state: State, ask: Ask) -> None:
        self._state = state
        self._ask = ask
        self.table: dict[str, Callable[[Arguments], Awaitable[object]]] = {
            "environments": self.environments,
            "create_environment": self.create_environment,
            "update_environment": self.update_environment,
            "delete_environment": self.delete_environment,
            "add_node": self.add_node,
            "drain_node": self.drain_node,
            "remove_node": self.remove_node,
            "create_queue": self.create_queue,
            "update_queue": self.update_queue,
            "delete_queue": self.delete_queue,
            "scheduling_policies": self.scheduling_policies,
            "create_scheduling_policy": self.create_scheduling_policy,
            "update_scheduling_policy": self.update_scheduling_policy,
            "delete_scheduling_policy": self.delete_scheduling_policy,
        }

    async def environments(self, _: Arguments) -> object:
        return {"host": place_views.host_view(self._state), "environments": place_views.overview(self._state)}

    async def create_environment(self, arguments: Arguments) -> object:
        """`said`: what the settings would say of it."""
        from flowbatch.spec.created import created_environment

        machine = self._state.host.limit or Resources(1000)
        made = created_environment(text(arguments, "environment"), said(arguments), machine)
        return await self._ask(lambda ticket: CreateEnvironment(ticket, made))

    async def update_environment(self, arguments: Arguments) -> object:
        name, change = text(arguments, "environment"), change_of(arguments)
        minutes = number(arguments, "job_timeout_minutes")
        policy = UpdateEnvironment(0, name, change).job_timeout_minutes if minutes is None else minutes
        terminate = arguments.get("terminate_jobs") is True
        return await self._ask(lambda ticket: UpdateEnvironment(ticket, name, change, terminate, policy))

    async def delete_environment(self, arguments: Arguments) -> object:
        name = text(arguments, "environment")
        return await self._ask(lambda ticket: DeleteEnvironment(ticket, name))

    async def add_node(self, arguments: Arguments) -> object:
        name = text(arguments, "environment")
        sizes = (number(arguments, key) or 0 for key in ("vcpus_milli", "memory_mib", "gpus"))
        try:
            endpoint = endpoint_of(arguments.get("endpoint") or HERE)
        except ValueError as error:
            raise InputError(f"node {text(arguments, 'node')}: endpoint: {error}") from None
        node = Node(text(arguments, "node"), Resources(*sizes), endpoint)
        if node.capacity.vcpus_milli < 1:
            raise InputError(f"node {node.name}: vcpus: more than 0 are needed")
        return await self._ask(lambda ticket: AddNode(ticket, name, node))

    async def drain_node(self, arguments: Arguments) -> object:
        name, node = text(arguments, "environment"), text(arguments, "node")
        return await self._ask(lambda ticket: DrainNode(ticket, name, node))

    async def remove_node(self, arguments: Arguments) -> object:
        name, node = text(arguments, "environment"), text(arguments, "node")
        return await self._ask(lambda ticket: RemoveNode(ticket, name, node))

    async def create_queue(self, arguments: Arguments) -> object:
        """`said`: what the settings would say of it; `scheduling_policy`: the stored one that divides it."""
        from flowbatch.spec.created import created_queue

        known = [name for name in self._state.environments if not is_of_run(name)]
        made = created_queue(text(arguments, "queue"), said(arguments), known)
        policy = arguments.get("scheduling_policy")
        if policy is not None:
            made = replace(made, policy_name=text(arguments, "scheduling_policy"))
        return await self._ask(lambda ticket: CreateQueue(ticket, made))

    async def update_queue(self, arguments: Arguments) -> object:
        name, places = text(arguments, "queue"), arguments.get("environments")
        change = QueueChange(
            enabled=switch(arguments, "enabled"),
            priority=number(arguments, "priority"),
            environments=None if places is None else tuple(map(str, places)),
            max_running=number(arguments, "max_running"),
            policy_name=None if arguments.get("scheduling_policy") is None else text(arguments, "scheduling_policy"),
        )
        return await self._ask(lambda ticket: UpdateQueue(ticket, name, change))

    async def delete_queue(self, arguments: Arguments) -> object:
        name = text(arguments, "queue")
        return await self._ask(lambda ticket: DeleteQueue(ticket, name))

    async def scheduling_policies(self, _: Arguments) -> object:
        return scheduling_policies.overview(self._state)

    async def create_scheduling_policy(self, arguments: Arguments) -> object:
        """`said`: what `policy` of a queue would say in the settings."""
        from flowbatch.spec.created import created_policy

        name = text(arguments, "scheduling_policy")
        policy = created_policy(name, said(arguments))
        return await self._ask(lambda ticket: CreateSchedulingPolicy(ticket, name, policy))

    async def update_scheduling_policy(self, arguments: Arguments) -> object:
        """As a whole, as AWS does: what is not `said` is as of a new one."""
        from flowbatch.spec.created import created_policy

        name = text(arguments, "scheduling_policy")
        policy = created_policy(name, said(arguments))
        return await self._ask(lambda ticket: UpdateSchedulingPolicy(ticket, name, policy))

    async def delete_scheduling_policy(self, arguments: Arguments) -> object:
        name = text(arguments, "scheduling_policy")
        return await self._ask(lambda ticket: DeleteSchedulingPolicy(ticket, name))


def change_of(arguments: Arguments) -> EnvironmentChange:
    cpu, backend = arguments.get("cpu"), arguments.get("backend")
    if cpu is not None and cpu not in set(Cpu):
        raise InputError(f"cpu: {' or '.join(Cpu)} is needed, not {cpu!r}")
    if backend is not None and backend not in ("local", "process", "docker"):
        raise InputError(f"backend: local, process or docker is needed, not {backend!r}")
    return EnvironmentChange(
        enabled=switch(arguments, "enabled"),
        spot=switch(arguments, "spot"),
        aws=None,
        backend=backend,
        cpu=None if cpu is None else Cpu(cpu),
        **{key: number(arguments, key) for key in NUMBERS},
    )


def text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise InputError(f"{name!r} is missing")
    return value


def said(arguments: Arguments) -> Mapping[str, Any]:
    value = arguments.get("said")
    if isinstance(value, Mapping):
        return value
    raise InputError("'said' is missing")


def number(arguments: Arguments, name: str) -> int | None:
    """Whole and not below 0, or None where it is not given."""
    value = arguments.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise InputError(f"{name}: a whole number from 0 is needed, not {value!r}")


def switch(arguments: Arguments, name: str) -> bool | None:
    value = arguments.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise InputError(f"{name}: true or false is needed, not {value!r}")
