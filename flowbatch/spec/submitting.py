"""A submitted job: a revision of a definition with what SubmitJob says over it, as the spec that the engine runs.

The rules of the merge are AWS's (aws-batch.md §6.3) and those of a workflow file's layers at once; only what the two see differently
stands here. A revision never changes, so that what it alone comes to is kept (`Base`), and most submissions add but a name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from flowbatch.errors import Problem
from flowbatch.model.container import Container
from flowbatch.model.definition import DefinitionRow
from flowbatch.model.ids import JobId
from flowbatch.model.jobspec import JobSpec, SecretSource, Stage
from flowbatch.spec import containers
from flowbatch.spec.arrays import SINGLE
from flowbatch.spec.definitions import stored_layer
from flowbatch.spec.findings import Findings
from flowbatch.spec.layers import Layer, merged
from flowbatch.spec.members import overridden, programs, settle
from flowbatch.spec.needs import Draft
from flowbatch.spec.places import Surroundings
from flowbatch.spec.policy import Guard
from flowbatch.spec.positions import nowhere
from flowbatch.spec.schema import LayerModel, SecretModel
from flowbatch.spec.specs import SpecMaker
from flowbatch.spec.validation import validate

SUBMIT_SIZE_MAX: Final = 30 * 1024  # bytes of a submission
OVERRIDING: Final = (
    "containerOverrides", "nodeOverrides", "ecsPropertiesOverride", "consumableResourcePropertiesOverride", "retryStrategy", "timeout",
    "propagateTags", "schedulingPriorityOverride",
)  # fmt: skip


class SubmissionRefused(Exception):
    """What is wrong with a submission, or with the definition that it names, in a sentence or several."""


class Base(Struct, frozen=True):
    """What a revision comes to by itself, but for the job's name and queue."""

    row: DefinitionRow
    body: Mapping[str, object]
    layer: Layer
    spec: JobSpec
    secrets: tuple[str, ...]  # the names of those that it wants
    guard: Guard  # that it was held against


class Vault(NamedTuple):
    """The secrets of a server, by their names; `absent` says why one cannot be there."""

    secrets: Mapping[str, SecretModel]
    absent: Callable[[SecretSource], str | None]


def base_of(row: DefinitionRow, around: Surroundings, guard: Guard, vault: Vault | None = None) -> Base:
    """Raises SubmissionRefused: a definition may ask for what this server does not allow."""
    body = json.loads(row.body)
    findings = Findings(nowhere(row.id, body))
    layer = stored_layer(row, (), findings)
    wanted = {name for program in programs(layer) for name in (program.secrets or {}).values()}
    return Base(row, body, layer, spec_of(layer, row.id, around, guard, findings, vault), tuple(sorted(wanted)), guard)


def submitted(
    base: Base, request: Mapping[str, object], around: Surroundings, guard: Guard, vault: Vault | None = None
) -> JobSpec:
    """`request`: SubmitJob's JSON, checked for its shape; its name, queue, needs and size are the caller's to set. Raises
    SubmissionRefused."""
    upper = {key: value for key in OVERRIDING if (value := request.get(key)) not in (None, {})}
    spec = base.spec
    if upper:
        box = upper.get("containerOverrides")
        if isinstance(box, Mapping):
            upper["containerOverrides"] = overrides(box, base.body)
        findings = Findings(nowhere("SubmitJob", upper))
        layer = merged(layer_over(upper, findings), base.layer)
        spec = spec_of(layer, base.row.id, around, guard, findings, vault)
    parameters, tags = request.get("parameters"), request.get("tags")
    if isinstance(parameters, Mapping) and parameters:
        spec = replace(spec, parameters=tuple({**dict(spec.parameters), **parameters}.items()))
    if isinstance(tags, Mapping) and tags:
        spec = replace(spec, tags=tuple(tags.items()))
        if spec.container is not None and base.layer.container is not None:
            spec = replace(spec, container=labelled(spec, base, request))
    return spec


def layer_over(upper: Mapping[str, object], findings: Findings) -> Layer:
    """Raises SubmissionRefused."""
    checked = validate(upper, LayerModel, findings.positions)
    findings.problems += checked.problems
    if checked.model is None or findings.problems:
        raise SubmissionRefused("; ".join(map(told, findings.problems)))
    return settle(checked.model, (), findings)


def labelled(spec: JobSpec, base: Base, request: Mapping[str, object]) -> Container | None:
    """propagateTags: the definition's tags and the job's, which win, become labels of the container."""
    propagate = request.get("propagateTags", base.body.get("propagateTags"))
    if spec.container is None or not propagate:
        return spec.container
    return replace(spec.container, labels=tuple({**dict(base.row.tags), **dict(spec.tags)}.items()))


def overrides(box: Mapping[str, object], body: Mapping[str, object]) -> dict[str, object]:
    """containerOverrides as a layer has them: an empty command means the definition's, and the old `vcpus` and `memory` do not
    override resourceRequirements of the definition."""
    found = {key: value for key, value in box.items() if value is not None}
    if found.get("command") == []:
        del found["command"]
    properties = body.get("containerProperties")
    required = properties.get("resourceRequirements") if isinstance(properties, Mapping) else None
    kinds = (
        {each.get("type") for each in required if isinstance(each, Mapping)} if isinstance(required, list) else set()
    )
    for key, kind in (("vcpus", "VCPU"), ("memory", "MEMORY")):
        if kind in kinds:
            found.pop(key, None)
    found.pop("instanceType", None)
    return found


class AloneMaker(SpecMaker):
    """Judges no place: a job of the API is taken, and says while it is RUNNABLE that it never fits (semantics.md 18)."""

    def queue(self, job: Draft) -> str | None:
        return ""


def spec_of(
    layer: Layer,
    definition: str,
    around: Surroundings,
    guard: Guard,
    findings: Findings,
    vault: Vault | None,
) -> JobSpec:
    overridden(layer, findings)
    secrets: Mapping[str, SecretModel] = {} if vault is None else vault.secrets
    for program in programs(layer):
        for name in (program.secrets or {}).values():
            if name in secrets:
                continue
            raise SubmissionRefused(f"secret {name!r} is not among those of the server's settings")
        containers.judge(program, findings)
    maker = AloneMaker(
        {}, secrets, {}, {}, None, around, findings, guard, (None, {})
    )  # the engine knows which tokens there are
    spec = maker.spec(Draft("", Stage.MAIN, layer, broken=False, definition=definition), SINGLE)
    if vault is not None:
        maker.judge_secrets(vault.absent)
    if findings.problems or spec is None:
        raise SubmissionRefused("; ".join(map(told, findings.problems)))
    return spec


def told(problem: Problem) -> str:
    return f"{problem.path}: {problem.message}" if problem.path else problem.message


def need_of(job_id: str) -> tuple[JobId, int | None]:
    """The job and, of `UUID:3`, the child. Raises ValueError."""
    name, colon, index = job_id.partition(":")
    if colon and not (index.isascii() and index.isdigit() and len(index) <= 5):
        raise ValueError(job_id)
    return JobId(name), int(index) if colon else None
