"""Brings the engine, its log and the dispatcher together. Nothing of it is imported or opened until there is somebody to tell."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct

from flowbatch.engine.loop import Engine
from flowbatch.engine.secrets import resolve
from flowbatch.model.ids import Millis, RunId
from flowbatch.model.notify import SinkProgress
from flowbatch.model.outcome import Outcome
from flowbatch.model.stimuli import OpenSinks, TellProgress
from flowbatch.ports import Clock
from flowbatch.settings import Settings

if TYPE_CHECKING:
    import aiohttp

    from flowbatch.hooks.addresses import Network
    from flowbatch.hooks.dispatcher import Dispatcher
    from flowbatch.hooks.health import Answer
    from flowbatch.hooks.lane import Owed
    from flowbatch.hooks.targets import Receivers
    from flowbatch.model.notify import Notify
    from flowbatch.store.tail import EventTail


class Silent(Struct, frozen=True):
    """A receiver that is told nothing at present, though it has not been told of everything."""

    name: str
    target: str
    behind: int  # events of the log; of those it may want some
    refused: int  # messages that are to be tried again
    why: str


STOP_S: Final = 5.0  # a full disk must not keep us from leaving
LOOK_MS: Final = 100  # at what is owed, where no news come


class Wires:
    """The ways out: receivers of a Notify, and the session that webhooks share, made when the first one is."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # whether it reaches public addresses alone
        self._left: list[aiohttp.ClientSession] = []  # of other settings: what is under way ends on them

    def receivers(self) -> Receivers:
        from flowbatch.hooks.targets import Receivers

        return Receivers(resolve, self._web_session, self._clock.now, self._networks)

    def _web_session(self, public: bool) -> aiohttp.ClientSession:
        from flowbatch.hooks.webhook import make_session

        if public not in self._sessions:
            self._sessions[public] = make_session([] if public else self._networks())
        return self._sessions[public]

    def _networks(self) -> list[Network]:
        return [ip_network(each) for each in self._settings.allow_networks]

    def change(self, settings: Settings) -> None:
        """For receivers that are made from now on."""
        self._left += self._sessions.values()
        self._settings, self._sessions = settings, {}

    async def close(self) -> None:
        for session in (*self._left, *self._sessions.values()):
            await session.close()


