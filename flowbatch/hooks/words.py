"""What an event, or a digest of many, says to people: a title, lines below it, a colour. Plain text; each form escapes it its own way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

from flowbatch.hooks.detail import more_of
from flowbatch.hooks.escaping import plain
from flowbatch.hooks.filters import is_failed_attempt
from flowbatch.model.events import EventKind, EventRow, LoggedEvent, kind_of
from flowbatch.model.status import RunStatus, Status

GROUPS_MAX: Final = 100  # failure groups that a digest tells apart
SHOWN: Final = 10
WEIGHTY: Final = {
    "failed": 0,
    "dead": 1,
    "gap": 2,
    "disabled": 3,
    "blocked": 4,
    "retried": 5,
    "succeeded": 6,
}  # what is said first
GREEN, RED, GREY, AMBER = 0x2EB67D, 0xE01E5A, 0x808080, 0xECB22E


class Words(Struct, frozen=True):
    title: str
    lines: tuple[str, ...]
    colour: int


def words_of(event: LoggedEvent) -> Words:
    row, word = event.row, kind_of(event.row).partition(".")[2]
    if row.kind is EventKind.SINK:
        more = more_of(row)
        title = f"Deliveries to {more.get('sink', '?')}: {word}"
        return Words(plain(title), tuple(plain(line) for line in (row.status_reason,) if line), RED)
    title = f"{subject(event)} {word.upper()}"
    retried = is_failed_attempt(row)
    if retried:
        title = f"{subject(event)}: attempt {row.attempt} FAILED, another one follows"
    lines = [took(event), *counts(row)]
    reason = row.reason or row.status_reason
    if reason and not word.startswith("succ"):
        lines.append(plain(f"exit {row.exit_code}: {reason}" if row.exit_code else reason))
    lines.append(where(event))
    return Words(plain(title), tuple(line for line in lines if line), colour_of(row))


def subject(event: LoggedEvent) -> str:
    """`film-render`, `film-render/render:17`."""
    name = event.run.workflow if event.run is not None else "flowbatch"
    if event.job is not None:
        name += f"/{event.job.spec.key}"
        if event.row.idx is not None:
            name += f"{'@' if event.row.kind is EventKind.NODE else ':'}{event.row.idx}"
    return name


def where(event: LoggedEvent) -> str:
    """What to type to see more; names in it are of letters, digits, `_` and `-` alone."""
    if event.run is None:
        return ""
    address = event.run.id[:8]
    if event.job is not None:
        address += f"/{event.job.spec.key}" + (f":{event.row.idx}" if event.row.kind is EventKind.CHILD else "")
    return f"flowbatch show {address}"


def took(event: LoggedEvent) -> str:
    begun = event.run.created_at if event.run is not None and event.row.kind is EventKind.RUN else None
    if event.row.kind is not EventKind.RUN:
        begun = more_of(event.row).get("started_at")
        over = event.row.status >= Status.SUCCEEDED
    else:
        over = event.row.status != RunStatus.RUNNING
    if begun is None or not over:
        return ""
    return f"after {span(event.row.at - begun)}"


def span(ms: int) -> str:
    seconds = max(ms, 0) / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def counts(row: EventRow) -> list[str]:
    more = more_of(row)
    for key, noun in (("children", "children"), ("jobs", "jobs")):
        found: Mapping[str, Any] | None = more.get(key)
        if found:
            told = ", ".join(f"{count:,} {status.lower()}" for status, count in found.items() if count)
            return [f"{noun}: {told}"] if told else []
    return []


def colour_of(row: EventRow) -> int:
    if is_failed_attempt(row):
        return AMBER
    word = kind_of(row).partition(".")[2]
    return {"failed": RED, "succeeded": GREEN, "blocked": AMBER}.get(word, GREY)


class Tally(Struct):
    """A digest in the making: what happened how often, and what failed alike. Its size does not grow with the events."""

    first: LoggedEvent | None = None
    last: LoggedEvent | None = None
    events: int = 0
    kinds: dict[tuple[str, str], int] = field(default_factory=dict)  # (subject without index, kind) → count
    failures: dict[tuple[str, int | None, str], tuple[int, str]] = field(default_factory=dict)  # → count, an example
    others: int = 0  # of failures that found no group, and of kinds likewise

    def add(self, event: LoggedEvent) -> None:
        self.first, self.last = self.first or event, event
        self.events += 1
        kind, name = kind_of(event.row), subject(event)
        if is_failed_attempt(event.row):
            kind = kind.replace(".runnable", ".retried")
        what = (name.partition(":")[0], kind)
        if what in self.kinds or len(self.kinds) < GROUPS_MAX:
            self.kinds[what] = self.kinds.get(what, 0) + 1
        if kind.endswith(".failed") and event.row.kind is not EventKind.RUN:
            row = event.row
            group = (what[0], row.exit_code, plain(row.reason or row.status_reason or "", 200))
            if group in self.failures or len(self.failures) < GROUPS_MAX:
                count, example = self.failures.get(group, (0, name))
                self.failures[group] = (count + 1, example)
            else:
                self.others += 1

    def words(self) -> Words:
        names = {name.partition("/")[0] for name, _ in self.kinds}
        about = next(iter(names)) if len(names) == 1 else f"{len(names)} workflows"
        failed = sum(count for (_, kind), count in self.kinds.items() if kind.endswith(".failed"))
        title = f"{about}: {self.events:,} event{'' if self.events == 1 else 's'}" + (
            f", {failed:,} failures" if failed else ""
        )
        kinds = sorted(self.kinds.items(), key=lambda item: WEIGHTY.get(item[0][1].partition(".")[2], len(WEIGHTY)))
        lines = [
            f"{name}{' (children)' if kind.startswith('child.') else ''}: {count:,} {kind.partition('.')[2]}"
            for (name, kind), count in kinds
        ]
        lines = [*lines[:SHOWN], *([f"… and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])]
        groups = sorted(self.failures.items(), key=lambda item: -item[1][0])
        for (name, code, reason), (count, example) in groups[:SHOWN]:
            ended = f"exit {code}" if code is not None else "no exit code"
            lines.append(
                f"{count:,} × {name} failed: {ended}{', ' if reason else ''}{reason} (e.g. {example.rpartition('/')[2]})"
            )
        left = self.others + sum(count for _, (count, _) in groups[SHOWN:])
        if left:
            lines.append(f"… and {left:,} more failures")
        if self.first is not None:
            lines.append(where(self.first).partition("/")[0])
        return Words(plain(title), tuple(plain(line) for line in lines if line), self.colour())

    def colour(self) -> int:
        """Of the worst that it counts."""
        seen = {kind.partition(".")[2] for _, kind in self.kinds}
        if seen & {"failed", "dead", "gap", "disabled"}:
            return RED
        return AMBER if seen & {"retried", "blocked"} else GREEN

    def detail(self) -> dict[str, object]:
        return {
            "events": self.events,
            "counts": [{"subject": name, "kind": kind, "count": count} for (name, kind), count in self.kinds.items()],
            "failures": [
                {"subject": name, "exitCode": code, "reason": reason, "count": count, "example": example}
                for (name, code, reason), (count, example) in self.failures.items()
            ],
            "otherFailures": self.others,
        }
