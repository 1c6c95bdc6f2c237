"""Job definitions of the registry: what names one, what may be registered, and a stored one as a layer under a job.

A definition is RegisterJobDefinition's JSON (aws-batch.md §6.1), in which a key of a workflow file may stand where AWS has no word.
Both are the keys of a workflow file's `definitions`, so that one schema reads both and one merge (`layers.merged`) serves both.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from flowbatch.errors import Problem, WorkflowInvalid
from flowbatch.model.definition import DefinitionRow, Registration, revision_id
from flowbatch.spec.container_values import container_user
from flowbatch.spec.findings import Findings
from flowbatch.spec.layers import Layer
from flowbatch.spec.members import settle
from flowbatch.spec.positions import Path, Positions, dotted
from flowbatch.spec.schema import DEFINITION_LACKS, LayerModel
from flowbatch.spec.validation import validate
from flowbatch.spec.yaml import load

NAME_MAX: Final = 128
NO_FOLDER: Final = "is relative, and a definition belongs to no folder; write an absolute path"
SIZE_MAX: Final = 24 * 1024  # bytes of a registration
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_ARN: Final = re.compile(r"arn:[a-z-]+:batch:[a-z0-9-]*:[0-9]*:job-definition/(.*)", re.ASCII)
_PROPERTIES: Final = ("containerProperties", "ecsProperties", "eksProperties", "nodeProperties")

Lookup = Callable[[str, int | None], DefinitionRow | None]  # name and revision, None: the latest ACTIVE


class Reference(Struct, frozen=True):
    """`name`, `name:3`, or an ARN of either. Without a revision the latest ACTIVE one is meant."""

    name: str
    revision: int | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises ValueError with a sentence."""
        arn = _ARN.fullmatch(text)
        name, colon, number = (arn[1] if arn is not None else text).partition(":")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{text!r} is no job definition; write its name, name:REVISION, or its ARN")
        if not colon:
            return cls(name)
        if not (number.isascii() and number.isdigit() and len(number) <= 9 and int(number) > 0):
            raise ValueError(f"{text!r}: a revision is a number from 1, found {number!r}")
        return cls(name, int(number))

    def __str__(self) -> str:
        return self.name if self.revision is None else revision_id(self.name, self.revision)


def resolve(reference: Reference, lookup: Lookup) -> DefinitionRow:
    """An ACTIVE revision. Raises ValueError with a sentence."""
    found = lookup(reference.name, reference.revision)
    latest = lookup(reference.name, None) if reference.revision is not None else found
    if found is not None and found.active:
        return found
    instead = f"; the latest ACTIVE one is {latest.id}" if latest is not None else ""
    if found is not None:
        raise ValueError(f"Job definition {found.id} is INACTIVE: it was deregistered{instead}")
    raise ValueError(f"Job definition {reference} does not exist{instead}")


# --- what may be registered


def read_registration(text: bytes, file: str) -> Registration:
    """Of RegisterJobDefinition's JSON, or the same in YAML. Raises WorkflowInvalid with everything that is wrong."""
    try:
        positions = load(text, file)
    except WorkflowInvalid:
        positions = as_json(text, file)
    return registration(positions)


def as_json(text: bytes, file: str) -> Positions:
    """JSON writes a character beyond 16 bits as two escapes, which YAML has no word for. Without positions."""
    try:
        return Positions(file, json.loads(text))
    except ValueError:
        load(text, file)  # says what is wrong, and where
        raise