class Notices:
    """The dispatcher of a running engine, from the first moment on that a sink is open."""

    def __init__(self, database: Path, instance: str, settings: Settings, engine: Engine, clock: Clock) -> None:
        self._database = database
        self._instance = instance
        self._settings = settings
        self._engine = engine
        self._clock = clock
        self._tasks: TaskGroup
        self._dispatcher: Dispatcher | None = None
        self._tail: EventTail | None = None
        self._opening = False  # the first sink of this life is there, and the dispatcher not yet at work
        self._opened = anyio.Event()
        self._wires = Wires(settings, clock)
        self._known = False  # that there are receivers at all, in this life or before it

    async def start(self, tasks: TaskGroup, open_sinks: list[str], *, known: bool) -> None:
        """Sinks that earlier lives left open go on; those of the settings begin, or go on. `known`: there are any in the store, open or not."""
        self._tasks = tasks
        self._known = known or bool(self._settings.notify)
        if self._settings.notify:
            await self._engine.ask(lambda ticket: OpenSinks(ticket, self._settings.notify))
        ours = {each.name for each in self._settings.notify}
        keys = [key for key in open_sinks if "/" in key or key.partition("~")[0] in ours]
        keys += [name for name in ours if name not in keys]
        self._engine.observe(self._told)
        if keys:
            await self._open()
            assert self._dispatcher is not None
            self._dispatcher.start(keys)

    async def change(self, settings: Settings) -> None:
        """New receivers begin now, others go on as they are told to from here on, those that are gone stop; a run's own stay."""
        gone = {each.name for each in self._settings.notify} - {each.name for each in settings.notify}
        elsewhere = settings.allow_networks != self._settings.allow_networks
        self._settings = settings
        if elsewhere:
            self._wires.change(settings)
        await self._engine.ask(lambda ticket: OpenSinks(ticket, settings.notify, settings.children_logged))
        if self._dispatcher is not None:
            await self._dispatcher.leave(gone)
            if elsewhere:
                self._dispatcher.reload()

    def _told(self, outcome: Outcome) -> None:
        """After each durable turn."""
        if self._dispatcher is not None and self._tail is not None:
            if outcome.writes.new_jobs:
                self._tail.pin(outcome.writes)
            self._dispatcher.told(outcome.writes)
        elif outcome.writes.sinks and not self._opening:
            self._opening = self._known = True
            self._tasks.start_soon(self._open_late, name="dispatcher's start")

    async def _open_late(self) -> None:
        """The first sink of this life: what the store says is open by now, is."""
        try:
            await self._open()
            assert self._dispatcher is not None
            from_store = await self._dispatcher.events.open_sinks()
            ours = {each.name for each in self._settings.notify}
            self._dispatcher.start([key for key in from_store if "/" in key or key.partition("~")[0] in ours])
            self._opening = False
        finally:
            self._opened.set()

    async def _open(self) -> None:
        from flowbatch.hooks.dispatcher import Dispatcher
        from flowbatch.store.tail import EventTail

        self._tail = await EventTail.open(self._database)
        receivers = self._wires.receivers()
        make = partial(receivers.make, instance=self._instance)
        self._dispatcher = Dispatcher(
            self._tail, self._record, make, self._clock, self._instance, random.SystemRandom().random
        )
        await self._tasks.start(self._dispatcher.run, name="dispatcher")

    async def _record(self, progress: SinkProgress, run: int | None) -> bool:
        answer = await self._engine.ask(lambda ticket: TellProgress(ticket, progress, run))
        return answer.value is True

    async def try_now(self, _: Mapping[str, object]) -> list[dict[str, object]]:
        """A verb: what waits to be tried again, and digests, go now. Returns what is owed, by receiver."""
        if self._dispatcher is None:
            return []
        owed: list[dict[str, object]] = [
            {"sink": each.key, "messages": max(each.messages, 1), "error": each.error or None}
            for each in self._dispatcher.owed()
        ]
        self._dispatcher.flush()
        self._dispatcher.try_refused(set())
        return owed

    # --- the end

    def owed(self, runs: list[RunId]) -> list[Owed]:
        """What is not delivered yet of these runs: to their own receivers and to those of the settings."""
        every = [] if self._dispatcher is None else self._dispatcher.owed()
        return [each for each in every if "/" not in each.key or each.key.partition("/")[0] in runs]

    async def settle(self, runs: list[RunId], limit_ms: int, say: Callable[[list[Owed]], None]) -> list[Owed]:
        """Waits until nothing is owed of these runs, or until waiting longer is no use. `say`: once, where there is something
        to wait for. Returns what is still owed."""
        return await self._settle(lambda: self.owed(runs), limit_ms, say)

    def silent(self, runs: list[RunId] | None = None) -> list[Silent]:
        """Receivers that are disabled, or that the settings declare no more, and have not been told of everything: those of the settings,
        and of these runs (None: of all)."""
        if not self._known:
            return []
        from flowbatch.model.notify import SinkStatus
        from flowbatch.store.outbox import Outbox

        ours = {each.name for each in self._settings.notify}
        found = []
        with Outbox(self._database) as outbox:
            views = [
                (view, len(outbox.refusals(view).parked))
                for view in outbox.sinks()
                if view.status is not SinkStatus.CLOSED
            ]
        for view, refused in views:
            run, of_run, _ = view.key.partition("/")
            if not (view.lag or refused) or "~" in view.key or (of_run and runs is not None and run not in runs):
                continue
            if view.status is SinkStatus.DISABLED:
                why = f"disabled: {view.status_reason}; `flowbatch notify enable {view.name}` sends it all"
            elif not of_run and view.key not in ours:
                why = "the settings have no receiver of that name any more; it goes on where it is when they have one again"
            else:
                continue
            found.append(Silent(view.name, view.notify.target, view.lag, refused, why))
        return found

    async def settle_sinks(self, keys: set[str] | None, limit_ms: int, *, refused: bool = False) -> list[Owed]:
        """Likewise, of these sinks; None: of all. `refused`: what they have refused is sent to them once more, now."""

        def owed() -> list[Owed]:
            every = [] if self._dispatcher is None else self._dispatcher.owed()
            return [each for each in every if keys is None or each.key in keys]

        return await self._settle(owed, limit_ms, lambda _: None, refused=refused)

    async def _settle(
        self,
        owed_now: Callable[[], list[Owed]],
        limit_ms: int,
        say: Callable[[list[Owed]], None],
        *,
        refused: bool = False,
    ) -> list[Owed]:
        until, said = Millis(self._clock.now() + limit_ms), False
        tried: set[str] = set()
        if self._dispatcher is None and not self._opening:
            return []
        while True:
            dispatcher, owed = self._dispatcher, owed_now()
            if dispatcher is not None and not self._opening:
                dispatcher.flush()
                if refused:
                    dispatcher.try_refused(tried)
                    owed = owed_now()
                if not owed and not dispatcher.starting():
                    return []
            now = self._clock.now()
            if now >= until or (owed and all(each.next_at is not None and each.next_at > until for each in owed)):
                return owed
            if owed and not said:
                said = True
                say(owed)
            changed = anyio.Event() if dispatcher is None else dispatcher.changed
            await self._clock.wait(changed, min(until, Millis(now + LOOK_MS)))

    async def stop(self) -> None:
        """What was delivered is on disk when this returns: also what was on its way there."""
        if self._dispatcher is not None:
            await self._dispatcher.stop()
            with anyio.move_on_after(STOP_S):  # answered after all that was posted before it
                await self._engine.ask(lambda ticket: OpenSinks(ticket, ()))

    async def close(self) -> None:
        if self._opening:
            await self._opened.wait()  # what it has opened by then is closed here, and nowhere else
        if self._dispatcher is not None:
            await self._dispatcher.close()
        await self._wires.close()
        if self._tail is not None:
            await self._tail.close()


async def try_out(settings: Settings, clock: Clock, sink: Notify) -> Answer:
    """Sends it a test message at once, whatever its filter wants."""
    from flowbatch.hooks.health import Answer, Outcome
    from flowbatch.hooks.targets import Unready

    wires = Wires(settings, clock)
    try:
        target, forms = await wires.receivers().make(sink, "test")
        try:
            answer = Answer(Outcome.DELIVERED)
            for message in forms.tests(clock.now()):
                if answer.outcome is Outcome.DELIVERED:
                    answer = await target.send(message)
            return answer
        finally:
            await target.close()
    except Unready as error:
        return Answer(Outcome.ENDPOINT, 0, str(error))
    finally:
        await wires.close()
