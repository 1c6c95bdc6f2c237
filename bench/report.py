"""A row per figure: what it is, what it must be, what it was."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, to_builtins


class Row(Struct, frozen=True):
    what: str
    must: str
    was: str
    value: float
    held: bool


class Report:
    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, what: str, must: str, was: str, value: float, *, held: bool) -> None:
        self.rows.append(Row(what, must, was, value, held))
        print(f"{'ok  ' if held else 'MISS'}  {what:<62} {must:<18} {was}", flush=True)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(to_builtins(self.rows), indent=1) + "\n", encoding="utf-8")


def median_of(times: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(times))


def rss_mib() -> float:
    """Of this process, now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


def peak_rss_mib() -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status")
