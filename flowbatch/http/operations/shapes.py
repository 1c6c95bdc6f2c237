"""What operations take, checked as AWS does it behind the SDK: enums, lengths, ranges, patterns (aws-batch.md §14.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from flowbatch.http.arns import JOB_NAME, NAME
from flowbatch.http.failures import ClientFailure

REASON_MAX: Final = 1024
TAGS_MAX: Final = 50
TAG_LETTERS: Final = frozenset("+-=._:/@ ")
MESSAGES: Final = 5  # told at once
WHOLE_MAX: Final = 2**53  # what JSON has exactly, whoever reads it; the store takes it too


class Shape(BaseModel):
    """Strict: a number in quotes is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)


S = TypeVar("S", bound=Shape)


def read(shape: type[S], given: Mapping[str, Any]) -> S:
    """Raises ClientFailure with what is wrong, and where in the request."""
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        told = [
            f"{dotted(each['loc'])}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        more = f" (and {len(told) - MESSAGES} more)" if len(told) > MESSAGES else ""
        raise ClientFailure("; ".join(told[:MESSAGES]) + more) from None


def dotted(loc: tuple[str | int, ...]) -> str:
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the request"


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError("must be 1 to 128 letters, digits, hyphens and underscores")
    return text


def _job_name(text: str) -> str:
    if not JOB_NAME.fullmatch(text):
        raise ValueError(
            "must begin with a letter or digit and have at most 128 letters, digits, hyphens and underscores"
        )
    return text


def check_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    """aws-batch.md §13.4. Raises ValueError."""
    if len(tags) > TAGS_MAX:
        raise ValueError(f"a resource has at most {TAGS_MAX} tags, found {len(tags)}")
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise ValueError(f"the tag {key[:140]!r}: a key has 1 to 128 characters, a value at most 256")
        if key[:4].lower() == "aws:":
            raise ValueError(f"the tag {key!r}: the prefix aws: is reserved")
        if not all(letter.isalnum() or letter in TAG_LETTERS for letter in key + value):
            raise ValueError(f"the tag {key!r}: letters, digits, spaces and + - = . _ : / @ are allowed")
    return tags


def _tags(tags: dict[str, str]) -> dict[str, str]:
    check_tags(tags)
    return tags


Whole = Annotated[int, Field(ge=0, le=WHOLE_MAX)]
Natural = Annotated[int, Field(ge=1, le=WHOLE_MAX)]
Name = Annotated[str, AfterValidator(_name)]
JobName = Annotated[str, AfterValidator(_job_name)]
Tags = Annotated[dict[str, str], AfterValidator(_tags)]
Reason = Annotated[str, Field(min_length=1, max_length=REASON_MAX)]
Token = Annotated[str, Field(min_length=1, max_length=4096)]
