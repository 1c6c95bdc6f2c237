"""Definitions and tokens: stored with their turn, read back by the next life and by people, collected with their run."""

from __future__ import annotations

from pathlib import Path

from flowbatch.model.definition import DefinitionRow, KnownRevision
from flowbatch.model.ids import Millis
from flowbatch.model.rows import Writes
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.tokens import TokenKind, TokenRow
from flowbatch.store.reader import Reader
from tests.store.opening import a_store, query
from tests.store.rows import T0, job_row, run_row, spec, submission, task_row


def definition(name: str, revision: int, digest: str = "d") -> DefinitionRow:
    return DefinitionRow(name, revision, True, '{"type":"container"}', digest, (("k", "v"), ("é", "")), T0, None)


def token(name: str, total: int = 3, run: int | None = None, kind: TokenKind = TokenKind.REPLENISHABLE) -> TokenRow:
    return TokenRow(name, kind, total, None if run else total, run, (("k", "v"),), T0)


def named(*rows: TokenRow) -> dict[str, TokenRow | None]:
    return {row.name: row for row in rows}


async def test_definitions_come_back(tmp_path: Path) -> None:
    later = Millis(T0 + 5)
    async with a_store(tmp_path) as store:
        await store.commit(Writes(definitions=[definition("b", 1), definition("a", 1), definition("a", 2, "e")]))
        await store.commit(Writes(deregistered=[("a", 2, later)], definitions=[definition("b", 2)]))
        assert (await store.load()).definitions == [
            KnownRevision("a", 1, True, "d"),
            KnownRevision("a", 2, False, "e"),
            KnownRevision("b", 1, True, "d"),
            KnownRevision("b", 2, True, "d"),
        ]
    gone = definition("a", 2, "e")._replace(active=False, deregistered_at=later)
    with Reader(tmp_path / "flowbatch.db") as reader:
        assert list(reader.definitions()) == [definition("a", 1), definition("b", 2)]
        assert list(reader.definitions(every=True)) == [
            definition("a", 1), gone, definition("b", 1), definition("b", 2),
        ]  # fmt: skip
        assert reader.revisions("a") == [gone, definition("a", 1)]
        assert reader.latest_revision("a") == definition("a", 1)
        assert reader.revision("a", 2) == gone
        assert reader.revision("a", 3) is None
        assert reader.definition_names() == ["a", "b"]


async def test_more_definitions_than_one_window(tmp_path: Path) -> None:
    rows = [definition(f"d{number:05}", revision) for number in range(700) for revision in (1, 2)]
    async with a_store(tmp_path) as store:
        await store.commit(Writes(definitions=rows))
        assert len((await store.load()).definitions) == 1400
    with Reader(tmp_path / "flowbatch.db") as reader:
        assert list(reader.definitions(every=True)) == rows
        assert list(reader.definitions()) == rows[1::2]


async def test_tokens_come_back_with_what_is_open(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        for number in (1, 2):
            await store.commit(submission(number, spec("a", 4, tokens=(("licence", 2), (f"{number}/own", 1)))))
        own = [token(f"{number}/own", number, number) for number in (1, 2)]
        await store.commit(Writes(tokens=named(token("licence"), token("spent", 9, kind=TokenKind(1)), *own)))
        await store.commit(Writes(tokens=named(token("spent", 7, kind=TokenKind(1))), tasks={
            (100, 0): task_row(100, 0), (100, 1): task_row(100, 1, Status.STARTING), (100, 2): task_row(100, 2, Status.SUCCEEDED),
        }))  # fmt: skip
        await store.commit(
            Writes(runs={2: run_row(2, RunStatus.SUCCEEDED)}, jobs={200: job_row(200, 2, Status.SUCCEEDED)})
        )
        open_ones = [token("1/own", 1, 1), token("licence"), token("spent", 7, kind=TokenKind(1))]
        assert sorted((await store.load()).tokens) == open_ones
        ended = await store.load_run(run_row(2).id)
        assert ended is not None
        assert ended.tokens == [token("2/own", 2, 2)]
        with Reader(tmp_path / "flowbatch.db") as reader:
            assert reader.tokens() == open_ones
            assert reader.tokens_in_use() == {"licence": 4, "1/own": 2}
        await store.commit(Writes(tokens={"licence": None}))
        assert await store.collect(Millis(T0 + 10_000)) == 1
    assert query(tmp_path, "SELECT name FROM token ORDER BY name") == [("1/own",), ("spent",)]
