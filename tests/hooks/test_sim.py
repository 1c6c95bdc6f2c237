"""I6 over many worlds, and bugs planted to see that the laws find them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from flowbatch.hooks.backlog import Backlog, Entry, Parcel, Stream
from flowbatch.hooks.digest import Closed, DigestWindow
from flowbatch.hooks.health import Answer
from flowbatch.hooks.window import Window
from flowbatch.model.events import LoggedEvent
from flowbatch.model.ids import Millis
from flowbatch.model.notify import SinkProgress
from tests.hooks.sim import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEEDS = 150
PLANTED_SEEDS = 400


def test_every_event_arrives_in_order_or_somebody_says_so() -> None:
    worlds = []
    for seed in range(SEEDS):
        try:
            worlds.append(World(seed).run())
        except AssertionError as error:
            raise AssertionError(f"python -m tests.hooks.sim {seed}: {error}") from error
    assert sum(bool(world.disk.dead) for world in worlds) > 3, "no world had a dead letter"
    assert sum(world.epoch > 1 for world in worlds) > 20, "no world had a crash"
    assert sum(any(count > 1 for count in world.delivered.values()) for world in worlds) > 20, "nothing came twice"
    assert sum(world.is_digest for world in worlds) > 10
    assert sum(bool(world.revived) for world in worlds) > 2, "no digest was asked for again"
    assert sum(bool(world.revived & world.delivered.keys()) for world in worlds) > 1, "none came then"
    assert sum(world.disk.disabled is not None for world in worlds) < SEEDS // 5


class CursorPassesWhatFlies(Window):
    def settled_to(self) -> int:
        return self.read_to


class NotBusy(Window):
    def due(self, now: Millis) -> list[Parcel]:
        found, backlog = super().due(now), self.backlog
        backlog.busy.clear()
        for stream in list(backlog.streams):
            if stream not in backlog.ready:
                backlog.ready.append(stream)
        return found


class AtTheEnd(Backlog):
    def again(self, parcel: Parcel, *, front: bool) -> None:
        super().again(parcel, front=front)
        for entry in parcel.entries:
            waiting = self.streams.get(entry.stream)
            if waiting and len(waiting) > 1:
                waiting.append(waiting.popleft())


class FailedGoesToTheEnd(Window):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.backlog = AtTheEnd()


class FollowersOvertake(Window):
    def _take(self, event: LoggedEvent, now: Millis) -> None:
        blocked, self.backlog.blocked = self.backlog.blocked, {}
        try:
            super()._take(event, now)
        finally:
            self.backlog.blocked = blocked


class ForgetsTheDead(Window):
    def progress(self, now: Millis, *, at_once: bool = False) -> SinkProgress | None:
        self.draft.dead.clear()
        return super().progress(now, at_once=at_once)


class ForgetsToPark(Window):
    def progress(self, now: Millis, *, at_once: bool = False) -> SinkProgress | None:
        self.draft.park.clear()
        return super().progress(now, at_once=at_once)


class GivesUpAtOnce(Window):
    def _refused(self, entry: Entry, *rest: object) -> None:
        entry.tries = 9
        super()._refused(entry, *rest)  # type: ignore[arg-type]


class ClosesEarly(Window):
    def finished(self) -> bool:
        return self.over_at is not None and self.read_to >= self.over_at


class Asleep(Backlog):
    def parked_due(self, now: Millis) -> Parcel | None:
        return None


class NeverWakesParked(Window):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.backlog = Asleep()


class Losing(Backlog):
    def free(self, stream: Stream) -> None:
        super().free(stream)
        if len(self.ready) > 3:
            self.ready.pop()


class LosesFreed(Window):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.backlog = Losing()


class Spins(Window):
    def next_at(self) -> Millis | None:
        found = super().next_at()
        return Millis(0) if self.flying and self.backlog.blocked else found


class ForgetsRetryAfter(Window):
    def due(self, now: Millis) -> list[Parcel]:
        self.health.held_until = Millis(0)
        return super().due(now)


class InFront(Backlog):
    def again(self, parcel: Parcel, *, front: bool) -> None:
        super().again(parcel, front=True)


class ProbesTheSame(Window):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.backlog = InFront()


class SendsUnstored(DigestWindow):
    def due(self, now: Millis) -> list[Closed]:
        self.stored = self.closed is not None
        return super().due(now)


class EndsBeforeTheRevived(DigestWindow):
    def finished(self) -> bool:
        return self.over_at is not None and self.settled_to() >= self.over_at

    def idle(self) -> bool:
        return not (self.more or self.tally.events or self.closed)


class RevivedStays(DigestWindow):
    def _settled(self, closed: Closed, now: Millis) -> None:
        super()._settled(closed, now)
        self.draft.unpark.clear()


class RevivedIsWhole(DigestWindow):
    """Its first event is forgotten when it is given up."""

    def answered(self, closed: Closed, answer: Answer, now: Millis, draw: float) -> None:
        super().answered(closed, answer, now, draw)
        self.draft.dead = [replace(dead, first=dead.seq) for dead in self.draft.dead]


class DigestSkips(DigestWindow):
    def settled_to(self) -> int:
        return self.read_to


@pytest.mark.parametrize(
    "bug",
    [
        CursorPassesWhatFlies, NotBusy, FailedGoesToTheEnd, FollowersOvertake, ForgetsToPark, GivesUpAtOnce, ClosesEarly,
        NeverWakesParked, LosesFreed, Spins, ForgetsTheDead, ForgetsRetryAfter, ProbesTheSame, SendsUnstored, DigestSkips,
        EndsBeforeTheRevived, RevivedStays, RevivedIsWhole,
    ],
)  # fmt: skip
def test_a_planted_bug_is_found(bug: type[Window] | type[DigestWindow], monkeypatch: pytest.MonkeyPatch) -> None:
    name = "digest_class" if issubclass(bug, DigestWindow) else "window_class"
    healthy = getattr(World, name)
    monkeypatch.setattr("tests.hooks.sim.STEPS", 20_000)
    for seed in range(PLANTED_SEEDS):
        monkeypatch.setattr(World, name, bug)
        if fails(lambda seed=seed: World(seed).run()):  # type: ignore[misc]
            monkeypatch.setattr(World, name, healthy)
            if not fails(lambda seed=seed: World(seed).run()):  # type: ignore[misc]
                return  # found: the world is sound without it
    raise AssertionError(f"{bug.__name__} was not found in {PLANTED_SEEDS} worlds")


def fails(call: Callable[[], object]) -> bool:
    try:
        call()
    except (AssertionError, KeyError, IndexError):
        return True
    return False
