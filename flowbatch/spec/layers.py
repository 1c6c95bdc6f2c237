"""`defaults`, definitions and jobs in one form, and how one is merged under another.

A layer settles first: AWS's spellings become the short ones, and what is said twice in one mapping is refused. Then
`defaults` goes under the definition and that under the job; the upper one wins, its retry as a whole, its environment,
parameters, secrets and tags name by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from flowbatch.model.jobspec import Action, FakeScript, RetryPolicy, Rule
from flowbatch.spec import containers
from flowbatch.spec.container_schema import OverridesModel, PropertiesModel
from flowbatch.spec.fakes import fake_script
from flowbatch.spec.findings import Findings
from flowbatch.spec.positions import Path
from flowbatch.spec.program_schema import ProgramModel
from flowbatch.spec.schema import LayerModel
from flowbatch.spec.schema_parts import ArrayModel, NeedModel, PairModel, RetryModel, RuleModel
from flowbatch.spec.token_schema import AwsDemandsModel

if TYPE_CHECKING:
    from flowbatch.spec.member_schema import EcsOverridesModel, NodeOverridesModel
    from flowbatch.spec.members import NodesLayer, TaskLayer

_ALIASES: Final = {name: info.alias or name for name, info in LayerModel.model_fields.items()}
_CONTAINERS: Final = ("container_overrides", "container_properties")
_SAME: Final = (
    ("uses", "job_definition"),
    ("queue", "job_queue"),
    ("array", "array_properties"),
    ("needs", "depends_on"),
    ("env", "environment"),
    ("attempts", "retry", "retry_strategy"),
    ("share", "share_identifier"),
    ("priority", "scheduling_priority", "scheduling_priority_override"),
    ("stop_grace", "stop_timeout"),
    ("tokens", "consumable_resources", "consumable_resources_override"),
    _CONTAINERS,
)  # fmt: skip
_ALTERNATIVES: Final = frozenset(name for group in _SAME for name in group[1:]) | {*_CONTAINERS}
_INSIDE: Final = {  # what AWS's containers hold, by the short key it is the same as
    "command": ("command", "script"),
    "environment": ("env", "environment"),
    "vcpus": ("vcpus",),
    "memory": ("memory",),
    "secrets": ("secrets",),
    "user": ("user",),
}
_RESOURCES: Final = {"VCPU": "vcpus", "MEMORY": "memory", "GPU": "gpus"}


class Layer(Struct):
    """None (or empty) is: not said here."""

    origins: tuple[Path, ...]  # where it was written; of a merged one, the uppermost first
    uses: str | None = None
    queue: str | None = None
    array: ArrayModel | None = None
    needs: list[NeedModel] | None = None
    command: tuple[str, ...] | None = None
    vcpus_milli: int | None = None
    memory_mib: int | None = None
    gpus: int | None = None
    env: dict[str, str] | None = None
    secrets: dict[str, str] | None = None
    parameters: dict[str, str] | None = None
    tags: dict[str, str] | None = None  # the job's
    definition_tags: dict[str, str] | None = None  # its definition's, which no job has (aws-batch.md §6.3)
    user: str | None = None
    workdir: str | None = None
    retry: RetryPolicy | None = None
    lost_free: int | None = None
    timeout_ms: int | None = None
    stop_grace_ms: int | None = None
    share: str | None = None
    priority: int | None = None
    chunk: int | None = None
    tokens: dict[str, int] | None = None  # as AWS has it, the upper one replaces the lower one whole
    fake: FakeScript | None = None
    container: containers.ContainerLayer | None = None
    nodes: NodesLayer | None = None
    task: TaskLayer | None = None
    node_overrides: NodeOverridesModel | None = None
    ecs_overrides: EcsOverridesModel | None = None

    def paths(self, *keys: str) -> list[Path]:
        """Where a value may have been written, the most likely first."""
        return [(*origin, key) for origin in self.origins for key in keys]


_MERGED: Final = (
    "uses", "queue", "array", "needs", "command", "vcpus_milli", "memory_mib", "gpus", "user", "workdir", "retry",
    "lost_free", "timeout_ms", "stop_grace_ms", "share", "priority", "chunk", "fake", "definition_tags", "tokens",
    "nodes", "task", "node_overrides", "ecs_overrides",
)  # fmt: skip
_MERGED_BY_NAME: Final = ("env", "secrets", "parameters", "tags")


def merged(upper: Layer, lower: Layer | None) -> Layer:
    """A new layer; neither argument is changed."""
    if lower is None:
        return upper
    both = Layer(upper.origins + lower.origins)
    for name in _MERGED:
        value = getattr(upper, name)
        setattr(both, name, getattr(lower, name) if value is None else value)
    for name in _MERGED_BY_NAME:
        over, under = getattr(upper, name), getattr(lower, name)
        setattr(both, name, {**under, **over} if over and under else over or under)
    both.container = containers.merged(upper.container, lower.container)
    return both


def settle(model: LayerModel, origin: Path, findings: Findings) -> Layer:
    """But for its nodes and containers, which `members.settle` adds."""
    layer = settle_program(model, origin, findings)
    settle_job(model, layer, origin, findings)
    return layer


def settle_program(model: ProgramModel, origin: Path, findings: Findings) -> Layer:
    """Of what a job, a node group or a container runs."""
    given = model.model_fields_set
    layer = Layer(
        origins=(origin,),
        vcpus_milli=model.vcpus,
        memory_mib=model.memory,
        gpus=model.gpus,
        env=model.env,
        secrets=model.secrets,
        user=model.user,
        workdir=model.workdir,
        stop_grace_ms=model.stop_grace,
    )
    if model.command is not None:
        layer.command = tuple(model.command)
    if model.script is not None:
        layer.command = ("/bin/sh", "-ec", model.script)
        if model.command is not None:
            findings.problem((*origin, "script"), "says the same as 'command'; give one of them", at_key=True)
    if model.fake is not None:
        layer.fake = fake_script(model.fake, (*origin, "x-fake"), findings)
    if not given.isdisjoint(containers.KEYS):
        layer.container = containers.settle(model, origin, findings)
    if not given.isdisjoint(_ALTERNATIVES):
        _alternatives(model, layer, given, origin, findings)
    if model.resource_requirements:
        _resources(model, layer, origin, findings)
    return layer


def settle_job(model: LayerModel, layer: Layer, origin: Path, findings: Findings) -> None:
    """What a whole job has beside its program."""
    layer.uses = model.uses if model.uses is not None else model.job_definition
    layer.queue = model.queue if model.queue is not None else model.job_queue
    layer.needs = model.needs if model.needs is not None else model.depends_on
    layer.array = model.array
    layer.parameters, layer.tags = model.parameters, model.tags
    layer.timeout_ms, layer.chunk = model.timeout, model.chunk
    priorities = (model.priority, model.scheduling_priority, model.scheduling_priority_override)
    layer.priority = next((each for each in priorities if each is not None), None)
    layer.share = model.share if model.share is not None else model.share_identifier
    if model.array_properties is not None and layer.array is None:
        layer.array = ArrayModel(size=model.array_properties.size)
    if model.attempts is not None:
        layer.retry = RetryPolicy(model.attempts)
    elif model.retry is not None:
        layer.retry = _policy(model.retry, (*origin, "retry"), findings)
    elif model.retry_strategy is not None:
        layer.retry = _policy(model.retry_strategy, (*origin, "retryStrategy"), findings)
    if model.lost_attempts is not None:
        layer.lost_free = model.lost_attempts.free
    layer.tokens = model.tokens
    for name in ("consumable_resources", "consumable_resources_override"):
        demands: AwsDemandsModel | None = getattr(model, name)
        if demands is not None and layer.tokens is None:
            try:
                layer.tokens = demands.demand()
            except ValueError as error:
                findings.problem((*origin, _ALIASES[name], "consumableResourceList"), str(error))


def _alternatives(model: ProgramModel, layer: Layer, given: set[str], origin: Path, findings: Findings) -> None:
    """The second and third spellings, where a mapping uses any."""
    for group in _SAME:
        present = [name for name in group if name in given and getattr(model, name) is not None]
        if len(present) > 1:
            last = _ALIASES[present[-1]]
            findings.problem(
                (*origin, last), f"says the same as {_ALIASES[present[0]]!r}; give one of them", at_key=True
            )
    if model.environment is not None and layer.env is None:
        layer.env = _pairs(model.environment, (*origin, "environment"), findings)
    if model.stop_timeout is not None and layer.stop_grace_ms is None:
        layer.stop_grace_ms = model.stop_timeout * 1000
    for name in _CONTAINERS:
        container: OverridesModel | None = getattr(model, name, None)
        if container is not None:
            settle_container(container, layer, given, (*origin, _ALIASES[name]), findings)


def settle_container(container: OverridesModel, layer: Layer, given: set[str], path: Path, findings: Findings) -> None:
    """Of AWS's nested properties or overrides. `given`: the keys beside them."""
    for inside, outside in _INSIDE.items():
        twice = [name for name in outside if name in given]
        if twice and getattr(container, inside, None) is not None:
            findings.problem((*path, inside), f"says the same as {_ALIASES[twice[0]]!r}; give one of them", at_key=True)
    if container.command is not None:
        layer.command = tuple(container.command)
    if container.environment is not None:
        layer.env = _pairs(container.environment, (*path, "environment"), findings)
    if container.vcpus is not None:
        layer.vcpus_milli = container.vcpus * 1000
    if container.memory is not None:
        layer.memory_mib = container.memory
    if container.resource_requirements:
        _resources(container, layer, path, findings)
    if isinstance(container, PropertiesModel):
        if container.secrets is not None:
            layer.secrets = {pair.name: pair.value_from for pair in container.secrets}
        layer.user = layer.user if container.user is None else container.user
        box = layer.container or containers.ContainerLayer()
        containers.settle_properties(container, box, path, findings)
        layer.container = box if box.at else None


