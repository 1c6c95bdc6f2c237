"""`params`: declared with a type in the file, given as text on the command line."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

from flowbatch.spec.expressions import Value
from flowbatch.spec.findings import Findings
from flowbatch.spec.positions import Path
from flowbatch.spec.scalars import INTEGER_MAX, INTEGER_MIN, resolve, shown, text_of
from flowbatch.spec.schema import ParamModel
from flowbatch.spec.validation import did_you_mean

VALUE_MAX: Final = 4_096  # bounds what an author's pattern can be made to chew on
VARIABLE: Final = "FLOWBATCH_PARAM_"
_KINDS: Final = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}


def variable(name: str) -> str:
    """The environment variable that carries a parameter to every job."""
    return VARIABLE + name.upper().replace("-", "_")


def judge(params: Mapping[str, ParamModel], findings: Findings) -> None:
    """What can be said of the declarations alone."""
    variables: dict[str, str] = {}
    for name, param in params.items():
        path: Path = ("params", name)
        other = variables.setdefault(variable(name), name)
        if other != name:
            findings.problem(path, f"{other!r} and {name!r} would share the variable {variable(name)}", at_key=True)
        kind: Path = (*path, "type")
        if findings.positions.has(kind) and findings.positions.written(kind) != param.type:
            continue  # refused: what it says besides is not judged by a type that nobody gave
        numeric = param.type in ("integer", "number")
        for key, bound in (("min", param.min), ("max", param.max)):
            if bound is not None and not numeric:
                findings.problem((*path, key), f"applies to integer and number, not to {param.type}", at_key=True)
        if param.pattern is not None and param.type != "string":
            findings.problem((*path, "pattern"), f"applies to string, not to {param.type}", at_key=True)
        if param.min is not None and param.max is not None and param.min > param.max:
            findings.problem((*path, "max"), f"{shown(param.max)} is below min, {shown(param.min)}")
        if param.pattern is not None and (wrong := _pattern_error(param.pattern)):
            findings.problem((*path, "pattern"), f"not a regular expression: {wrong}")
            continue
        for index, choice in enumerate(param.enum or ()):
            if (wrong := _type_error(param, choice)) is not None:
                findings.problem((*path, "enum", index), wrong)
        if param.default is not None and (wrong := _error(param, param.default)) is not None:
            findings.problem((*path, "default"), wrong)


def defaults(params: Mapping[str, ParamModel]) -> dict[str, Value]:
    return {name: param.default for name, param in params.items() if param.default is not None}


def evaluate(params: Mapping[str, ParamModel], given: Mapping[str, str], findings: Findings) -> dict[str, Value]:
    """One value per parameter, in the order of the file; what is missing or wrong is reported and left out."""
    for name in given:
        if name not in params:
            known = did_you_mean(name, params) or (f"; it has {', '.join(params)}" if params else "; it has none")
            findings.problem(("params",), f"the workflow has no parameter {name!r}{known}", at_key=True)
    values: dict[str, Value] = {}
    for name, param in params.items():
        path: Path = ("params", name)
        if name not in given:
            if param.default is None:
                findings.problem(path, f"needs a value: give it with -p {name}=…", at_key=True)
            elif _error(param, param.default) is None:
                values[name] = param.default
            continue
        value = _read(param, given[name])
        if value is not None:
            wrong = _error(param, value)
        elif param.type in ("integer", "number") and re.fullmatch(
            r"[-+]?[0-9]+(e\+?[0-9]+)?", given[name], re.ASCII | re.I
        ):
            wrong = f"the number is too large, found {shown(given[name])}"
        else:
            wrong = f"{_KINDS[param.type]} is needed, found {shown(given[name])}"
        if value is None or wrong is not None:
            findings.problem(path, f"-p {name}: {wrong}", at_key=True)
        else:
            values[name] = value
    return values


def _read(param: ParamModel, text: str) -> Value | None:
    if param.type == "string":
        return text
    if param.type == "boolean":
        return {"true": True, "false": False}.get(text)
    try:
        value = resolve(text) if text.strip() == text else None
    except ValueError:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole or (param.type == "number" and isinstance(value, float)) else None


def _pattern_error(pattern: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what will change in a later Python is the author's concern, not an error
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return None


def judge_patterns(params: Mapping[str, ParamModel], findings: Findings) -> None:
    """For a file of somebody else's: a pattern that no engine matches in time linear in the text could stop everything."""
    for name, param in params.items():
        if param.pattern is not None and _pattern_error(param.pattern) is None and _linear(param.pattern) is None:
            text = "a server takes no pattern that looks ahead or back, refers back, or grows large; say it without"
            findings.problem(("params", name, "pattern"), text)


@lru_cache(maxsize=256)
def _linear(pattern: str) -> SchemaValidator | None:
    """None where it needs Python's own engine, whose time some patterns make exponential."""
    try:
        return SchemaValidator(core_schema.str_schema(pattern=rf"\A(?:{pattern})\z", regex_engine="rust-regex"))
    except SchemaError:
        return None


def _matches(pattern: str, value: str) -> bool:
    """As a whole."""
    linear = _linear(pattern)
    if linear is None:
        return re.fullmatch(pattern, value) is not None
    try:
        linear.validate_python(value)
    except ValidationError:
        return False
    return True


def _type_error(param: ParamModel, value: Value) -> str | None:
    fits = {
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
    }
    if not fits[param.type]:
        quote = "; put it in quotes" if param.type == "string" else ""
        return f"{_KINDS[param.type]} is needed, found {shown(value)}{quote}"
    return None


def _error(param: ParamModel, value: Value) -> str | None:
    wrong = _type_error(param, value)
    if wrong is not None:
        return wrong
    if isinstance(value, str):
        return _text_error(param, value)
    if param.enum and value not in param.enum:
        return f"must be one of {', '.join(text_of(choice) for choice in param.enum)}; found {shown(value)}"
    if isinstance(value, bool):
        return None
    if not math.isfinite(value) or (isinstance(value, int) and not INTEGER_MIN <= value <= INTEGER_MAX):
        return f"the number is too large, found {shown(value)}"
    if param.min is not None and value < param.min:
        return f"must be at least {text_of(param.min)}, found {shown(value)}"
    if param.max is not None and value > param.max:
        return f"must be at most {text_of(param.max)}, found {shown(value)}"
    return None


def _text_error(param: ParamModel, value: str) -> str | None:
    if len(value) > VALUE_MAX:
        return f"has {len(value):,} characters; at most {VALUE_MAX:,} are taken"
    if "\0" in value:
        return "holds a NUL character, which cannot be passed to a program"
    if param.enum and value not in param.enum:
        hint = did_you_mean(value, [text_of(choice) for choice in param.enum])
        return f"must be one of {', '.join(text_of(choice) for choice in param.enum)}; found {shown(value)}{hint}"
    if param.pattern is not None and _pattern_error(param.pattern) is None and not _matches(param.pattern, value):
        return f"{shown(value)} does not match the pattern {param.pattern}"
    return None
