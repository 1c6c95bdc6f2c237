"""The library of a server: the workflows that lie in its folder, when each of them runs, and what came of the last look at it.

What was accepted under a name is a row of the store (its shelf), written in the transaction that makes the run: whatever happens between
two polls, a content runs exactly once, and a time of a schedule too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import anyio.to_thread
from msgspec import Struct
from msgspec.structs import replace

from flowbatch.errors import FlowbatchError, InputError
from flowbatch.library.folder import ERRORS_SUFFIX, Changing, Found, Gone, News, Refused, WatchedFolder
from flowbatch.logs import Logger
from flowbatch.model.bucket import Bucket
from flowbatch.model.ids import Millis, RunId
from flowbatch.model.rows import ShelfRow
from flowbatch.model.status import RunStatus
from flowbatch.spec.cron import MISSED_MAX, Missed, Overlap, Schedule, due

if TYPE_CHECKING:
    from flowbatch.ports import Clock
    from flowbatch.spec.compile import Plan

log = Logger(__name__)

POLL_MS: Final = 1_000
INBOX: Final = "inbox/"
DONE: Final = "done"
FAILED: Final = "failed"
RESULT_SUFFIX: Final = ".result.json"


class Desk(Protocol):
    """What the library asks of the engine."""

    def allow(self, plan: Plan, name: str, content: bytes) -> None:
        """Raises InputError where the folder may not run this, ever."""

    def refuse(self, name: str, content: bytes, error: FlowbatchError) -> None:
        """Writes down that a file was not taken."""

    async def submit(self, plan: Plan, shelf: ShelfRow) -> None:
        """The run and the row, in one transaction. Raises InputError where it is not allowed, or the engine refuses it."""

    async def shelve(self, shelf: ShelfRow) -> None: ...

    def is_open(self, name: str) -> bool:
        """Whether a run that this file made has not ended."""

    async def result(self, run: RunId) -> tuple[RunStatus, dict[str, object]] | None:
        """How a run ended, and what `--json` shows of it; None while it goes on."""


Compile = Callable[
    [str, bytes, Mapping[str, str]], "Plan"
]  # (the file's name, its content, parameters); raises FlowbatchError
NO_PARAMS: Final[Mapping[str, str]] = MappingProxyType({})


class Shelf(Struct):
    """A file of the library. `plan` is that of its last good content; None: it is gone, or no longer understood."""

    row: ShelfRow
    plan: Plan | None = None
    first_look: bool = True  # times up to now may have passed while no server ran


@dataclass(slots=True)
class Library:
    """`rows`: what the store holds. `folder` and `inbox` are open; without an inbox there is no drop box."""

    folder: WatchedFolder
    inbox: WatchedFolder | None
    compile: Compile
    desk: Desk
    clock: Clock
    rows: InitVar[Iterable[ShelfRow]] = ()
    pace: Bucket | None = None  # what comes faster waits its turn
    turn: anyio.Lock = field(init=False, default_factory=anyio.Lock)  # one at a time looks, or starts
    complaints: dict[str, str] = field(init=False, default_factory=dict)  # of what could not be written, by name
    waiting: dict[str, Found] = field(init=False, default_factory=dict)  # by name; of the drop box with `inbox/`
    shelves: dict[str, Shelf] = field(init=False)
    drops: dict[str, ShelfRow] = field(init=False)  # files of the drop box whose runs go on

    def __post_init__(self, rows: Iterable[ShelfRow]) -> None:
        self.shelves, self.drops = {}, {}
        for row in rows:
            if row.name.startswith(INBOX):
                if not row.gone:
                    self.drops[row.name] = row
            else:
                self.shelves[row.name] = shelf = Shelf(row)
                if not row.gone:
                    self._restore(shelf)
        self.folder.expect(name for name, shelf in self.shelves.items() if not shelf.row.gone)

    def _restore(self, shelf: Shelf) -> None:
        """The last good version stays in force, whatever lies in the folder by now."""
        try:
            shelf.plan = self._compiled(shelf.row.name, shelf.row.content.encode())
        except FlowbatchError as error:
            log.warning("library_version_refused", workflow=shelf.row.name, error=str(error))

    def _compiled(self, name: str, content: bytes, params: Mapping[str, str] = NO_PARAMS) -> Plan:
        plan = self.compile(name, content, params)
        return replace(plan, run=replace(plan.run, origin=name))

    async def run(self) -> None:
        """Never returns. What goes wrong with the disk is said, and tried again."""
        while True:
            try:
                await self.poll()
            except OSError as error:
                self._complain("library_failed", str(self.folder.path), error)
            await self.clock.sleep_until(Millis(self.clock.now() + POLL_MS))

    async def poll(self) -> None:
        async with self.turn:
            await self._poll()

    async def _news_of(self, folder: WatchedFolder) -> list[News]:
        """None of a folder that cannot be read. That is said once, and tried again; meanwhile what was accepted stays in force."""
        where = str(folder.path)
        try:
            news = await anyio.to_thread.run_sync(folder.poll)
        except OSError as error:
            self._complain("library_unreadable", where, error)
            return []
        if self.complaints.pop(where, None) is not None:
            log.info("library_readable", folder=where)
        return news

    async def _poll(self) -> None:
        for news in await self._news_of(self.folder):
            match news:
                case Found():
                    self.waiting[news.name] = news
                case Refused():
                    self.waiting.pop(news.name, None)
                    self._refuse(news.name, b"", InputError(f"{news.name}: {news.why}"))
                case Gone():
                    self.waiting.pop(news.name, None)
                    await self._remove(news.name)
        if self.inbox is not None:
            await self._look_into(self.inbox)
        for name in list(self.waiting):
            if self._has_its_turn_later(name):
                continue
            if not (self._is_known(name) or self._may_start()):
                break
            found = self.waiting.pop(name)
            if self.inbox is not None and name.startswith(INBOX):
                await self._drop(self.inbox, found)
            else:
                await self._accept(found)
        if self.inbox is not None:
            for row in list(self.drops.values()):
                with self._beside(row.name):
                    await self._deliver(self.inbox, row)
        for shelf in self.shelves.values():
            if shelf.plan is not None and shelf.plan.schedule is not None and not shelf.row.gone:
                await self._fire(shelf, shelf.plan.schedule)

    def files(self) -> list[dict[str, Any]]:
        """Those that are there, by name; `understood`: a version of it is in force."""
        return [
            {
                "file": name,
                "folder": str(self.folder.path),
                "understood": shelf.plan is not None,
                "start": None if shelf.plan is None else start_of(shelf.plan),
                "last_run": shelf.row.run,
            }
            for name, shelf in sorted(self.shelves.items())
            if not shelf.row.gone
        ]

    def _is_known(self, name: str) -> bool:
        """Whether what waits under that name was accepted already, and nothing will come of it."""
        shelf = self.shelves.get(name)
        return shelf is not None and not shelf.row.gone and shelf.row.digest == self.waiting[name].digest

    def _has_its_turn_later(self, name: str) -> bool:
        """Something else was dropped under the name of what still runs: it waits until that has its result."""
        running = self.drops.get(name)
        return running is not None and running.digest != self.waiting[name].digest

    def _may_start(self) -> bool:
        return self.pace is None or self.pace.take(self.clock.now())

    @contextmanager
    def _beside(self, name: str) -> Iterator[None]:
        """What cannot be written beside one file, whatever somebody put in its place, is said once, and holds up no other."""
        try:
            yield
        except OSError as error:
            self._complain("library_not_written", name, error)
        else:
            self.complaints.pop(name, None)

    def _complain(self, event: str, about: str, error: OSError) -> None:
        """Once, until it goes or becomes another."""
        if self.complaints.get(about) != str(error):
            self.complaints[about] = str(error)
            log.error(event, about=about, error=str(error))

    def _refuse(self, name: str, content: bytes, error: FlowbatchError) -> None:
        """Told beside the file, and written down as a call that failed."""
        with self._beside(name):
            self.folder.write_errors(name, f"{error}\n")
        self.desk.refuse(name, content, error)
        log.warning("library_refused", workflow=name, error=str(error))

    async def start(self, name: str, params: Mapping[str, str]) -> RunId:
        """Runs a workflow of the library now, whenever it would run by itself. Raises FlowbatchError."""
        async with self.turn:
            shelf = self.shelves.get(name)
            if shelf is None or shelf.row.gone:
                raise InputError(f"there is no workflow {name!r} in the library")
            content = shelf.row.content.encode()
            try:
                plan = await anyio.to_thread.run_sync(self._compiled, name, content, params)
                row = shelf.row._replace(run=plan.run.id)
                await self.desk.submit(plan, row)
            except FlowbatchError as error:
                self.desk.refuse(name, content, error)
                raise
            shelf.row = row
            return plan.run.id

    # --- the files of the library

    async def _accept(self, found: Found) -> None:
        """Where the content is wrong, its errors stand beside it, and what was accepted before stays in force."""
        shelf = self.shelves.get(found.name)
        known = shelf is not None and shelf.row.digest == found.digest
        if shelf is not None and known and not shelf.row.gone:
            with self._beside(found.name):
                self.folder.clear_errors(found.name)
            return
        try:
            plan = await anyio.to_thread.run_sync(self._compiled, found.name, found.content)
            row = ShelfRow(found.name, found.digest, found.content.decode(), self.clock.now(), False, None)
            if plan.schedule is None and not plan.manual and not known:
                row = row._replace(run=plan.run.id)
                await self.desk.submit(plan, row)
            else:
                self.desk.allow(plan, found.name, found.content)
                if shelf is not None and shelf.plan is not None and shelf.plan.schedule == plan.schedule:
                    row = row._replace(seen_at=shelf.row.seen_at, queued=shelf.row.queued)  # what is owed stays so
                await self.desk.shelve(row)
        except FlowbatchError as error:
            self._refuse(found.name, found.content, error)
            return
        for each in plan.warnings:
            log.warning("library_warning", workflow=found.name, warning=str(each))
        with self._beside(found.name):
            self.folder.clear_errors(found.name)
        first_look = shelf is not None and shelf.first_look and row.seen_at == shelf.row.seen_at
        self.shelves[found.name] = Shelf(row, plan, first_look)

    async def _remove(self, name: str) -> None:
        """Ends the schedule, not the runs. The row stays: the same content put back is not run again."""
        with self._beside(name):
            self.folder.clear_errors(name)
        shelf = self.shelves.get(name)
        if shelf is not None and not shelf.row.gone:
            await self._shelve(shelf, gone=True)
            shelf.plan = None

    async def _shelve(self, shelf: Shelf, **changes: Any) -> None:
        row = shelf.row._replace(**changes)
        await self.desk.shelve(row)
        shelf.row = row

    # --- schedules

    async def _fire(self, shelf: Shelf, schedule: Schedule) -> None:
        now = self.clock.now()
        if shelf.first_look:
            owed = due(schedule, shelf.row.seen_at, now, was_down=True)
            if owed.passed_over:
                log.warning("schedule_times_passed_over", workflow=shelf.row.name, count=owed.passed_over)
            # From here on all that lies ahead is owed.
            await self._shelve(shelf, seen_at=Millis(owed.times[0] - 1) if owed.times else now)
            shelf.first_look = False
        if schedule.overlap is Overlap.QUEUE:
            schedule = replace(schedule, missed=Missed.ALL)  # a time that waits for its turn is not missed
            await self._queue(shelf, due(schedule, shelf.row.seen_at, now, was_down=False).times)
            if shelf.row.queued and not self.desk.is_open(shelf.row.name) and self._may_start():
                await self._start(shelf, shelf.row.queued[0])
            return
        for time in due(schedule, shelf.row.seen_at, now, was_down=False).times:
            if schedule.overlap is Overlap.ALLOW or not self.desk.is_open(shelf.row.name):
                if not self._may_start():
                    return  # the time is still owed
                await self._start(shelf, time)
            else:
                log.info("schedule_time_skipped", workflow=shelf.row.name, time=time)
                await self._shelve(shelf, seen_at=time)

    async def _queue(self, shelf: Shelf, times: tuple[Millis, ...]) -> None:
        """They wait for their turn, whatever becomes of this server."""
        if not times:
            return
        room = max(MISSED_MAX - len(shelf.row.queued), 0)
        if len(times) > room:
            log.warning("schedule_times_passed_over", workflow=shelf.row.name, count=len(times) - room)
        await self._shelve(shelf, seen_at=times[-1], queued=(*shelf.row.queued, *times[:room]))

    async def _start(self, shelf: Shelf, time: Millis) -> None:
        """A plan of its own for each time: the run's id is made with it, and a glob looks anew."""
        name, before = shelf.row.name, shelf.row
        dealt = before._replace(
            seen_at=max(before.seen_at, time), queued=tuple(each for each in before.queued if each != time)
        )
        try:
            plan = await anyio.to_thread.run_sync(self._compiled, name, before.content.encode())
            row = dealt._replace(run=plan.run.id)
            await self.desk.submit(plan, row)
        except FlowbatchError as error:
            with self._beside(name):
                self.folder.write_errors(name, f"the run of its schedule could not start:\n{error}\n")
            self.desk.refuse(name, before.content.encode(), error)
            log.error("schedule_start_refused", workflow=name, time=time, error=str(error))
            await self._shelve(shelf, seen_at=dealt.seen_at, queued=dealt.queued)
        else:
            shelf.row = row

    # --- the drop box

    async def _look_into(self, inbox: WatchedFolder) -> None:
        for news in await self._news_of(inbox):
            match news:
                case Found():
                    self.waiting[INBOX + news.name] = news
                case Refused():
                    self.waiting.pop(INBOX + news.name, None)
                    with self._beside(INBOX + news.name):
                        inbox.write_errors(news.name, f"{news.name}: {news.why}\n")
                    self.desk.refuse(INBOX + news.name, b"", InputError(news.why))
                case Gone():
                    self.waiting.pop(INBOX + news.name, None)
                    with self._beside(INBOX + news.name):
                        inbox.clear_errors(news.name)

    async def _drop(self, inbox: WatchedFolder, found: Found) -> None:
        """Runs now, whatever it says of a schedule."""
        name = INBOX + found.name
        known = self.drops.get(name)
        if known is not None:
            return  # it runs already, from before our start
        try:
            plan = await anyio.to_thread.run_sync(self._compiled, name, found.content)
            row = ShelfRow(name, found.digest, found.content.decode(), self.clock.now(), False, plan.run.id)
            await self.desk.submit(plan, row)
        except FlowbatchError as error:
            self.desk.refuse(name, found.content, error)
            with self._beside(name):
                moved = inbox.move(found.name, FAILED)
                inbox.write_below(FAILED, moved + ERRORS_SUFFIX, f"{error}\n")
        else:
            self.drops[name] = row

    async def _deliver(self, inbox: WatchedFolder, row: ShelfRow) -> None:
        """The file of a run that has ended goes where its end says, with its result beside it; where another content has its name by
        now, a copy of what ran does."""
        ended = None if row.run is None else await self.desk.result(row.run)
        if ended is None:
            return
        status, result = ended
        below = DONE if status is RunStatus.SUCCEEDED else FAILED
        file = row.name.removeprefix(INBOX)
        try:
            file = inbox.move(file, below, digest=row.digest)
        except FileNotFoundError:
            pass  # taken away while it ran: its result is told all the same
        except Changing:
            file = inbox.keep(below, file, row.content)
        inbox.write_below(below, file + RESULT_SUFFIX, json.dumps(result, indent=2) + "\n")
        await self.desk.shelve(row._replace(gone=True))
        del self.drops[row.name]


def start_of(plan: Plan) -> str:
    if plan.schedule is not None:
        return "schedule"
    return "manual" if plan.manual else "change"
