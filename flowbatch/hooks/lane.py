"""A lane: one sink at work. It reads after its cursor, sends, and has it written how far it is.

What to do is decided in `window` and `digest`; here is the IO around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct
from msgspec.json import encode

from flowbatch.hooks.backlog import Parcel
from flowbatch.hooks.digest import Closed, DigestWindow
from flowbatch.hooks.filters import Sieve
from flowbatch.hooks.forms import BATCH_BYTES, Forms, Message
from flowbatch.hooks.health import Answer, Health, Outcome
from flowbatch.hooks.targets import LINES_AT_ONCE, Target, Unready
from flowbatch.hooks.window import WIDTH, Window
from flowbatch.hooks.words import Tally
from flowbatch.logs import Logger
from flowbatch.model.events import LoggedEvent
from flowbatch.model.ids import Millis
from flowbatch.ports import StoredSink

if TYPE_CHECKING:
    from flowbatch.hooks.dispatcher import Dispatcher

log = Logger(__name__)

PAGE: Final = 256
COMMANDS_AT_ONCE: Final = 4


class Owed(Struct, frozen=True):
    """What a sink has not delivered yet."""

    key: str
    target: str
    messages: int  # read already; there may be more behind them
    more: bool
    error: str
    next_at: Millis | None


class Lane:
    """One sink at work."""

    def __init__(self, dispatcher: Dispatcher, stored: StoredSink) -> None:
        notify = stored.row.notify
        self.key = stored.row.key
        self.notify = notify
        self.run_no = stored.row.run
        self._dispatcher = dispatcher
        self._clock = dispatcher.clock
        self._stored = stored
        self._target: Target | None = None
        self._forms = Forms(dispatcher.instance, notify.form, final=notify.filter.final)
        self._sieve = Sieve(notify.filter, self.key)
        self._making = anyio.Lock()
        self._event = anyio.Event()
        self._news = False
        self._again = False  # its row has changed: begin anew
        self._stopping = False
        self.restored = False  # what an earlier life had parked is known
        self._tasks: TaskGroup | None = None
        health = Health.of(stored.trouble)
        self.window: Window | DigestWindow
        if notify.digest_ms is not None:
            self.window = DigestWindow(self.key, stored.cursor, notify.digest_ms, health, stored.row.until, self.run_no)
        else:
            batch, width = notify.batch, 1 if notify.rate is not None else WIDTH
            if notify.jsonl is not None:
                batch, width = max(batch, LINES_AT_ONCE), 1
            elif notify.command is not None:
                width = COMMANDS_AT_ONCE
            self.window = Window(
                self.key, stored.cursor, health, width, batch, notify.rate, stored.row.until, self.run_no
            )
        if stored.run_over is not None and stored.row.until is None:
            self.window.over_at = stored.run_over

    # --- what others may do

    def woken(self) -> None:
        self._news = True
        self.window.woken()
        self._event.set()

    def reload(self) -> None:
        self._again = True
        self._event.set()

    def flush(self) -> None:
        if isinstance(self.window, DigestWindow):
            self.window.flush()
            self._event.set()

    def idle(self) -> bool:
        """What its row says now, it may owe."""
        return not self._again and self.window.idle()

    def try_refused(self) -> bool:
        """Whether what an earlier life had parked is known, and due now; so is a receiver that fails."""
        if self.restored:
            self.window.try_refused(self._clock.now())
            self.window.health.hasten(self._clock.now())
            self._event.set()
        return self.restored

    def owed(self) -> Owed:
        window = self.window
        return Owed(self.key, self.notify.target, window.owed(), window.more, *window.trouble())

    async def stop(self) -> None:
        self._stopping = True
        self._event.set()
        if self._tasks is None:
            return  # it has not begun
        self._tasks.cancel_scope.cancel()
        self.window.draft.writing = False  # one that was on its way has been posted, and goes first
        self.window.rests(self._clock.now())
        progress = self.window.progress(self._clock.now(), at_once=True)
        if progress is not None:
            await self._dispatcher.record(progress, self.run_no)

    # --- its task

    async def run(self) -> bool:
        """Returns when the sink is over; True where it is to begin anew by its row."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            await self._restore()
            self.restored, over = True, False
            while not over and not self._stopping and not (self._again and not self.window.draft.writing):
                event = self._event
                if event.is_set():
                    event = self._event = anyio.Event()
                await self._read()
                self._pump()
                over = await self._persist()
                if not over and not event.is_set() and not self.window.wants():
                    await self._clock.wait(event, self.window.next_at())
            tasks.cancel_scope.cancel()
        if self._again and not over:
            await self._persist(at_once=True)  # what was answered is not sent again
        if self._target is not None:
            await self._target.close()
        return self._again

    async def _restore(self) -> None:
        """What an earlier life had parked, and the digest that was on its way; digests that are wanted again."""
        window = self.window
        if isinstance(window, Window):
            window.restore(await self._dispatcher.events.parked(self.key), self._clock.now())
            return
        if self._stored.digest is not None:
            first, last = self._stored.digest
            window.restore(await self._closed_again(first, last), self._clock.now())
        for row, _ in await self._dispatcher.events.parked(self.key):
            first = row.seq if row.first is None else row.first  # None: of a sink that got no digests then
            window.revive(await self._closed_again(first, row.seq), self._clock.now())

    async def _closed_again(self, first: int, last: int) -> Closed:
        tally, after = Tally(), first - 1
        while after < last:
            page = await self._dispatcher.events.page(after, PAGE, until=last, run=self.run_no)
            for event in page.events:
                if self._wants(event):
                    tally.add(event)
            after = page.to if page.more else last
        return Closed(first, last, tally.last.row.at if tally.last is not None else Millis(0), tally)

    def _wants(self, event: LoggedEvent) -> bool:
        return self._sieve.wants(event) and self._forms.speaks(event)

    async def _read(self) -> None:
        """One page, where there is room for one."""
        window, until = self.window, self._stored.row.until
        room = window.wants()
        if room:
            self._news = False  # what is committed from here on
            page = await self._dispatcher.events.page(window.read_to, min(room, PAGE), until=until, run=self.run_no)
            more = self._news or page.more
            flags = [self._wants(event) for event in page.events]
            window.read(page.events, flags, page.to, more, page.gaps, self._clock.now())

    def _pump(self) -> None:
        if not self._stopping and self._tasks is not None:
            for parcel in self.window.due(self._clock.now()):
                self._tasks.start_soon(self._send, parcel)

    async def _persist(self, *, at_once: bool = False) -> bool:
        """Whether the sink is over."""
        progress = self.window.progress(self._clock.now(), at_once=at_once)
        if progress is None:
            return False
        if progress.disable is not None:
            log.warning("sink_disabled", sink=self.key, reason=progress.disable)
        closed = await self._dispatcher.record(progress, self.run_no)
        self._dispatcher.stirred()
        return self.window.persisted(closed=closed)

    async def _send(self, parcel: Parcel | Closed) -> None:
        """And what is due after it: a task does not end for the next one to be born."""
        following: Sequence[Parcel | Closed] = [parcel]
        while following:
            parcel, *others = following
            for other in others:
                assert self._tasks is not None
                self._tasks.start_soon(self._send, other)
            await self._send_one(parcel)
            self._event.set()
            following = [] if self._stopping else self.window.due(self._clock.now())

    async def _send_one(self, parcel: Parcel | Closed) -> None:
        window, clock = self.window, self._clock
        try:
            target = await self._ready()
        except Unready as error:
            answer = Answer(Outcome.ENDPOINT, 0, str(error))
        else:
            answer = await self._answer(target, parcel)
            if answer.status in (401, 403) or (answer.status == 400 and self.notify.sign):
                self._target = None  # the secret may have been changed: it is read again
        if answer.outcome is not Outcome.DELIVERED:
            log.info("delivery_failed", sink=self.key, status=answer.status, error=answer.error)
        if isinstance(window, Window):
            assert isinstance(parcel, Parcel)
            window.answered(parcel, answer, clock.now(), self._dispatcher.draw())
        else:
            assert isinstance(parcel, Closed)
            window.answered(parcel, answer, clock.now(), self._dispatcher.draw())

    async def _answer(self, target: Target, parcel: Parcel | Closed) -> Answer:
        """A batch may be more than one request takes: they go one after the other, and are answered as one."""
        messages = self._messages(parcel)
        for message in messages[:-1]:
            answer = await target.send(message)
            if answer.outcome is not Outcome.DELIVERED:
                return answer
        return await target.send(messages[-1])

    async def _ready(self) -> Target:
        if self._target is not None:
            return self._target
        async with self._making:
            if self._target is None:
                self._target, self._forms = await self._dispatcher.make(self.notify)
            return self._target

    def _messages(self, parcel: Parcel | Closed) -> list[Message]:
        forms = self._forms
        if isinstance(parcel, Closed):
            # What it counts and how it says so is a part of what it is: with another filter or form it is another digest.
            what = f"{self.key} {self.notify.form} {encode(self.notify.filter).decode()}"
            return [forms.digest(what, parcel.first, parcel.last, parcel.tally, parcel.at)]
        events = [entry.event for entry in parcel.entries]
        if self.notify.jsonl is None and self.notify.batch == 1:
            message = forms.message(events[0])
            assert message is not None, "what the form has nothing to say to is not wanted"
            return [message]
        made = forms.lines if self.notify.jsonl is not None else forms.batch
        return [made(some, bodies) for some, bodies in in_requests(events, [forms.encoded(event) for event in events])]


def in_requests(events: list[LoggedEvent], bodies: list[bytes]) -> list[tuple[list[LoggedEvent], list[bytes]]]:
    """Of at most BATCH_BYTES each; one event alone is always less."""
    found: list[tuple[list[LoggedEvent], list[bytes]]] = []
    size = BATCH_BYTES
    for event, body in zip(events, bodies, strict=True):
        size += len(body) + 1
        if size > BATCH_BYTES:
            found.append(([], []))
            size = len(body) + 2
        found[-1][0].append(event)
        found[-1][1].append(body)
    return found
