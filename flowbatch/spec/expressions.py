"""`${{ }}`: a dotted path to a parameter or a fact of the run, filled in when the run is made.

A scalar that is wholly one expression takes the value with its type, so this goes before validation. `run.status` is
known only at the end: it stays in `finally` jobs and is filled in at their start (references.expand_status).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from flowbatch.spec.findings import Findings
from flowbatch.spec.positions import Path
from flowbatch.spec.references import STATUS
from flowbatch.spec.scalars import text_of
from flowbatch.spec.validation import did_you_mean
from flowbatch.spec.yaml import SCALAR_MAX

Value = str | int | float | bool

_PATH: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*", re.ASCII)
_NAMED: Final = frozenset({"env", "parameters", "secrets", "tags", "matrix"})  # their keys are names, `x-` or not
_FIXED: Final = frozenset({"flowbatch", "name", "params"})  # read before anything can be filled in


class Scope(Struct):
    """`values` holds what is known by its path; a path in `pending` is legal and known later."""

    values: Mapping[str, Value]
    pending: frozenset[str]
    findings: Findings
    room: int = 16 << 20  # characters that may still come in: a long value pasted often is a bomb
    warned: set[Path] = field(default_factory=set)
    pasted: set[tuple[str, Path]] = field(
        default_factory=set
    )  # parameters in scripts, where the shell reads them as code

    @property
    def legal(self) -> list[str]:
        return [*self.values, *sorted(self.pending)]


def expand(root: dict[str, object], scope: Scope) -> dict[str, object]:
    """A copy where something changed; a pending expression stays as it is."""
    expanded: dict[str, object] = {}
    for section, value in root.items():
        if section in _FIXED:
            _refuse(value, (section,), scope.findings)
            expanded[section] = value
        elif section.startswith("x-"):
            expanded[section] = value
        else:
            expanded[section] = _walk(value, (section,), scope)
    return expanded


def _refuse(value: object, path: Path, findings: Findings) -> None:
    if isinstance(value, str):
        if "${{" in value:
            findings.problem(path, "nothing is filled in here; write the value itself")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse(item, (*path, key), findings)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse(item, (*path, index), findings)


def _walk(value: object, path: Path, scope: Scope) -> object:
    """Nesting is bounded by the loader."""
    if isinstance(value, str):
        return _fill(value, path, scope) if "${{" in value else value
    if isinstance(value, dict):
        walked = dict(value)
        names = len(path) == 1 or path[-1] in _NAMED or "items" in path
        for key, item in value.items():
            if key.startswith("x-") and key != "x-fake" and not names:
                continue
            if isinstance(item, str):
                if "${{" in item:
                    walked[key] = _fill(item, (*path, key), scope)
            elif isinstance(item, dict | list):
                walked[key] = _walk(item, (*path, key), scope)
        return walked
    if isinstance(value, list):
        return [_walk(item, (*path, index), scope) for index, item in enumerate(value)]
    return value


def _fill(text: str, path: Path, scope: Scope) -> Value:
    """By hand, since a regular expression would search a text of openings without an end again for each of them."""
    parts: list[str] = []
    at = 0
    while (begin := text.find("${{", at)) >= 0:
        end = text.find("}}", begin)
        if end < 0:
            scope.findings.problem(path, "`${{` is never closed; write `${{ params.name }}`")
            return text
        value = _value(text[begin + 3 : end].strip(), path, scope)
        if begin == 0 and end + 2 == len(text):
            return text if value is None else value
        parts.append(text[at:begin])
        parts.append(text[begin : end + 2] if value is None else text_of(value))
        at = end + 2
        scope.room -= len(parts[-1])
    filled = "".join(parts) + text[at:]
    if len(filled) > SCALAR_MAX or scope.room < 0:
        scope.findings.problem(path, f"grows too large once filled in; at most {SCALAR_MAX:,} characters are taken")
        return text
    return filled


def _value(name: str, path: Path, scope: Scope) -> Value | None:
    """None: not known, or reported."""
    if not _PATH.fullmatch(name):
        scope.findings.problem(
            path,
            f"`${{{{ {name[:60]} }}}}` is no dotted path; only params.name, run.id, run.workflow and run.status exist",
        )
        return None
    if name == "run.status":
        if path[0] == "finally":
            return STATUS
        scope.findings.problem(path, "run.status is known at the end alone: it is legal in `finally` jobs")
        return None
    if name.startswith("params.") and path[-1] == "script":
        scope.pasted.add((name.removeprefix("params."), path))
    if name.startswith("params.") and path[-1] == "script" and path not in scope.warned:
        scope.warned.add(path)
        variable = "$FLOWBATCH_PARAM_" + name.removeprefix("params.").upper().replace("-", "_")
        scope.findings.warn(
            path, f'{name} is pasted into a script, where the shell reads it as code; use "{variable}" instead'
        )
    if name in scope.values:
        return scope.values[name]
    if name not in scope.pending:
        kind = "parameter" if name.startswith("params.") else "expression"
        shown = name.removeprefix("params.") if kind == "parameter" else name
        known = [item.removeprefix("params.") for item in scope.legal if item.startswith("params.")]
        hint = did_you_mean(shown, known if kind == "parameter" else [*scope.legal, "run.status"])
        scope.findings.problem(path, f"unknown {kind} {shown!r}{hint}")
    return None
