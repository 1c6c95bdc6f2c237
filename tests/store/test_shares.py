"""Usage of shares and blocked heads: written, replaced, dropped, and loaded with a life."""

from __future__ import annotations

from pathlib import Path

from flowbatch.model.ids import Millis
from flowbatch.model.queues import DECAY_MS_MAX
from flowbatch.model.rows import HeadRow, UsageRow, Writes
from tests.store.opening import a_store, query
from tests.store.rows import T0

CELL = Millis(T0 - 10_000)


def row(share: str, at: int = CELL, used: int = 5, until: int = T0) -> UsageRow:
    return UsageRow("q", share, Millis(at), used, Millis(until))


def writes(*rows: UsageRow, gone: tuple[UsageRow, ...] = ()) -> Writes:
    usage: dict[tuple[str, str, Millis], UsageRow | None] = {(each.queue, each.share, each.at): each for each in rows}
    return Writes(usage=usage | {(each.queue, each.share, each.at): None for each in gone})


async def test_usage_is_replaced_and_dropped_a_cell_at_a_time(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.load()
        await store.commit(writes(row("a"), row("a", CELL - 10_000), row("b")))
        await store.commit(writes(row("b", used=10**15, until=T0 + 1), gone=(row("a", CELL - 10_000),)))
    async with a_store(tmp_path) as store:
        loaded = await store.load()
    assert sorted(loaded.usage) == [row("a"), row("b", used=10**15, until=T0 + 1)]


async def test_usage_that_no_window_reaches_goes_with_the_start_of_a_life(tmp_path: Path) -> None:
    """Of queues that are gone: nobody counts there any more."""
    async with a_store(tmp_path) as store:
        await store.load()
        await store.commit(writes(row("old", until=T0), row("new", until=T0 + 90_000_000)))
    async with a_store(tmp_path, now=Millis(T0 + DECAY_MS_MAX + 86_400_001)) as store:
        loaded = await store.load()
    assert [each.share for each in loaded.usage] == ["new"]
    assert query(tmp_path, "SELECT share FROM share_usage") == [("new",)]


async def test_a_head_is_one_a_queue(tmp_path: Path) -> None:
    head = HeadRow("q", 7, "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", T0)
    async with a_store(tmp_path) as store:
        await store.load()
        await store.commit(Writes(heads={"q": head, "other": head._replace(queue="other")}))
        await store.commit(Writes(heads={"q": head._replace(job=8), "other": None}))
    async with a_store(tmp_path) as store:
        assert (await store.load()).heads == [head._replace(job=8)]
