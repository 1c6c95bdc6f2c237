"""Plain data that never changes: stimuli, effects, specs, evidence, what readers give back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """A slots dataclass that compares and hashes by its values, and that the type checker holds frozen.

    At run time it is not: `frozen=True` makes each creation three times as dear (a call of `object.__setattr__` per field), and
    tasks make five of these each. And all records share their comparison, hash and text: `dataclass` compiles six functions for
    each class, which was a fifth of the time that `flowbatch run` takes to start.
    """
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else `dataclass` writes the signature there, by way of `inspect`
    own = set(vars(cls))
    made: Any = dataclass(slots=True, repr=False, eq=False)(cls)
    made._values = values_of([each.name for each in fields(made) if each.compare])
    for name, function in (("__eq__", equal), ("__hash__", digest), ("__repr__", text)):
        if name not in own:
            setattr(made, name, function)
    return made  # type: ignore[no-any-return]


def values_of(names: list[str]) -> Callable[[object], object]:
    return attrgetter(*names) if names else type


def equal(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self._values(self) == self._values(other)


def digest(self: Any) -> int:
    return hash(self._values(self))


def text(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"
