"""From a workflow file to a run about to be submitted: `parse`, then `plan`.

Pure: ids, the folder, what a source holds and what the engine offers are handed in. `parse` reads the file and judges what
needs no parameters; `plan` fills these in, judges again what that changed, and raises everything that is wrong at once.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from flowbatch.errors import Problem, WorkflowInvalid
from flowbatch.model.definition import DefinitionRow
from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import Environment, JobPlan, Queue, RunPlan, SecretSource
from flowbatch.model.resources import Resources
from flowbatch.model.tokens import Token
from flowbatch.spec import parameters
from flowbatch.spec.arrays import ReadSource, Sizer, SourceRequest
from flowbatch.spec.containers import warn_of_unused
from flowbatch.spec.definitions import Lookup
from flowbatch.spec.drafts import Drafts, draft
from flowbatch.spec.expressions import Scope, Value, expand
from flowbatch.spec.findings import Findings
from flowbatch.spec.members import needs_tokens
from flowbatch.spec.needs import Draft, kept
from flowbatch.spec.notify import NotifyMaker
from flowbatch.spec.places import Places, Surroundings, judge_places
from flowbatch.spec.policy import Guard
from flowbatch.spec.positions import Path, Positions, in_order
from flowbatch.spec.registering import registrations
from flowbatch.spec.scalars import plain
from flowbatch.spec.schema import ParamModel, SecretModel, WorkflowModel
from flowbatch.spec.serving import House, judge_guest, judge_pasted
from flowbatch.spec.specs import SpecMaker
from flowbatch.spec.token_schema import tokens_of
from flowbatch.spec.validation import EXPRESSION, Validated, validate
from flowbatch.spec.yaml import read

if TYPE_CHECKING:
    from flowbatch.spec.cron import Schedule

__all__ = ["Document", "Plan", "SourceRequest", "parse", "plan"]

_PLACES: Final = (("environments",), ("queues",))


class Document(Struct, frozen=True):
    """A file that could be read; `plan` judges what it says."""

    file: str
    source: str
    name: str
    positions: Positions
    root: dict[str, object]

    def problems(self) -> list[Problem]:
        """What is wrong whatever the parameters, sources and places are. `plan` finds these too."""
        findings = Findings(self.positions)
        pending = EXPRESSION in self.source
        if pending:
            names = self.root.get("params")
            known = frozenset(f"params.{name}" for name in names) if isinstance(names, dict) else frozenset()
            expand(self.root, Scope({}, known | {"run.id", "run.workflow"}, findings))
        checked = validate(self.root, WorkflowModel, self.positions, pending=pending)
        findings.problems += checked.problems
        findings.pending = pending
        draft(checked, findings, self.name)
        return findings.all()


class Plan(Struct, frozen=True):
    run: RunPlan
    warnings: list[Problem]
    environments: tuple[Environment, ...]  # all that the run may use, its own or the engine's
    queues: tuple[Queue, ...]
    schedule: Schedule | None = None  # when `serve` runs it
    manual: bool = False  # `serve` runs it only when it is asked to
    written: tuple[WorkflowModel, Positions] | None = None  # the file itself, for what is said of its lines
    drafts: tuple[Draft, ...] = ()  # the jobs as they were merged, in the order of the run's
    secrets: tuple[str, ...] = ()  # the names of all that jobs and receivers want


def nothing_registered(name: str, revision: int | None) -> DefinitionRow | None:
    """Where there is no store yet."""
    return None


def parse(text: bytes, file: str) -> Document:
    """Raises WorkflowInvalid where the file cannot be read; what it says is judged by `plan`, or `Document.problems`."""
    positions = read(text, file)
    root = positions.root
    if not isinstance(root, dict):
        if positions.problems:
            raise WorkflowInvalid(in_order(positions.problems))
        message = "the file is empty" if root is None else "a workflow is a mapping of keys"
        least = "the least is `jobs: {hello: {script: echo hello}}`"
        raise WorkflowInvalid([positions.problem((), f"{message}; {least}")])
    written = root.get("name")
    named = isinstance(written, str) and EXPRESSION not in written
    return Document(file, text.decode("utf-8-sig"), str(written) if named else _stem(file), positions, root)


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
    guard: Guard | None,
    only: tuple[str, ...] = (),
    host: Resources | None = None,
    absent: Callable[[SecretSource], str | None] | None = None,
    tokens: Callable[[], Iterable[Token]] = tuple,
    registry: Lookup = nothing_registered,
    register: bool = False,
    house: House | None = None,
) -> Plan:
    """Raises WorkflowInvalid with everything that is wrong, in the order of the file.

    `available` and `queues` are the engine's own, used where the file has none. `read_source` may raise OSError. `root`:
    flowbatch may run jobs as other users. `guard`: what containers may ask for; None judges nothing, for a picture. `host`: the guard, where the settings name it.
    `absent`: why a secret cannot be there; None asks nobody.
    `tokens`: those that all runs share; asked for only where a job needs some.
    `house`: of the server that runs it for others; None: who types `run` may what they may.
    `registry`: the definitions that are stored. `register`: the plan carries the file's own, to be stored with the run.
    """
    findings = Findings(document.positions)
    merged = _merged(document, params, run_id, only, registry, house, findings)
    model, values, secrets, drafts, jobs = merged.model, merged.values, merged.secrets, merged.drafts, merged.jobs
    places, trusted = _places(document, merged, available, queues, host, house, findings)
    ids = {job.key: JobId(new_id()) for job in jobs}
    around = Surroundings(folder, home, root)
    sizer = Sizer(around, read_source, findings)
    volumes = model.volumes or {}
    own_tokens = tokens_of(model.tokens)
    maker = SpecMaker(
        ids, secrets, values, volumes, places if trusted else None, around, findings, guard,
        (_known_tokens(merged, tokens, own_tokens), own_tokens),
    )  # fmt: skip
    warn_of_unused(volumes, (*drafts.main.values(), *drafts.final.values()), findings)
    specs = {job.key: maker.spec(job, sizer.size(job)) for job in drafts.order if job.key in ids}
    maker.judge_whole()
    told = NotifyMaker(secrets, around, findings, guest=house is not None)
    notify = told.sinks(model.notify or ())
    if absent is not None:
        maker.judge_secrets(absent)
        told.judge_secrets(absent)
    findings.raise_any()
    made = tuple(JobPlan(ids[job.key], spec, job.stage) for job in jobs if (spec := specs[job.key]) is not None)
    run = _run_of(document, merged, places, made, run_id, folder)
    return Plan(
        replace(
            run,
            tokens=tuple(own_tokens.values()),
            notify=notify,
            definitions=registrations(document.name, drafts.definitions, jobs, around) if register else (),
        ),
        in_order(findings.warnings),
        tuple(places.environments.values()),
        tuple(places.queues.values()),
        _schedule(model),
        model.start == "manual",
        (model, document.positions),
        tuple(jobs),
        tuple(sorted({*maker.used, *told.used})),
    )


def _run_of(
    document: Document, merged: _Merged, places: Places, jobs: tuple[JobPlan, ...], run_id: str, folder: str
) -> RunPlan:
    """What the file itself says of its run."""
    return RunPlan(
        id=RunId(run_id),
        workflow=document.name,
        jobs=jobs,
        file=posixpath.join(folder, posixpath.basename(document.file)),
        source=document.source,
        params=tuple((name, plain(value)) for name, value in merged.values.items()),
        deadline_ms=merged.model.deadline,
        environments=places.own_environments,
        queues=places.own_queues,
    )


class _Merged(Struct, frozen=True):
    """A file with its parameters filled in and its layers merged: what it says, before its jobs are made of that."""

    model: WorkflowModel
    broken: frozenset[Path]  # what was left out of the model
    values: dict[str, Value]  # of the parameters
    secrets: Mapping[str, SecretModel]
    drafts: Drafts
    jobs: list[Draft]  # those that are to run, in the order of the file


def _merged(
    document: Document,
    params: Mapping[str, str],
    run_id: str,
    only: tuple[str, ...],
    registry: Lookup,
    house: House | None,
    findings: Findings,
) -> _Merged:
    """Raises WorkflowInvalid where nothing of the file can be judged further."""
    values, checked = _filled(document, params, run_id, findings, house)
    model = checked.model
    if model is None:
        raise WorkflowInvalid(findings.all())
    secrets: Mapping[str, SecretModel] = model.secrets or {}
    if house is not None:
        judge_guest(model, house, findings)
        secrets = house.secrets
    drafts = draft(checked, findings, document.name, registry, secrets)
    keep = kept(drafts.main, only, drafts.final, findings) if only else set(drafts.main)
    jobs = [*(job for job in drafts.main.values() if job.key in keep), *drafts.final.values()]
    if model.schedule is not None and model.start is not None:
        findings.problem(
            ("start",), "a workflow with a schedule starts by that; give one of schedule and start", at_key=True
        )
    return _Merged(model, checked.broken, values, secrets, drafts, jobs)


def _places(
    document: Document,
    merged: _Merged,
    available: tuple[Environment, ...],
    queues: tuple[Queue, ...],
    host: Resources | None,
    house: House | None,
    findings: Findings,
) -> tuple[Places, bool]:
    """Where the jobs may run; and whether that is sure enough to hold jobs against it."""
    written = (merged.model.environments or {}, merged.model.queues or {})
    before = len(findings.problems)
    judge_places(*written, _names(document, available), findings)
    sure = len(findings.problems) == before and not any(path[:1] in _PLACES for path in merged.broken)
    guest = house is not None and not house.environments
    own = ({}, {}) if guest else written
    return Places.of(*own, available, queues, host), sure


def _known_tokens(
    merged: _Merged, shared: Callable[[], Iterable[Token]], own: dict[str, Token]
) -> dict[str, Token] | None:
    """None: the file's own cannot be read, so that no name is wrong for certain."""
    needed = shared() if any(needs_tokens(job.layer) for job in merged.jobs) else ()
    sure = not any(path[:1] == ("tokens",) for path in merged.broken)
    return {token.name: token for token in needed} | own if sure else None


