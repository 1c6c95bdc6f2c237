"""Plain data that never changes, made by the hundred thousand: stimuli, effects, evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """A slots dataclass that the type checker holds frozen. At run time it is not: `frozen=True` makes each creation three
    times as dear (a call of `object.__setattr__` per field), and tasks make five of these each."""
    return dataclass(slots=True)(cls)