def registration(positions: Positions) -> Registration:
    """The request as it was given, but for its name and its tags, which are kept beside it."""
    findings = Findings(positions)
    root = positions.root
    if not isinstance(root, dict):
        said = 'a job definition is {"jobDefinitionName": …, "type": "container", "containerProperties": {…}}'
        raise WorkflowInvalid([positions.problem((), said)])
    size = len(json.dumps(root, ensure_ascii=False, separators=(",", ":")).encode())
    if size > SIZE_MAX:
        said = f"Job definition size must be less than {SIZE_MAX >> 10} KiB, got {-(-size // 1024)} KiB"
        findings.problem((), said)
    name = root.get("jobDefinitionName")
    if name is None:
        findings.problem((), "'jobDefinitionName' is missing")
    elif not isinstance(name, str) or not _NAME.fullmatch(name):
        findings.problem(("jobDefinitionName",), "must have 1 to 128 letters, digits, `_` or `-`")
    objections = dict(aws_objections(root))
    for path, said in objections.items():
        findings.problem(path, said)
    body = {key: value for key, value in root.items() if key != "jobDefinitionName"}
    layer = layer_of(body, (), findings, frozenset(dotted(path) for path in objections))
    findings.raise_any()
    tags = layer.tags or {}
    return make(str(name), {key: value for key, value in body.items() if key != "tags"}, tags)


def aws_objections(body: Mapping[str, object]) -> Iterable[tuple[Path, str]]:
    """What AWS says to some mistakes, in its words (aws-batch.md §14.2); the schema would say it in others."""
    retry = body.get("retryStrategy")
    if isinstance(retry, dict) and retry.get("evaluateOnExit") and "attempts" not in retry:
        yield ("retryStrategy",), "RetryAttempts must be provided with retry strategy"
    given = [key for key in _PROPERTIES if body.get(key) is not None]
    if len(given) > 1:
        yield (given[1],), f"{' and '.join(given)} exclude one another; give one of them"
    box = body.get("containerProperties")
    user = box.get("user") if isinstance(box, dict) else None
    if isinstance(user, str) and container_user(user) is not None:
        yield ("containerProperties", "user"), f"User '{user}' does not match regex"


def make(name: str, body: Mapping[str, object], tags: Mapping[str, str]) -> Registration:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    said = json.dumps([_sorted(body), sorted(tags.items())], ensure_ascii=False, separators=(",", ":"))
    return Registration(name, text, hashlib.sha256(said.encode()).hexdigest()[:32], tuple(tags.items()))


def _sorted(value: object) -> object:
    """The order of keys says nothing."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


# --- a stored one


def layer_of(body: Mapping[str, object], origin: Path, findings: Findings, told: frozenset[str] = frozenset()) -> Layer:
    """Problems are told at `origin`, and below it where the file has it; at the paths `told` the schema's are left out."""
    positions = Positions(findings.positions.file, body) if origin else findings.positions
    checked = validate(dict(body), LayerModel, positions)
    for problem in checked.problems:
        if problem.path not in told:
            findings.problems.append(_moved(problem, origin, findings) if origin else problem)
    if checked.model is None:
        return Layer((origin,))
    for key in body.keys() & DEFINITION_LACKS:
        findings.problem((*origin, key), "cannot stand here: it belongs to the job", at_key=True)
    layer = settle(checked.model, origin, findings)
    box = layer.container
    for mount in box.mounts.values() if box is not None else ():
        if box is not None and not mount.volume and not mount.source.startswith(("/", "~/")):
            findings.problem(box.path("volumes", mount.target), f"{mount.source!r} {NO_FOLDER}")
    if layer.workdir is not None and not layer.workdir.startswith(("/", "~/")):
        findings.problem((*origin, "workdir"), f"{layer.workdir!r} {NO_FOLDER}")
    return layer


def _moved(problem: Problem, origin: Path, findings: Findings) -> Problem:
    return findings.positions.problem(origin, f"its definition: {problem.path}: {problem.message}")


def stored_layer(row: DefinitionRow, origin: Path, findings: Findings) -> Layer:
    """What a revision puts under a job; everything in it stands, for messages, where the job names it."""
    layer = layer_of(json.loads(row.body), origin, findings)
    layer.definition_tags = dict(row.tags) or None
    layer.tags = None
    return layer
