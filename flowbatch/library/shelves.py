"""The library of a server: the workflows that lie in its folder, when each of them runs, and what came of the last look at it.

What was accepted under a name is a row of the store (its shelf), written in the transaction that makes the run: whatever happens between
two polls, a content runs exactly once, and a time of a schedule too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import InitVar, dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio.to_thread

from flowbatch.errors import FlowbatchError, InputError
from flowbatch.library.folder import ERRORS_SUFFIX, Found, Gone, Refused, WatchedFolder
from flowbatch.logs import Logger
from flowbatch.model.ids import Millis, RunId
from flowbatch.model.rows import ShelfRow
from flowbatch.model.status import RunStatus
from flowbatch.spec.cron import Missed, Overlap, Schedule, due

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

    async def submit(self, plan: Plan, shelf: ShelfRow) -> None:
        """The run and the row, in one transaction. Raises InputError where the engine refuses the run."""

    async def shelve(self, shelf: ShelfRow) -> None: ...

    def is_open(self, name: str) -> bool:
        """Whether a run that this file made has not ended."""

    async def result(self, run: RunId) -> tuple[RunStatus, dict[str, object]] | None:
        """How a run ended, and what `--json` shows of it; None while it goes on."""


Compile = Callable[
    [str, bytes, Mapping[str, str]], "Plan"
]  # (the file's name, its content, parameters); raises FlowbatchError
NO_PARAMS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(slots=True)
class Shelf:
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
        """Never returns. What goes wrong with the folder is said, and tried again."""
        complained = ""
        while True:
            try:
                await self.poll()
                complained = ""
            except OSError as error:
                if str(error) != complained:
                    complained = str(error)
                    log.error("library_unreadable", folder=str(self.folder.path), error=complained)
            await self.clock.sleep_until(Millis(self.clock.now() + POLL_MS))

    async def poll(self) -> None:
        """Raises OSError where a folder cannot be read or written."""
        for news in await anyio.to_thread.run_sync(self.folder.poll):
            match news:
                case Found():
                    await self._accept(news)
                case Refused():
                    self.folder.write_errors(news.name, f"{news.name}: {news.why}\n")
                case Gone():
                    await self._remove(news.name)
        if self.inbox is not None:
            await self._poll_inbox(self.inbox)
        for shelf in self.shelves.values():
            if shelf.plan is not None and shelf.plan.schedule is not None and not shelf.row.gone:
                await self._fire(shelf, shelf.plan.schedule)

    async def start(self, name: str, params: Mapping[str, str]) -> RunId:
        """Runs a workflow of the library now, whenever it would run by itself. Raises FlowbatchError."""
        shelf = self.shelves.get(name)
        if shelf is None or shelf.row.gone:
            raise InputError(f"there is no workflow {name!r} in the library")
        content = shelf.row.content.encode()
        plan = await anyio.to_thread.run_sync(self._compiled, name, content, params)
        row = shelf.row._replace(run=plan.run.id)
        await self.desk.submit(plan, row)
        shelf.row = row
        return plan.run.id

    # --- the files of the library

    async def _accept(self, found: Found) -> None:
        """Where the content is wrong, its errors stand beside it, and what was accepted before stays in force."""
        shelf = self.shelves.get(found.name)
        known = shelf is not None and shelf.row.digest == found.digest
        if shelf is not None and known and not shelf.row.gone:
            self.folder.clear_errors(found.name)
            return
        try:
            plan = await anyio.to_thread.run_sync(self._compiled, found.name, found.content)
            row = ShelfRow(found.name, found.digest, found.content.decode(), self.clock.now(), False, None)
            if plan.schedule is None and not plan.manual and not known:
                row = row._replace(run=plan.run.id)
                await self.desk.submit(plan, row)
            else:
                if shelf is not None and shelf.plan is not None and shelf.plan.schedule == plan.schedule:
                    row = row._replace(seen_at=shelf.row.seen_at)  # times that are still owed stay so
                await self.desk.shelve(row)
        except FlowbatchError as error:
            self.folder.write_errors(found.name, f"{error}\n")
            log.warning("library_refused", workflow=found.name, error=str(error))
            return
        self.folder.clear_errors(found.name)
        first_look = shelf is not None and shelf.first_look and row.seen_at == shelf.row.seen_at
        self.shelves[found.name] = Shelf(row, plan, first_look)

    async def _remove(self, name: str) -> None:
        """Ends the schedule, not the runs. The row stays: the same content put back is not run again."""
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
        for time in due(schedule, shelf.row.seen_at, now, was_down=False).times:
            if schedule.overlap is Overlap.ALLOW or not self.desk.is_open(shelf.row.name):
                await self._start(shelf, time)
            elif schedule.overlap is Overlap.QUEUE:
                return
            else:
                log.info("schedule_time_skipped", workflow=shelf.row.name, time=time)
                await self._shelve(shelf, seen_at=time)

    async def _start(self, shelf: Shelf, time: Millis) -> None:
        """A plan of its own for each time: the run's id is made with it, and a glob looks anew."""
        name = shelf.row.name
        try:
            plan = await anyio.to_thread.run_sync(self._compiled, name, shelf.row.content.encode())
            row = shelf.row._replace(seen_at=time, run=plan.run.id)
            await self.desk.submit(plan, row)
        except FlowbatchError as error:
            self.folder.write_errors(name, f"the run of its schedule could not start:\n{error}\n")
            log.error("schedule_start_refused", workflow=name, time=time, error=str(error))
            await self._shelve(shelf, seen_at=time)
        else:
            shelf.row = row

    # --- the drop box

    async def _poll_inbox(self, inbox: WatchedFolder) -> None:
        for news in await anyio.to_thread.run_sync(inbox.poll):
            match news:
                case Found():
                    await self._drop(inbox, news)
                case Refused():
                    inbox.write_errors(news.name, f"{news.name}: {news.why}\n")
                case Gone():
                    inbox.clear_errors(news.name)
        for row in list(self.drops.values()):
            await self._deliver(inbox, row)

    async def _drop(self, inbox: WatchedFolder, found: Found) -> None:
        """Runs now, whatever it says of a schedule."""
        name = INBOX + found.name
        known = self.drops.get(name)
        if known is not None:
            return  # it runs already: from before our start, or before its file was changed
        try:
            plan = await anyio.to_thread.run_sync(self._compiled, name, found.content)
            row = ShelfRow(name, found.digest, found.content.decode(), self.clock.now(), False, plan.run.id)
            await self.desk.submit(plan, row)
        except FlowbatchError as error:
            moved = inbox.move(found.name, FAILED)
            inbox.write_below(FAILED, moved + ERRORS_SUFFIX, f"{error}\n")
        else:
            self.drops[name] = row

    async def _deliver(self, inbox: WatchedFolder, row: ShelfRow) -> None:
        """The file of a run that has ended goes where its end says, with its result beside it."""
        ended = None if row.run is None else await self.desk.result(row.run)
        if ended is None:
            return
        status, result = ended
        below = DONE if status is RunStatus.SUCCEEDED else FAILED
        file = row.name.removeprefix(INBOX)
        try:
            file = inbox.move(file, below)
        except FileNotFoundError:
            pass  # taken away while it ran: its result is told all the same
        inbox.write_below(below, file + RESULT_SUFFIX, json.dumps(result, indent=2) + "\n")
        await self.desk.shelve(row._replace(gone=True))
        del self.drops[row.name]
