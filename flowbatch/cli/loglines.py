"""A line of a task's log on its way out: raw bytes for programs; for a terminal nothing that could drive it but colours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click
from msgspec import Struct

from flowbatch.cli.output import clean, json_text, on_terminal

if TYPE_CHECKING:
    from flowbatch.tasklogs import LogLine

BATCH_LINES: Final = 512
_COLOURS: Final = re.compile("(\x1b\\[[0-9;:]{0,64}m)")
_STREAMS: Final = {"o": "stdout", "e": "stderr"}


class Look(Struct, frozen=True):
    """How lines are printed, by the options of `logs`."""

    as_json: bool = False
    timestamps: bool = False
    stream: str | None = None  # "o" or "e": that one alone


def printer(look: Look, prefix: str, about: dict[str, object]) -> Callable[[LogLine], bytes]:
    """`prefix` stands before each line of text, `about` in each object."""
    if look.as_json:
        return lambda line: object_bytes(line, about)
    terminal = on_terminal()

    def text(line: LogLine) -> bytes:
        stamp = f"{stamp_text(line.at)} {line.stream} " if look.timestamps else ""
        body = shown(line.text) if terminal else line.text
        return (prefix + stamp).encode() + body + b"\n"

    return text


def print_lines(
    lines: Iterable[LogLine], look: Look, render: Callable[[LogLine], bytes], *, live: bool = False
) -> None:
    """In batches; each line at once where they come live."""
    batch: list[bytes] = []
    for line in lines:
        if look.stream is not None and line.stream != look.stream:
            continue
        batch.append(render(line))
        if live or len(batch) >= BATCH_LINES:
            click.echo(b"".join(batch), nl=False)
            batch.clear()
    if batch:
        click.echo(b"".join(batch), nl=False)


def shown(text: bytes) -> bytes:
    """Of a line that overwrites itself the last version; colours stay, and end with the line."""
    line = text.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
    parts = _COLOURS.split(line)
    if len(parts) == 1:
        return clean(line).encode()
    kept = "".join(part if number % 2 else clean(part) for number, part in enumerate(parts))
    return f"{kept}\x1b[0m".encode()


def stamp_text(at: int | None) -> str:
    if at is None:
        return "-"
    return datetime.fromtimestamp(at / 1000, tz=UTC).astimezone().isoformat(timespec="milliseconds")


def object_bytes(line: LogLine, about: dict[str, object]) -> bytes:
    body = {**about, "at": line.at, "stream": _STREAMS[line.stream], "text": line.text.decode("utf-8", "replace")}
    return json_text(body).encode() + b"\n"
