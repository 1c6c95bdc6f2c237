"""What commands print: JSON with stable keys, or text that no name, reason or log line can use to drive a terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import click

# C0 and C1 controls, and the marks that reorder text; a tab and a newline are harmless
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SEQUENCES: Final = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[@-Z\\\\-_])")

BATCH: Final = 500  # elements of a list that are printed at once
COLOURS: Final = {
    "SUCCEEDED": "green", "FAILED": "red", "RUNNING": "blue", "STARTING": "cyan", "RUNNABLE": "yellow",
    "PENDING": "bright_black", "SUBMITTED": "bright_black",
}  # fmt: skip


def clean(text: str) -> str:
    """The text without terminal sequences and controls (security.md §3)."""
    return _CONTROLS.sub("", _SEQUENCES.sub("", text))


def one_line(text: str) -> str:
    """Clean, and on one line: a reason with newlines must not look like several reports."""
    return " ".join(clean(text).split())


def print_json(value: object) -> None:
    """One document, snake_case keys, times in epoch milliseconds."""
    click.echo(json_text(value))


def json_text(value: object) -> str:
    """JSON escapes C0 controls by itself; on a terminal C1 controls and marks that reorder text must not come out either."""
    return json.dumps(value, ensure_ascii=on_terminal(), separators=(", ", ": "))


def print_json_list(values: Iterable[object]) -> None:
    """One document, a list, an element a line; printed as it comes, for it may have a million elements."""
    before, batch = "[", list[str]()
    for value in values:
        batch.append(before + json_text(value))
        before = ",\n "
        if len(batch) == BATCH:
            click.echo("".join(batch), nl=False)
            batch.clear()
    click.echo("".join(batch) + ("[]" if before == "[" else "]"))


def status_text(status: str) -> str:
    """Coloured on a terminal alone: click strips it elsewhere."""
    return click.style(status, fg=COLOURS.get(status))


def time_text(at: int | None) -> str:
    """Local time, to the second; `-` where there is none."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at / 1000, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def counted(number: int, noun: str) -> str:
    """`1 task`, `1,200 tasks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration_text(ms: int | None) -> str:
    """`412 ms`, `3.2 s`, `4m07s`, `2h05m`, `3d04h`, `30d`."""
    if ms is None:
        return "-"
    if ms < 1000:
        return f"{ms} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02d}h" if hours else f"{days}d"


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; colours do not count."""
    cells = [list(headers), *([clean_cell(cell) for cell in row] for row in rows)]
    widths = [max(len(click.unstyle(row[column])) for row in cells) for column in range(len(headers))]
    for number, row in enumerate(cells):
        padded = [cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(padded).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def clean_cell(cell: str) -> str:
    """Our own colours stay: they are what `status_text` made of a known word."""
    plain = click.unstyle(cell)
    return cell if plain in COLOURS else clean(cell).replace("\n", " ")


def on_terminal() -> bool:
    """False too where standard output is closed."""
    return sys.stdout is not None and sys.stdout.isatty()
