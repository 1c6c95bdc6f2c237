"""`events`: the event log, from a point on, followed where it is asked."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import COLOURS, clean, print_json, time_text
from flowbatch.errors import InputError
from flowbatch.model.events import EventKind, EventRow, facts_of, kind_of
from flowbatch.model.status import RunStatus

if TYPE_CHECKING:
    from flowbatch.cli.records import Records
    from flowbatch.store.results import Event, RunView

POLL_SECONDS: Final = 0.5
PAGE: Final = 1000
SHOWN: Final = 100


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on as events come; with --run until that run has ended.")
@click.option("--since", metavar="SEQ|TIME|AGE", help="After this number, 2026-01-31T10:00, or 10m ago.")
@click.option("--run", "run_name", metavar="RUN", help="Of this run alone.")
@click.option("--limit", type=click.IntRange(1), help=f"At most so many.  [default: the newest {SHOWN}]")
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@click.pass_obj
def events(
    place: Place, follow: bool, since: str | None, run_name: str | None, limit: int | None, as_json: bool
) -> int:
    """Print the event log: runs, jobs, nodes, what blocks a queue, deliveries, and where somebody asks for them children of arrays."""
    with place.records() as reader:
        run = None if run_name is None else reader.run(run_name)
        if place.server is None and not place.settings.child_events:
            text = "Of arrays only those runs log children that have a receiver for them; `events: {children: ends}` in the settings logs all from then on."
            click.echo(text, err=True)
        after, found = begin(reader, run, since, limit)
        for event in found:
            print_event(event, as_json=as_json)
            after = max(after, event.seq)
        if follow:
            if place.channel is not None:
                from flowbatch.remote.events import told

                found = told(place.channel, after, run)
            else:
                found = news(reader, after, run, lambda: time.sleep(POLL_SECONDS))
            for event in found:
                print_event(event, as_json=as_json)
    return 0


def begin(reader: Records, run: RunView | None, since: str | None, limit: int | None) -> tuple[int, Iterable[Event]]:
    """Where to go on from, and what to print before: the first after `since`, or the newest."""
    last = reader.last_seq()
    if since is not None:
        after = seq_of(reader, since)
        return max(after, last), islice(stored(reader, after, run), limit)
    limit = limit or SHOWN
    if run is None:
        return last, stored(reader, max(last - limit, 0), None)
    return last, deque(stored(reader, 0, run), maxlen=limit)


def stored(reader: Records, after: int, run: RunView | None) -> Iterator[Event]:
    """All there are by now, a page at a time."""
    while True:
        page = reader.events(after=after, run=run, limit=PAGE)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].seq


def news(reader: Records, after: int, run: RunView | None, pause: Callable[[], None]) -> Iterator[Event]:
    """Never ends without a run; with one, once that has ended and all of its events are out."""
    while True:
        over = run is not None and reader.run(run.id).status is not RunStatus.RUNNING
        for event in stored(reader, after, run):
            after = event.seq
            yield event
        if over:
            return
        pause()


def seq_of(reader: Records, since: str) -> int:
    """The number after which to begin."""
    if since.isascii() and since.isdigit():
        return int(since)
    at = time_of(since)
    low, high = 0, reader.last_seq()
    while low < high:  # numbers have gaps where runs were collected: the next one there is stands for them
        middle = (low + high) // 2
        page = reader.events(after=middle, limit=1)
        if page and page[0].row.at < at:
            low = page[0].seq
        else:
            high = middle
    return low


def time_of(text: str) -> int:
    """Epoch milliseconds of `2026-01-31T10:00` (local unless it says otherwise), or of `10m` ago."""
    from datetime import datetime

    from flowbatch.clock import SystemClock
    from flowbatch.spec.quantities import duration_ms

    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        pass  # an age then
    try:
        return SystemClock().now() - duration_ms(text)
    except ValueError:
        raise InputError(f"--since {text}: give a number, a time (2026-01-31T10:00) or an age (10m)") from None


def event_object(event: Event) -> dict[str, object]:
    row = event.row
    return {
        "id": event.id,
        "seq": event.seq,
        "at": row.at,
        "kind": kind_of(event.row),
        "run": event.run_id,
        "job": event.job,
        "job_id": event.job_id,
        "index": row.idx,
        "attempt": row.attempt,
        "exit_code": row.exit_code,
        "reason": row.reason,
        "status_reason": row.status_reason,
        "detail": facts_of(row),
    }


def print_event(event: Event, *, as_json: bool) -> None:
    if as_json:
        print_json(event_object(event))
        return
    row = event.row
    kind = kind_of(row)
    where = "-" if event.run_id is None else event.run_id[:8]
    where += f"/{event.job}" if event.job is not None else ""
    where += f"{'@' if row.kind is EventKind.NODE else ':'}{row.idx}" if row.idx is not None else ""
    where += f"#{row.attempt}" if row.attempt is not None else ""
    if row.kind is EventKind.SINK:
        where += f"  {told_sink(row)}"
    words = [f"exit {row.exit_code}"] if row.exit_code else []
    words += [reason for reason in (row.reason or row.status_reason,) if reason and not kind.endswith("succeeded")]
    colour = COLOURS.get(kind.partition(".")[2].upper())
    told = clean(f"{where}  {', '.join(words)}".rstrip()).replace("\n", " ")
    click.echo(f"{event.seq:>6}  {time_text(row.at)}  {click.style(kind.ljust(15), fg=colour)}  {told}")


def told_sink(row: EventRow) -> str:
    """`1a2b3c4d/slack, events 4..9`."""
    facts = facts_of(row) or {}
    run, slash, name = str(facts.get("sink", "?")).rpartition("/")
    numbers = f", events {facts['first']}..{facts['last']}" if "first" in facts else ""
    numbers += f", event {facts['seq']}, {facts['tries']} tries" if "seq" in facts else ""
    return f"{run[:8]}{slash}{name}{numbers}"
