"""The YAML 1.2 core schema, without its octal and hexadecimal forms: what a plain scalar means.

`on`, `no`, `12:30` and `2020-01-01` are text, `0777` is seven hundred and seventy-seven.
"""

from __future__ import annotations

import math
import re
from typing import Final

INTEGER_MAX: Final = 2**63 - 1
INTEGER_MIN: Final = -(2**63)

_WORDS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
PLAIN_FIRST: Final = frozenset(("", *"0123456789+-.~nNtTfF"))  # what a scalar that is not text begins with


class WrittenInt(int):
    """A whole number that its author wrote otherwise than Python would (`0022`): as text it reads as written."""

    text: str


class WrittenFloat(float):
    """Likewise for a fraction: `1.10` stays `1.10` in an environment variable."""

    text: str


Scalar = str | int | float | bool | None


def resolve(text: str) -> Scalar:
    """The value of a plain scalar. Raises ValueError, with a sentence, for a number out of range."""
    if text and text[0] not in PLAIN_FIRST:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _fraction(text)
    return text


def _integer(text: str) -> int:
    number = int(text) if len(text) <= 40 else None
    if number is None or not INTEGER_MIN <= number <= INTEGER_MAX:
        raise ValueError("a whole number must fit 64 bits; put it in quotes if it is meant as text")
    if str(number) == text:
        return number
    written = WrittenInt(number)
    written.text = text
    return written


def _fraction(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("the number is too large; put it in quotes if it is meant as text")
    if repr(number) == text:
        return number
    written = WrittenFloat(number)
    written.text = text
    return written


def text_of(value: str | int | float | bool) -> str:
    """As an environment variable or a parameter reads: booleans as `true` and `false`, numbers as they were written."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, WrittenInt | WrittenFloat):
        return value.text
    return str(value)


def plain(value: str | int | float | bool) -> str | int | float | bool:
    """For the store, which knows nothing of how a number was written."""
    if isinstance(value, WrittenInt):
        return int(value)
    return float(value) if isinstance(value, WrittenFloat) else value


def shown(value: object) -> str:
    """For a message: what was found, in a few words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "…")
    if isinstance(value, int | float):
        return text_of(value)
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return type(value).__name__
