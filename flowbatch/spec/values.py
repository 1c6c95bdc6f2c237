"""The field types of the file: what a person may write, what comes out of it, and what an editor is told."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Final, TypeVar

from pydantic import BeforeValidator, PlainValidator, StringConstraints, WithJsonSchema

from flowbatch.spec import quantities
from flowbatch.spec.scalars import shown, text_of

NAME: Final = r"^[A-Za-z0-9_-]{1,128}$"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}", re.ASCII)
_RESERVED: Final = ("AWS_BATCH", "FLOWBATCH_")
PATTERN_MAX: Final = 512

_TEXT_SCHEMA: Final = {"type": ["string", "number", "boolean"]}
_DURATION_SCHEMA: Final = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "examples": ["90s", "20m", "1h30m", "500ms"]},
    ]
}
_SIZE_SCHEMA: Final = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "examples": ["512MiB", "3GiB", "2GB"]}]
}
EXPRESSION_SCHEMA: Final = {"type": "string", "pattern": r"^\$\{\{.*\}\}$"}


def name_of(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a name; names have 1 to 128 letters, digits, `_` or `-`")
    return value


def _env_name(value: object) -> str:
    if not isinstance(value, str) or not _ENV_NAME.fullmatch(value):
        raise ValueError(f"{shown(value)} is not the name of an environment variable")
    if value.upper().startswith(_RESERVED):
        raise ValueError(f"{value!r} is reserved: names that begin with AWS_BATCH or FLOWBATCH_ are set by flowbatch")
    return value


def _text(value: object) -> str:
    if isinstance(value, str | int | float):
        return text_of(value)
    if value is None:
        raise ValueError("a value is missing; write '' for an empty one")
    raise ValueError(f"one value is needed, found {shown(value)}")


def _command(value: object) -> object:
    if isinstance(value, str):
        raise ValueError(
            "a list is needed, one element per argument; for a line of shell write `script:` instead of `command:`"
        )
    if value == []:
        raise ValueError("an empty command cannot be run; leave it out or name a program")
    if isinstance(value, list) and value[0] == "":
        raise ValueError("the first element names the program; it cannot be empty")
    return value


def _pattern(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text is needed, found {shown(value)}")
    if not value or len(value) > PATTERN_MAX:
        raise ValueError(f"a pattern has 1 to {PATTERN_MAX} characters, found {len(value)}")
    if "*" in value[:-1]:
        raise ValueError(f"{shown(value)}: `*` is taken as the last character only, where it stands for any rest")
    return value


def _exit_pattern(value: object) -> str:
    text = _pattern(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)
    if not re.fullmatch(r"[0-9]*\*?", text, re.ASCII):
        raise ValueError(f"{shown(value)} is not an exit code; write digits, with a `*` at the end for any rest")
    return text


def _one(value: object) -> object:
    return [value] if isinstance(value, str | dict) else value


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a number is needed, found {shown(value)}")
    return value


def _plain(value: object) -> str | int | float | bool:
    if not isinstance(value, str | int | float):
        raise ValueError(f"one value is needed, found {shown(value)}")
    return value


T = TypeVar("T")
Listed = Annotated[list[T], BeforeValidator(_one, json_schema_input_type=list[T] | T)]

Name = Annotated[str, PlainValidator(name_of), WithJsonSchema({"type": "string", "pattern": NAME})]
EnvName = Annotated[str, PlainValidator(_env_name), WithJsonSchema({"type": "string"})]
Text = Annotated[str, PlainValidator(_text), WithJsonSchema(_TEXT_SCHEMA)]
Number = Annotated[int | float, PlainValidator(_number), WithJsonSchema({"type": "number"})]
Plain = Annotated[str | int | float | bool, PlainValidator(_plain), WithJsonSchema(_TEXT_SCHEMA)]
Command = Annotated[list[Text], BeforeValidator(_command, json_schema_input_type=list[Text])]
Script = Annotated[str, StringConstraints(min_length=1)]
DurationMs = Annotated[int, PlainValidator(quantities.duration_ms), WithJsonSchema(_DURATION_SCHEMA)]
SizeMib = Annotated[int, PlainValidator(quantities.size_mib), WithJsonSchema(_SIZE_SCHEMA)]
VcpusMilli = Annotated[
    int, PlainValidator(quantities.vcpus_milli), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})
]
MinVcpusMilli = Annotated[
    int, PlainValidator(quantities.min_vcpus_milli), WithJsonSchema({"type": "number", "minimum": 0})
]
Tolerance = Annotated[
    int | Fraction,
    PlainValidator(quantities.share),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?%$"}]}
    ),
]
Backoff = Annotated[tuple[int, int], PlainValidator(quantities.backoff_ms), WithJsonSchema(_DURATION_SCHEMA)]
Factor = Annotated[
    float, PlainValidator(quantities.factor), WithJsonSchema({"type": "string", "pattern": r"^x[0-9]+(\.[0-9]+)?$"})
]
Pattern = Annotated[str, PlainValidator(_pattern), WithJsonSchema({"type": "string", "pattern": r"^[^*]*\*?$"})]
ExitPattern = Annotated[
    str,
    PlainValidator(_exit_pattern),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^[0-9]*\*?$"}]}),
]
