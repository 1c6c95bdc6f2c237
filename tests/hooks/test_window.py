"""Decisions of a window, one by one."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowbatch.hooks.backlog import Parcel
from flowbatch.hooks.digest import DigestWindow
from flowbatch.hooks.draft import PASSED_MS
from flowbatch.hooks.health import HOUR, MINUTE, SCHEDULE, Answer, Outcome
from flowbatch.hooks.window import WIDTH, Window
from flowbatch.model.events import LoggedEvent
from flowbatch.model.ids import Millis
from tests.hooks import told

TAKEN = Answer(Outcome.DELIVERED, 200)
BROKEN = Answer(Outcome.ENDPOINT, 500, "500")


def window_of(count: int, *, width: int = WIDTH, batch: int = 1) -> Window:
    window = Window("a", 0, width=width, batch=batch)
    feed(window, [told.child(seq, seq=seq) for seq in range(1, count + 1)])
    return window


def feed(window: Window, events: list[LoggedEvent]) -> None:
    window.read(events, [True] * len(events), events[-1].seq, False, [], Millis(0))


def seqs(parcel: Parcel) -> list[int]:
    return [entry.seq for entry in parcel.entries]


def test_one_message_that_breaks_its_batch_is_found_and_the_receiver_stays() -> None:
    window, now, delivered = window_of(300, batch=100), Millis(0), list[int]()
    while window.backlog.unsettled:
        now = Millis(max(now, window.next_at() or 0))
        for parcel in window.due(now):
            broken = 7 in seqs(parcel)
            delivered += [] if broken else seqs(parcel)
            window.answered(parcel, BROKEN if broken else TAKEN, now, 0.0)
        if window.progress(now) is not None:
            window.persisted(closed=False)
    assert list(window.backlog.parked) == [7]
    assert sorted(delivered) == [seq for seq in range(1, 301) if seq != 7]
    assert now < 60_000
    assert window.disabled is None


def test_a_receiver_that_fails_is_asked_with_one_event_of_a_batch() -> None:
    window = window_of(300, batch=100)
    first, *others = window.due(Millis(0))
    assert len(first.entries) == 100
    for parcel in (first, *others):
        window.answered(parcel, BROKEN, Millis(0), 0.0)
    assert window.due(Millis(999)) == []
    assert [seqs(parcel) for parcel in window.due(Millis(1000))] == [[1]]


def test_what_a_receiver_asked_for_is_kept_to_whatever_else_is_answered_meanwhile() -> None:
    window = window_of(20)
    first, second, third, *_ = window.due(Millis(0))
    window.answered(first, Answer(Outcome.ENDPOINT, 429, "429", 0, 60_000), Millis(10), 0.0)
    window.answered(second, TAKEN, Millis(20), 0.0)
    window.answered(third, BROKEN, Millis(30), 0.0)
    assert window.due(Millis(60_009)) == []
    assert window.health.next_at == 60_010


def test_what_failed_goes_first_once_something_passes() -> None:
    """Behind all that was read meanwhile a life that is short would never come to it again."""
    window = window_of(200, width=1)
    [parcel] = window.due(Millis(0))
    window.answered(parcel, BROKEN, Millis(0), 0.0)
    [probe] = window.due(Millis(1000))
    assert seqs(probe) == [2]
    window.answered(probe, TAKEN, Millis(1000), 0.0)
    [again] = window.due(Millis(1000))
    assert seqs(again) == [1]


def test_a_batch_that_was_refused_is_sent_again_the_oldest_first() -> None:
    """Or a life that is short never delivers the one that holds the cursor back."""
    window = window_of(100, width=1, batch=100)
    [parcel] = window.due(Millis(0))
    window.answered(parcel, Answer(Outcome.MESSAGE, 400, "400"), Millis(0), 0.0)
    for number in range(1, 4):
        [parcel] = window.due(Millis(0))
        assert seqs(parcel) == [number]
        window.answered(parcel, TAKEN, Millis(0), 0.0)


def test_who_waits_behind_what_was_given_up_goes_once_that_is_on_disk() -> None:
    """A later life that does not know of it would deliver the older one after the younger."""
    window = Window("a", 0)
    feed(window, [told.child(1, seq=1), told.child(1, seq=2)])
    now = Millis(0)
    for _ in range(len(SCHEDULE) + 1):
        now = Millis(now + 48 * HOUR)
        [parcel] = window.due(now)
        assert seqs(parcel) == [1]
        window.answered(parcel, Answer(Outcome.MESSAGE, 422, "422"), now, 0.0)
    assert window.due(Millis(now + HOUR)) == []
    progress = window.progress(now)
    assert progress is not None
    assert [each.seq for each in progress.dead] == [1]
    assert window.due(now) == []
    window.persisted(closed=False)
    [parcel] = window.due(now)
    assert seqs(parcel) == [2]


@pytest.mark.parametrize("asleep", [True, False])
def test_a_receiver_is_disabled_after_days_of_trying_and_not_of_our_absence(asleep: bool) -> None:
    window, now = window_of(3), Millis(1_000)
    for parcel in window.due(now):
        window.answered(parcel, BROKEN, now, 0.0)
    if asleep:
        now = Millis(now + 6 * 24 * HOUR)  # the first try after it comes before the network does
        [parcel] = window.due(now)
        window.answered(parcel, BROKEN, now, 0.0)
        assert window.disabled is None
        assert window.health.next_at <= now + MINUTE
    began = now
    while window.disabled is None:
        now = Millis(max(now, window.next_at() or 0))
        for parcel in window.due(now):
            window.answered(parcel, BROKEN, now, 0.0)
        if window.progress(now) is not None:
            window.persisted(closed=False)
    assert now - began >= (HOUR if asleep else 5 * 24 * HOUR)
    assert now - began < (2 * HOUR if asleep else 7 * 24 * HOUR)


def test_batches_are_written_as_rarely_as_single_messages() -> None:
    window = window_of(800, batch=100)
    for parcel in window.due(Millis(0)):
        window.answered(parcel, TAKEN, Millis(0), 0.0)
    assert window.progress(Millis(0)) is None
    progress = window.progress(Millis(250))
    assert progress is not None
    assert (progress.cursor, len(progress.acks)) == (800, 800)


def test_a_receiver_that_is_gone_is_disabled_once_whatever_was_under_way() -> None:
    window, gone = window_of(3), Answer(Outcome.GONE, 410, "410 gone")
    first, second, _ = window.due(Millis(0))
    window.answered(first, gone, Millis(0), 0.0)
    progress = window.progress(Millis(0))
    assert progress is not None
    assert progress.disable == "410 gone"
    window.answered(second, replace(gone, error="410 again"), Millis(1), 0.0)
    assert window.disabled == "410 gone"
    assert not window.persisted(closed=False) or window.progress(Millis(1)) is None  # nothing urgent is left of it


def test_what_was_refused_says_why_and_can_be_tried_at_once() -> None:
    window = window_of(2)
    first, second = window.due(Millis(0))
    window.answered(first, TAKEN, Millis(0), 0.0)
    window.answered(second, Answer(Outcome.MESSAGE, 422, "422 no"), Millis(0), 0.0)
    assert window.due(Millis(1)) == []
    assert window.trouble() == ("422 no", Millis(5_000))
    window.try_refused(Millis(1))
    [again] = window.due(Millis(1))
    assert seqs(again) == [2]


def test_a_life_that_ends_writes_how_far_it_has_looked() -> None:
    """Else what it did not want is missed once it is collected."""
    window = Window("a", 0)
    window.read([told.child(1, seq=1)], [False], 1, False, [], Millis(0))
    assert window.progress(Millis(0), at_once=True) is None
    window.rests(Millis(0))
    progress = window.progress(Millis(0), at_once=True)
    assert progress is not None
    assert progress.cursor == 1


@pytest.mark.parametrize("window", [Window("a", 0), DigestWindow("a", 0, 1000)])
def test_what_was_passed_over_is_written_within_a_minute(window: Window | DigestWindow) -> None:
    """A life that is killed leaves no gap of what nobody wanted."""
    window.read([told.child(1, seq=1)], [False], 1, False, [], Millis(0))
    window.read([told.child(2, seq=2)], [False], 2, False, [], Millis(40_000))
    assert window.next_at() == PASSED_MS
    assert window.progress(Millis(PASSED_MS - 1)) is None
    progress = window.progress(Millis(PASSED_MS))
    assert progress is not None
    assert progress.cursor == 2
    window.persisted(closed=False)
    assert window.next_at() is None


def test_a_receiver_that_is_down_costs_no_write_at_the_end() -> None:
    window = window_of(3)
    for parcel in window.due(Millis(0)):
        window.answered(parcel, BROKEN, Millis(0), 0.0)
    window.progress(Millis(0), at_once=True)
    window.persisted(closed=False)
    window.rests(Millis(1))
    assert window.progress(Millis(1), at_once=True) is None


def test_a_receiver_that_fails_is_tried_when_somebody_wants_it_but_not_before_it_said() -> None:
    window = window_of(3)
    first, second, _ = window.due(Millis(0))
    window.answered(first, BROKEN, Millis(0), 0.0)
    window.health.hasten(Millis(10))
    assert window.health.next_at == 10
    window.answered(second, Answer(Outcome.ENDPOINT, 429, "429", 0, 60_000), Millis(10), 0.0)
    window.health.hasten(Millis(20))
    assert window.health.next_at == 60_010
