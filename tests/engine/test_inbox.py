from __future__ import annotations

from flowbatch.engine.inbox import Inbox
from flowbatch.model.stimuli import Cancel, Target

ANY = Target()


def numbered(*numbers: int) -> list[Cancel]:
    return [Cancel(number, ANY, "") for number in numbers]


async def test_stimuli_come_out_in_order_and_in_portions() -> None:
    inbox = Inbox()
    assert not inbox.event.is_set()
    inbox.post([])
    assert not inbox.event.is_set()
    inbox.post(numbered(1, 2, 3))
    inbox.post(numbered(4, 5))
    assert inbox.event.is_set()
    assert inbox.take(3) == numbered(1, 2, 3)
    assert inbox.event.is_set(), "more is waiting"
    assert len(inbox) == 2
    assert inbox.take(3) == numbered(4, 5)
    assert not inbox.event.is_set()
    assert inbox.take(3) == []


async def test_what_comes_after_an_emptied_inbox_is_seen_by_who_waits() -> None:
    inbox = Inbox()
    inbox.post(numbered(1))
    inbox.take(10)
    waited = inbox.event
    inbox.post(numbered(2))
    assert waited.is_set()