def _resources(holder: ProgramModel | OverridesModel, layer: Layer, path: Path, findings: Findings) -> None:
    seen: set[str] = set()
    for index, resource in enumerate(holder.resource_requirements or ()):
        at: Path = (*path, "resourceRequirements", index)
        short = _RESOURCES[resource.type]
        if resource.type in seen:
            findings.problem((*at, "type"), f"{resource.type} is given twice")
        elif getattr(holder, short, None) is not None:
            findings.problem(at, f"says the same as {short!r}; give one of them")
        seen.add(resource.type)
        try:
            amount = resource.parsed()
        except ValueError as error:
            findings.problem((*at, "value"), str(error))
            continue
        if resource.type == "VCPU":
            layer.vcpus_milli = amount
        elif resource.type == "MEMORY":
            layer.memory_mib = amount
        else:
            layer.gpus = amount


def _pairs(pairs: Iterable[PairModel], path: Path, findings: Findings) -> dict[str, str]:
    env: dict[str, str] = {}
    for index, pair in enumerate(pairs):
        if pair.name in env:
            findings.problem((*path, index, "name"), f"{pair.name!r} is given twice")
        env[pair.name] = pair.value
    return env


def _policy(model: RetryModel, path: Path, findings: Findings) -> RetryPolicy:
    if model.rules is not None and model.evaluate_on_exit is not None:
        findings.problem((*path, "evaluateOnExit"), "says the same as 'rules'; give one of them", at_key=True)
    name = "rules" if model.rules is not None else "evaluateOnExit"
    rules = model.rules if model.rules is not None else model.evaluate_on_exit or []
    first, last = model.backoff or (0, 0)
    return RetryPolicy(
        attempts=model.attempts,
        backoff_first_ms=first,
        backoff_last_ms=last,
        rules=tuple(_rule(rule, (*path, name, index), findings) for index, rule in enumerate(rules)),
    )


def _rule(model: RuleModel, path: Path, findings: Findings) -> Rule:
    for short, long, alias in (
        ("exit", "on_exit_code", "onExitCode"),
        ("reason", "on_reason", "onReason"),
        ("status", "on_status_reason", "onStatusReason"),
    ):
        if getattr(model, short) is not None and getattr(model, long) is not None:
            findings.problem((*path, alias), f"says the same as {short!r}; give one of them", at_key=True)
    rule = Rule(
        action=Action(model.action),
        exit_code=model.exit if model.exit is not None else model.on_exit_code,
        reason=model.reason if model.reason is not None else model.on_reason,
        status_reason=model.status if model.status is not None else model.on_status_reason,
        memory_factor=model.memory,
    )
    if rule.exit_code is None and rule.reason is None and rule.status_reason is None:
        findings.problem(path, "a rule needs at least one of exit, reason, status; {reason: '*'} matches every end")
    if rule.memory_factor is not None and rule.action is Action.EXIT:
        findings.problem((*path, "memory"), "more memory has no meaning where the action is exit", at_key=True)
    return rule
