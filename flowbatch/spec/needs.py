"""Who waits for whom: entries of `needs`, cycles, an order in which every job comes after what it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct, field

from flowbatch.model.ids import JobId
from flowbatch.model.jobspec import Need, Stage, When
from flowbatch.spec.findings import Findings
from flowbatch.spec.layers import Layer
from flowbatch.spec.positions import Path
from flowbatch.spec.schema_parts import NeedModel
from flowbatch.spec.validation import did_you_mean

NEEDS_MAX: Final = 20
_SHOWN_MAX: Final = 12
ID_GROUPS: Final = [8, 4, 4, 4, 12]  # hexadecimal digits of a job's id


class Edge(Struct, frozen=True):
    key: str
    when: When
    each: bool
    index: int  # in the file's list


class Draft(Struct):
    """A job of the file, merged, before its size and place are known."""

    key: str
    stage: Stage
    layer: Layer
    broken: bool  # something of it was refused: what depends on that is not judged
    definition: str = ""  # of the registry: `name:revision`; the name alone of one that is registered with the run
    inline: bool = False  # it is its own definition
    edges: list[Edge] = field(default_factory=list)
    outside: list[Need] = field(default_factory=list)  # jobs of other runs, or without one
    sequential: bool = False

    def need_path(self, findings: Findings, index: int) -> Path:
        for key in ("needs", "dependsOn"):
            if findings.positions.has((*self.layer.origins[0], key)):
                return (*self.layer.origins[0], key, index)
        return self.layer.origins[0]


def connect(drafts: Mapping[str, Draft], others: Mapping[str, object], known: set[str], findings: Findings) -> None:
    """Fills the edges of one stage. `others` are the jobs of the other stage; `known` names also those that are broken."""
    for draft in drafts.values():
        models = draft.layer.needs
        if not models:
            continue
        seen: dict[tuple[str, bool], set[When]] = {}
        for index, model in enumerate(models):
            edge = _edge(draft, model, index, findings)
            if edge is None:
                continue
            if edge.key in drafts:
                wrong = _clash(edge, seen.setdefault((edge.key, edge.each), set()))
                if wrong is None:
                    draft.edges.append(edge)
                else:
                    findings.problem(draft.need_path(findings, index), wrong)
            elif (need := _of_elsewhere(edge)) is not None and draft.stage is not Stage.FINALLY:
                wrong = _clash(edge, seen.setdefault((edge.key, edge.each), set()))
                wrong = wrong or _without_size(draft, need)
                if wrong is None:
                    draft.outside.append(need)
                else:
                    findings.problem(draft.need_path(findings, index), wrong)
            elif edge.key not in known:
                _unknown(draft, edge, drafts, others, findings)
        if len(models) > NEEDS_MAX:
            path = draft.need_path(findings, 0)[:-1]
            findings.problem(path, f"Job cannot have more than {NEEDS_MAX} dependencies; it has {len(models)}")


def _of_elsewhere(edge: Edge) -> Need | None:
    """The need of a job's id, or that of an array's child (`ID:3`); None where the key is neither."""
    job, colon, index = edge.key.partition(":")
    groups = job.lower().split("-")
    if [len(group) for group in groups] != ID_GROUPS or not set("".join(groups)) <= set("0123456789abcdef"):
        return None
    if colon and not (index.isascii() and index.isdecimal() and len(index) <= 5):
        return None
    return Need(JobId(job.lower()), edge.when, edge.each, int(index) if colon else None)


def _without_size(draft: Draft, need: Need) -> str | None:
    """Only a file's own arrays hand their size on: those of elsewhere are not looked at until the file is submitted."""
    if need.index is not None and need.each:
        return "each waits index by index, and this names one child; leave one of the two out"
    if need.index is not None and need.when is not When.SUCCESS:
        return "of one child only its success can be waited for; leave `when` out"
    if need.each and draft.layer.array is None and not any(edge.each for edge in draft.edges):
        return f"each waits index by index, and {need.job} is not of this file; give this job's own array size"
    return None


def _clash(edge: Edge, before: set[When]) -> str | None:
    """What is wrong with one more need of a job that is needed already, whole or child by child."""
    if edge.when in before:
        return f"{edge.key!r} is needed twice; leave one out"
    before.add(edge.when)
    if {When.SUCCESS, When.FAILURE} <= before:
        return f"{edge.key!r} cannot both succeed and fail; for either end write {{job: {edge.key}, when: done}} alone"
    return None


