"""From a workflow file to a run about to be submitted: `parse`, then `plan`.

Pure: ids, the folder, what a source holds and what the engine offers are handed in. `parse` reads the file and judges what
needs no parameters; `plan` fills these in, judges again what that changed, and raises everything that is wrong at once.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from flowbatch.errors import Problem, WorkflowInvalid
from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import (
    Environment,
    JobPlan,
    JobSpec,
    Need,
    Queue,
    RetryPolicy,
    RunPlan,
    SecretSource,
    Stage,
)
from flowbatch.model.resources import Resources
from flowbatch.spec import parameters
from flowbatch.spec.arrays import Children, ReadSource, Sizer, SourceRequest
from flowbatch.spec.drafts import Drafts, draft
from flowbatch.spec.expressions import Scope, Value, expand
from flowbatch.spec.findings import Findings
from flowbatch.spec.needs import Draft, kept
from flowbatch.spec.places import DEFAULT, Places, absolute, judge_places
from flowbatch.spec.positions import Positions, in_order
from flowbatch.spec.references import refs_in
from flowbatch.spec.scalars import text_of
from flowbatch.spec.schema import SecretModel, WorkflowModel
from flowbatch.spec.validation import EXPRESSION, Validated, validate
from flowbatch.spec.yaml import load

__all__ = ["Document", "Plan", "SourceRequest", "parse", "plan"]

JOB_TEXT_MAX: Final = 1 << 20  # characters of a job's command and environment; Linux passes about 2 MB to a program
RUN_TEXT_MAX: Final = 64 << 20
_NOTHING: Final = ("/bin/sh", "-c", ":")  # of a job that only the fake backend is meant for


@dataclass(slots=True)
class Document:
    """A file that was read. `problems` are those that need no parameters to be seen; `plan` raises them with its own."""

    file: str
    source: str
    name: str
    positions: Positions
    root: dict[str, object]
    checked: Validated[WorkflowModel]
    drafts: Drafts
    findings: Findings

    @property
    def problems(self) -> list[Problem]:
        return in_order(self.findings.problems)


@dataclass(frozen=True, slots=True)
class Plan:
    run: RunPlan
    warnings: list[Problem]
    environments: tuple[Environment, ...]  # all that the run may use, its own or the engine's
    queues: tuple[Queue, ...]


def parse(text: bytes, file: str) -> Document:
    """Raises WorkflowInvalid where the file cannot be read at all; else what is wrong waits in `problems`."""
    positions = load(text, file)
    root = positions.root
    if not isinstance(root, dict):
        message = "the file is empty" if root is None else "a workflow is a mapping of keys"
        least = "the least is `jobs: {hello: {script: echo hello}}`"
        raise WorkflowInvalid([positions.problem((), f"{message}; {least}")])
    findings = Findings(positions)
    source = text.decode("utf-8-sig")
    pending = EXPRESSION in source
    if pending:
        names = root.get("params")
        known = frozenset(f"params.{name}" for name in names) if isinstance(names, dict) else frozenset()
        expand(root, Scope({}, known | {"run.id", "run.workflow"}, findings))
    checked = validate(root, WorkflowModel, positions, pending=pending)
    findings.problems += checked.problems
    drafts = draft(checked, findings)
    name = checked.model.name if checked.model is not None else None
    return Document(file, source, name or _stem(file), positions, root, checked, drafts, findings)


def plan(
    document: Document,
    *,
    params: Mapping[str, str],
    run_id: str,
    new_id: Callable[[], str],
    folder: str,
    home: str,
    read_source: ReadSource,
    available: tuple[Environment, ...],
    queues: tuple[Queue, ...],
    root: bool,
    only: tuple[str, ...] = (),
) -> Plan:
    """Raises WorkflowInvalid with everything that is wrong, in the order of the file.

    `available` and `queues` are the engine's own, used where the file has none. `read_source` may raise OSError.
    """
    model = document.checked.model
    if model is None:
        raise WorkflowInvalid(document.problems)
    findings = Findings(document.positions)
    values = parameters.evaluate(model.params or {}, params, findings)
    checked, drafts = document.checked, document.drafts
    if EXPRESSION in document.source:
        facts: dict[str, Value] = {f"params.{name}": value for name, value in values.items()}
        facts |= {"run.id": run_id, "run.workflow": document.name}
        unknown = frozenset(f"params.{name}" for name in model.params or () if name not in values)
        checked = validate(
            expand(document.root, Scope(facts, unknown, findings)),
            WorkflowModel,
            document.positions,
            pending=bool(unknown),
        )
        findings.problems += checked.problems
        drafts = draft(checked, findings)
        model = checked.model or model
    else:
        findings.problems += document.findings.problems
        findings.warnings += document.findings.warnings
    keep = kept(drafts.main, only, drafts.final, findings) if only else set(drafts.main)
    judge_places(
        model.environments or {},
        model.queues or {},
        model.environments or [item.name for item in available],
        findings,
    )
    places = Places.of(model.environments or {}, model.queues or {}, available, queues)
    planner = _Planner(model, places, values, folder, home, root, findings)
    sizer = Sizer(folder, home, read_source, findings)
    specs: dict[str, JobSpec] = {}
    for job in drafts.order:
        if job.stage is Stage.MAIN and job.key not in keep:
            continue
        children = sizer.size(job)
        if children is not None and not job.broken:
            spec = planner.spec(job, children)
            if spec is not None:
                specs[job.key] = spec
    if planner.text > RUN_TEXT_MAX:
        findings.problem(
            ("jobs",), f"the commands and environments have more than {RUN_TEXT_MAX:,} characters together"
        )
    findings.raise_any()
    jobs = [*(job for job in drafts.main.values() if job.key in keep), *drafts.final.values()]
    ids = {job.key: JobId(new_id()) for job in jobs}
    run = RunPlan(
        id=RunId(run_id),
        workflow=document.name,
        jobs=tuple(JobPlan(ids[job.key], _connected(specs[job.key], job, ids), job.stage) for job in jobs),
        file=posixpath.join(folder, posixpath.basename(document.file)),
        source=document.source,
        params=tuple(values.items()),
        deadline_ms=model.deadline,
        environments=places.own_environments,
        queues=places.own_queues,
    )
    return Plan(run, in_order(findings.warnings), tuple(places.environments.values()), tuple(places.queues.values()))


def _connected(spec: JobSpec, job: Draft, ids: Mapping[str, JobId]) -> JobSpec:
    if not job.edges:
        return spec
    return replace(spec, needs=tuple(Need(ids[edge.key], edge.when, edge.each) for edge in job.edges))


def _stem(file: str) -> str:
    """A workflow without a name has the file's, as far as a name can hold it."""
    stem = posixpath.basename(file).rpartition(".")[0] or posixpath.basename(file)
    return (
        "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "-" for letter in stem)[:128]
        or "workflow"
    )


