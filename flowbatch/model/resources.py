"""What tasks need and environments have: vCPUs in thousandths, memory in MiB, whole GPUs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple


class Resources(NamedTuple):
    vcpus_milli: int = 0
    memory_mib: int = 0  # 0: reserves nothing and limits nothing
    gpus: int = 0

    def fits(self, free: Resources) -> bool:
        return self[0] <= free[0] and self[1] <= free[1] and self[2] <= free[2]

    def plus(self, other: Resources) -> Resources:
        return _new(Resources, (self[0] + other[0], self[1] + other[1], self[2] + other[2]))

    def minus(self, other: Resources) -> Resources:
        return _new(Resources, (self[0] - other[0], self[1] - other[1], self[2] - other[2]))

    def times(self, count: int) -> Resources:
        return _new(Resources, (self[0] * count, self[1] * count, self[2] * count))

    def copies_in(self, free: Resources) -> int:
        """How many of this fit in `free`; a demand of nothing fits without bound (2**31)."""
        vcpus_milli, memory_mib, gpus = self
        count = free[0] // vcpus_milli if vcpus_milli > 0 else 2**31
        if memory_mib > 0:
            count = min(count, free[1] // memory_mib)
        if gpus > 0:
            count = min(count, free[2] // gpus)
        return max(count, 0)

    def __str__(self) -> str:
        parts = [f"{vcpus_text(self.vcpus_milli)} vCPU"]
        if self.memory_mib:
            parts.append(memory_text(self.memory_mib))
        if self.gpus:
            parts.append(f"{self.gpus} GPU")
        return ", ".join(parts)


_new: Final = tuple.__new__  # without a call of Python's own in between: a pass of the scheduler makes dozens
NOTHING: Final = Resources()


def sum_of(amounts: Iterable[Resources], begin: Resources = NOTHING) -> Resources:
    """Of all these, and of what there is to begin with."""
    vcpus_milli, memory_mib, gpus = begin
    for amount in amounts:
        vcpus_milli += amount[0]
        memory_mib += amount[1]
        gpus += amount[2]
    return _new(Resources, (vcpus_milli, memory_mib, gpus))


def smallest(one: Resources, other: Resources) -> Resources:
    """The less of each kind."""
    return Resources(*map(min, one, other))


def vcpus_text(vcpus_milli: int) -> str:
    return f"{vcpus_milli / 1000:g}"


def vcpus_exact(vcpus_milli: int) -> str:
    """As resourceRequirements have it: `2`, `0.25`."""
    whole, rest = divmod(vcpus_milli, 1000)
    return f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)


def memory_text(memory_mib: int) -> str:
    return f"{memory_mib / 1024:g} GiB" if memory_mib >= 1024 and memory_mib % 256 == 0 else f"{memory_mib} MiB"
