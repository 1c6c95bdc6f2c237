"""Pydantic's findings as Problems: where in the file, in words for its author.

Everything wrong is told at once, so what is valid beside a mistake is kept: a key that fails is left out and the rest is
validated again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar, get_args, get_origin

from msgspec import Struct, field
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flowbatch.errors import Problem
from flowbatch.spec.positions import Path, Positions, child
from flowbatch.spec.scalars import shown
from flowbatch.spec.yaml import PROBLEMS_MAX

M = TypeVar("M", bound=BaseModel)

EXPRESSION: Final = "${{"
_ROUNDS_MAX: Final = 12
_COMPARED_MAX: Final = 100


class Validated(Struct, Generic[M], frozen=True):
    """`model` holds what is valid, or is None where nothing could be kept."""

    model: M | None
    problems: list[Problem] = field(default_factory=list)
    broken: frozenset[Path] = frozenset()  # what was left out of the model


def validate(value: object, model: type[M], positions: Positions, *, pending: bool = False) -> Validated[M]:
    """`value` has the shape of `positions.root`. With `pending`, a value that still holds an expression is not judged."""
    problems: list[Problem] = []
    broken: set[Path] = set()
    for _ in range(_ROUNDS_MAX):
        try:
            return Validated(model.model_validate(value), problems, frozenset(broken))
        except ValidationError as error:
            drops: list[Path] = []
            for details in error.errors(include_url=False):
                path = _existing(value, details["loc"])
                kind = details["type"]
                free = kind == "extra_forbidden" and str(path[-1]).startswith("x-")
                if kind == "missing":
                    known = (*path, details["loc"][-1]) in broken
                else:
                    known = pending and _has_expression(_at(value, path))
                if not free and not known:
                    if len(problems) >= PROBLEMS_MAX:
                        return Validated(None, problems, frozenset({()}))
                    problems.append(_problem(details, path, model, positions))
                drop = _droppable(path)
                drops.append(drop)
                if not free:
                    broken.add(drop)
            if () in drops:
                break
            value = _without(value, drops)
    return Validated(None, problems, frozenset(broken | {()}))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'denoise'?)`, or nothing. Only names that could be close are compared: a file may have thousands."""
    import difflib  # only a file with a mistake pays for it

    word = word[:128]
    folded, room = word.lower(), max(2, len(word) // 3)
    likely = [name for name in known if abs(len(name) - len(word)) <= room and not _differ(folded, name.lower())]
    close = difflib.get_close_matches(word, likely[:_COMPARED_MAX], n=1, cutoff=0.6)
    if not close:
        close = [name for name in likely if name.lower() == folded][:1]
    return f" (did you mean {close[0]!r}?)" if close else ""


def _differ(one: str, other: str) -> bool:
    """At both ends: nobody mistypes a word like that."""
    return one[:1] != other[:1] and one[-2:] != other[-2:]


def _existing(value: object, loc: tuple[int | str, ...]) -> Path:
    """The part of pydantic's location that the value has; the rest names a missing key or `[key]`."""
    for depth, step in enumerate(loc):
        if not _has(value, step):
            return loc[:depth]
        value = child(value, step)
    return loc


def _has(value: object, step: int | str) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


def _at(value: object, path: Path) -> object:
    for step in path:
        value = child(value, step)
    return value


def _has_expression(value: object) -> bool:
    """Nesting is bounded by the loader."""
    if isinstance(value, str):
        return EXPRESSION in value
    if isinstance(value, dict):
        return any(_has_expression(item) for item in value.values())
    return isinstance(value, list) and any(_has_expression(item) for item in value)


def _droppable(path: Path) -> Path:
    """The mapping entry that the path lies in: an item of a list cannot go without its neighbours moving."""
    for depth, step in enumerate(path):
        if isinstance(step, int):
            return path[:depth]
    return path


def _without(value: object, drops: list[Path]) -> object:
    """A copy along the paths; what lies beside them is shared."""
    if not isinstance(value, dict):
        return value
    copy = dict(value)
    deeper: dict[str | int, list[Path]] = {}
    for path in drops:
        if len(path) > 1:
            deeper.setdefault(path[0], []).append(path[1:])
    for step, paths in deeper.items():
        if step in copy:
            copy[step] = _without(copy[step], paths)
    for path in drops:
        if len(path) == 1:
            copy.pop(path[0], None)
    return copy


def _problem(details: ErrorDetails, path: Path, model: type[BaseModel], positions: Positions) -> Problem:
    kind, loc = details["type"], details["loc"]
    if kind == "extra_forbidden":
        key = str(path[-1])
        holder = _model_at(model, path[:-1])
        if holder is not None and key in (later := getattr(holder, "LATER", {})):
            return positions.problem(path, f"not yet: {later[key]}; leave it out", at_key=True)
        if holder is not None and key in (refused := getattr(holder, "REFUSED", {})):
            return positions.problem(path, refused[key], at_key=True)
        hint = did_you_mean(key, _keys(holder)) or "; keys of your own begin with x-"
        return positions.problem(path, f"unknown key {key!r}{hint}", at_key=True)
    if kind == "missing":
        return positions.problem(path, f"{str(loc[-1])!r} is missing", at_key=True)
    said = _SENTENCES.get(kind)
    message = said(details) if said is not None else f"{shown(details['input'])} cannot stand here"
    return positions.problem(path, message, at_key=loc[-1:] == ("[key]",))


def _context(details: ErrorDetails, name: str) -> object:
    return details.get("ctx", {}).get(name)


def _needs(what: str) -> Callable[[ErrorDetails], str]:
    return lambda details: f"{what} is needed, found {shown(details['input'])}"


def _needs_text(details: ErrorDetails) -> str:
    found = details["input"]
    quote = "; put it in quotes" if isinstance(found, int | float) else ""
    return f"text is needed, found {shown(found)}{quote}"


def _literal(details: ErrorDetails) -> str:
    expected = str(_context(details, "expected"))
    found = details["input"]
    words = [word.strip("' ") for word in expected.replace(" or ", ",").split(",")]
    hint = did_you_mean(found, words) if isinstance(found, str) else ""
    return f"must be {expected}, found {shown(found)}{hint}"


def _bound(words: str, name: str) -> Callable[[ErrorDetails], str]:
    return lambda details: f"must be {words} {_context(details, name)}, found {shown(details['input'])}"


def _length(words: str, name: str) -> Callable[[ErrorDetails], str]:
    def said(details: ErrorDetails) -> str:
        bound = _context(details, name)
        unit = "characters" if details["type"].startswith("string") else "entries"
        return "cannot be empty" if bound == 1 and name == "min_length" else f"has {words} {bound} {unit}"

    return said


_SENTENCES: Final[dict[str, Callable[[ErrorDetails], str]]] = {
    "value_error": lambda details: str(_context(details, "error")),
    "string_type": _needs_text,
    "int_type": _needs("a whole number"),
    "int_from_float": _needs("a whole number"),
    "float_type": _needs("a number"),
    "bool_type": _needs("true or false"),
    "dict_type": _needs("a mapping (key: value)"),
    "model_type": _needs("a mapping (key: value)"),
    "list_type": _needs("a list"),
    "literal_error": _literal,
    "greater_than_equal": _bound("at least", "ge"),
    "less_than_equal": _bound("at most", "le"),
    "string_too_short": lambda details: "cannot be empty",
    "string_too_long": _length("at most", "max_length"),
    "too_long": _length("at most", "max_length"),
    "too_short": _length("at least", "min_length"),
}


def _keys(model: type[BaseModel] | None) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()] if model is not None else []


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model of the mapping at this path."""
    current, skip = model, 0
    for step in path:
        if skip:
            skip -= 1
            continue
        info = next((info for name, info in current.model_fields.items() if (info.alias or name) == step), None)
        found = None if info is None else _model_in(info.annotation, 0)
        if found is None:
            return None
        current, skip = found
    return current


def _model_in(annotation: object, nesting: int) -> tuple[type[BaseModel], int] | None:
    """The model inside a field's type, and how many mappings or lists are around it."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return (annotation, nesting) if issubclass(annotation, BaseModel) else None
    deeper = nesting + (get_origin(annotation) in (dict, list))
    for argument in get_args(annotation):
        found = _model_in(argument, deeper)
        if found is not None:
            return found
    return None