def _edge(draft: Draft, model: NeedModel, index: int, findings: Findings) -> Edge | None:
    named = [name for name in (model.job, model.each, model.job_id) if name is not None]
    wrong = None
    if model.type == "SEQUENTIAL":
        if not named and model.when is None:
            draft.sequential = True
            return None
        wrong = "SEQUENTIAL orders the children of this job and names no other; write {type: SEQUENTIAL} alone"
    elif not named:
        wrong = "names no job; write its key, {each: KEY} or {job: KEY}"
    elif len(named) > 1:
        wrong = "names more than one job; give one of job, each, jobId, and an entry of its own to every job"
    if wrong is not None:
        findings.problem(draft.need_path(findings, index), wrong)
        return None
    return Edge(named[0], When(model.when or "success"), model.each is not None or model.type == "N_TO_N", index)


def _unknown(
    draft: Draft, edge: Edge, drafts: Mapping[str, Draft], others: Mapping[str, object], findings: Findings
) -> None:
    path = draft.need_path(findings, edge.index)
    if edge.key in others:
        if draft.stage is Stage.FINALLY:
            findings.problem(
                path, f"{edge.key!r} is no `finally` job; these begin after all others and need only each other"
            )
        else:
            findings.problem(
                path, f"{edge.key!r} is a `finally` job, which begins after all others; nothing can wait for it"
            )
    elif _of_elsewhere(edge) is not None:
        findings.problem(path, f"{edge.key} is no `finally` job; these begin after all others and need only each other")
    else:
        findings.unknown(path, "job", edge.key, drafts)


def in_dependency_order(drafts: Mapping[str, Draft], findings: Findings) -> list[Draft]:
    """Cycles are reported, and left out with what waits for them."""
    waiting = {key: len(draft.edges) for key, draft in drafts.items()}
    dependants: dict[str, list[str]] = {}
    for key, draft in drafts.items():
        for edge in draft.edges:
            dependants.setdefault(edge.key, []).append(key)
    order = [key for key, count in waiting.items() if not count]
    for key in order:  # grows as it is read
        for dependant in dependants.get(key, ()):
            waiting[dependant] -= 1
            if not waiting[dependant]:
                order.append(dependant)
    if len(order) < len(drafts):
        _report_cycles(drafts, [key for key, count in waiting.items() if count], findings)
    return [drafts[key] for key in order]


def _report_cycles(drafts: Mapping[str, Draft], stuck: list[str], findings: Findings) -> None:
    """From each job that cannot start, along what it waits for, until a job comes again."""
    left = set(stuck)
    done: set[str] = set()
    for start in stuck:
        steps: dict[str, Edge] = {}
        key = start
        while key not in steps and key not in done:
            steps[key] = next(edge for edge in drafts[key].edges if edge.key in left)
            key = steps[key].key
        done.update(steps)
        if key not in steps:
            continue
        walked = list(steps)
        cycle = walked[walked.index(key) :]
        first = min(range(len(cycle)), key=lambda at: stuck.index(cycle[at]) if len(cycle) <= _SHOWN_MAX else at)
        cycle = cycle[first:] + cycle[:first]
        draft = drafts[cycle[0]]
        path = draft.need_path(findings, steps[cycle[0]].index)
        findings.problem(path, f"a cycle: {_drawn(cycle)}; none of them could ever start")


def _drawn(cycle: list[str]) -> str:
    shown_keys = cycle
    if len(cycle) > _SHOWN_MAX:
        shown_keys = [*cycle[: _SHOWN_MAX - 2], f"… ({len(cycle) - _SHOWN_MAX + 1:,} more)", cycle[-1]]
    return " → ".join([*shown_keys, cycle[0]])


def kept(drafts: Mapping[str, Draft], only: Iterable[str], finals: Mapping[str, Draft], findings: Findings) -> set[str]:
    """What `--only` leaves: the named jobs and all that they need."""
    keep: set[str] = set()
    todo = []
    for key in only:
        if key in drafts:
            todo.append(key)
        elif key in finals:
            findings.problem(
                ("finally", key), f"--only {key}: `finally` jobs run in any case; name others", at_key=True
            )
        else:
            findings.problem(("jobs",), f"--only {key}: there is no such job{did_you_mean(key, drafts)}", at_key=True)
    while todo:
        key = todo.pop()
        if key not in keep:
            keep.add(key)
            todo.extend(edge.key for edge in drafts[key].edges)
    return keep
