"""Durations, sizes, ranges and shares as people write them. Each function raises ValueError with a sentence."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

from flowbatch.spec.scalars import shown

_UNITS_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|d|h|m|s)", re.ASCII)
_DURATION_MAX_MS: Final = 10 * 366 * 86_400_000
_TOO_LONG: Final = f"is longer than ten years; {_DURATION_MAX_MS // 1000} seconds are the most"
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)", re.ASCII)
_SIZE_BYTES: Final = {
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
MEMORY_MAX_MIB: Final = 1 << 31
_RANGE: Final = re.compile(r"([-+]?[0-9]{1,18})\.\.([-+]?[0-9]{1,18})", re.ASCII)
_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,12})?) ?%", re.ASCII)
_FACTOR: Final = re.compile(r"x([0-9]{1,3}(?:\.[0-9]{1,6})?)", re.ASCII)

DURATION_HINT: Final = "write seconds (90) or a duration such as 90s, 20m, 1h30m, 500ms"
SIZE_HINT: Final = "write MiB (512) or a size such as 512MiB, 3GiB, 2GB"


def duration_ms(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"a duration is needed, found {shown(value)}; {DURATION_HINT}")
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", value, re.ASCII):
        milliseconds = _parts_ms(value)
    elif isinstance(value, int):
        milliseconds = int(value) * 1000
    else:
        seconds = float(value)
        if seconds * 1000 > _DURATION_MAX_MS:  # it may be more than any whole number
            raise ValueError(f"{shown(value)} {_TOO_LONG}")
        milliseconds = round(seconds * 1000) if math.isfinite(seconds) else 0
    if milliseconds <= 0:
        raise ValueError(f"a duration above 0 is needed, found {shown(value)}; {DURATION_HINT}")
    if milliseconds > _DURATION_MAX_MS:
        raise ValueError(f"{shown(value)} {_TOO_LONG}")
    return milliseconds


def _parts_ms(text: str) -> int:
    total, at, previous = Fraction(0), 0, math.inf
    while at < len(text) and (part := _DURATION_PART.match(text, at)) and len(text) <= 64:
        unit = _UNITS_MS[part[2]]
        if unit >= previous:
            break
        total += Fraction(part[1]) * unit
        at, previous = part.end(), unit
    if at < len(text) or not text:
        raise ValueError(f"{shown(text)} is not a duration; {DURATION_HINT}")
    return math.ceil(total)


def size_mib(value: object) -> int:
    """Rounded up to whole MiB."""
    if isinstance(value, int) and not isinstance(value, bool):
        mib = int(value)  # not as it was written: it is stored
    elif isinstance(value, str) and len(value) <= 64 and (size := _SIZE.fullmatch(value)):
        mib = math.ceil(Fraction(size[1]) * _SIZE_BYTES[size[2]] / (1 << 20))
    else:
        raise ValueError(f"{shown(value)} is not a size; {SIZE_HINT}")
    if not 1 <= mib <= MEMORY_MAX_MIB:
        raise ValueError(f"a size between 1 MiB and 2 PiB is needed, found {shown(value)}")
    return mib


def vcpus_milli(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a number of vCPUs is needed, such as 2 or 0.5; found {shown(value)}")
    if not 0.001 <= value <= 1_000_000:
        raise ValueError(f"vCPUs must lie between 0.001 and 1,000,000, found {shown(value)}")
    return math.ceil(round(value * 1000, 6))


def min_vcpus_milli(value: object) -> int:
    """None are kept where it is 0, as AWS has it unless told otherwise."""
    return 0 if value == 0 and not isinstance(value, bool) else vcpus_milli(value)


def span(text: str) -> range | None:
    """`0..9`, both ends included, upwards or downwards; None where the text is no range."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return None
    first, last = int(found[1]), int(found[2])
    return range(first, last + 1) if first <= last else range(first, last - 1, -1)


def share(value: object) -> int | Fraction:
    """Of `tolerate`: a count, or a part of the whole as a Fraction."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"the failures to tolerate cannot be below 0, found {value}")
        return int(value)
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{shown(value)} is neither a count (3) nor a share (0.5%)")
    part = Fraction(found[1]) / 100
    if part > 1:
        raise ValueError(f"at most 100% can be tolerated, found {value}")
    return part


def backoff_ms(value: object) -> tuple[int, int]:
    """`10s`, or `10s..5m`: the first wait and the longest."""
    if isinstance(value, str) and ".." in value:
        first, _, last = value.partition("..")
        bounds = duration_ms(first), duration_ms(last)
        if bounds[0] > bounds[1]:
            raise ValueError(f"the backoff {value} runs backwards; write {last}..{first}")
        return bounds
    once = duration_ms(value)
    return once, once


def factor(value: object) -> float:
    """`x2`: how much more memory the next attempt gets."""
    found = _FACTOR.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 1 < float(found[1]) <= 100:
        raise ValueError(f"{shown(value)} is not a factor; write x2 or x1.5 (above 1, at most 100)")
    return float(found[1])