class _Planner:
    """Makes the specs of one run."""

    def __init__(
        self,
        model: WorkflowModel,
        places: Places,
        values: Mapping[str, Value],
        folder: str,
        home: str,
        root: bool,
        findings: Findings,
    ) -> None:
        self.places = places
        self.folder = folder
        self.home = home
        self.root = root
        self.findings = findings
        self.env = tuple((parameters.variable(name), text_of(value)) for name, value in values.items())
        self.secrets = {name: self.source(secret) for name, secret in (model.secrets or {}).items()}
        self.text = 0  # characters of all commands and environments

    def source(self, secret: SecretModel) -> SecretSource:
        return SecretSource(
            env=secret.env,
            file=None if secret.file is None else absolute(secret.file, self.folder, self.home),
            command=None if secret.command is None else tuple(secret.command),
        )

    def spec(self, job: Draft, children: Children) -> JobSpec | None:
        """None where the job cannot be placed; reported."""
        layer, findings = job.layer, self.findings
        queue = layer.queue or DEFAULT
        if queue not in self.places.queues:
            findings.unknown(
                findings.positions.first(layer.paths("queue", "jobQueue")), "queue", queue, self.places.queues
            )
            return None
        retry = layer.retry or RetryPolicy()
        spec = JobSpec(
            key=job.key,
            queue=queue,
            command=layer.command or _NOTHING,
            resources=Resources(
                1000 if layer.vcpus_milli is None else layer.vcpus_milli, layer.memory_mib or 0, layer.gpus or 0
            ),
            size=children.size,
            sequential=children.sequential,
            max_running=children.max_running,
            tolerate=children.tolerate,
            priority=layer.priority or 0,
            env=self.env + tuple(layer.env.items()) if layer.env else self.env,
            secrets=tuple(
                (variable, self.secrets[name]) for variable, name in layer.secrets.items() if name in self.secrets
            )
            if layer.secrets
            else (),
            parameters=tuple(layer.parameters.items()) if layer.parameters else (),
            items=children.items,
            chunk=children.chunk,
            workdir=self.folder if layer.workdir is None else absolute(layer.workdir, self.folder, self.home),
            timeout_ms=layer.timeout_ms,
            stop_grace_ms=30_000 if layer.stop_grace_ms is None else layer.stop_grace_ms,
            retry=retry if not layer.lost_free else replace(retry, lost_free=layer.lost_free),
            tags=tuple(layer.tags.items()) if layer.tags else (),
            user=layer.user,
            fake=layer.fake,
        )
        self.judge(job, spec)
        return spec

    def judge(self, job: Draft, spec: JobSpec) -> None:
        layer, findings = job.layer, self.findings
        misfit = self.places.misfit(spec)
        if misfit is not None:
            keys = ("memory", "vcpus", "gpus", "resourceRequirements", "containerOverrides", "containerProperties")
            path = findings.positions.first([*layer.paths(*keys), layer.origins[0]])
            findings.problem(path, misfit, at_key=path == layer.origins[0])
        if spec.user is not None and not self.root:
            path = findings.positions.first(layer.paths("user"))
            findings.problem(path, "a process can run as another user only where flowbatch runs as root; leave it out")
        for name in refs_in(spec.command):
            if name not in (layer.parameters or {}):
                path = findings.positions.first(layer.paths("command", "script", "containerOverrides.command"))
                findings.warn(path, f"Ref::{name} has no value in `parameters` and will be passed as it stands")
        text = sum(map(len, spec.command)) + sum(len(name) + len(value) for name, value in spec.env)
        text += sum(len(name) + len(value) for name, value in (*spec.parameters, *spec.tags))
        self.text += text
        if text > JOB_TEXT_MAX:
            findings.problem(
                layer.origins[0],
                f"its command and environment have {text:,} characters; at most {JOB_TEXT_MAX:,} can be passed",
            )