def _schedule(model: WorkflowModel) -> Schedule | None:
    if model.schedule is None:
        return None
    from flowbatch.spec.cron import parse_schedule  # imported for the few files that have a schedule

    given = model.schedule
    return parse_schedule(given.cron, given.tz, given.missed, given.overlap)


def _filled(
    document: Document, params: Mapping[str, str], run_id: str, findings: Findings, house: House | None
) -> tuple[dict[str, Value], Validated[WorkflowModel]]:
    """The parameters' values, and the file with its expressions filled in."""
    section = {"params": document.root.get("params"), "jobs": {}}
    declarations = validate(section, WorkflowModel, document.positions).model  # wrong ones are reported with the rest
    declared: dict[str, ParamModel] = (declarations.params if declarations is not None else None) or {}
    if house is not None:
        parameters.judge_patterns(declared, findings)
        findings.raise_any()  # before anything is matched
    values = parameters.evaluate(declared, params, findings)
    value, pending = document.root, False
    if EXPRESSION in document.source:
        facts: dict[str, Value] = {f"params.{name}": value for name, value in values.items()}
        facts |= {"run.id": run_id, "run.workflow": document.name}
        written = document.root.get("params")
        names = written if isinstance(written, dict) else {}
        unknown = frozenset(f"params.{name}" for name in names if name not in values)
        scope = Scope(facts, unknown, findings)
        value, pending = expand(document.root, scope), bool(unknown)
        if house is not None:
            for name, path in sorted(scope.pasted, key=str):
                judge_pasted(name, path, declared, findings)
    checked = validate(value, WorkflowModel, document.positions, pending=pending)
    findings.problems += checked.problems
    findings.pending = pending
    return values, checked


def _names(document: Document, available: Iterable[Environment]) -> list[str]:
    """Of the file's environments, wrong ones included, else the engine's."""
    written = document.root.get("environments")
    return list(written) if isinstance(written, dict) and written else [item.name for item in available]


def _stem(file: str) -> str:
    """A workflow without a name has the file's, as far as a name can hold it."""
    stem = posixpath.basename(file).rpartition(".")[0] or posixpath.basename(file)
    return re.sub(r"[^A-Za-z0-9_-]", "-", stem)[:128] or "workflow"
