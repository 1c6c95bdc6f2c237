"""The audit log over its life: how long it is kept, what tells that some of it went, a mirror, and who meddled with it (F47)."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from msgspec.structs import replace

from flowbatch.cli.main import run
from flowbatch.http.records import Mirror, prune
from flowbatch.model.access import AuditRow
from flowbatch.model.ids import Millis
from flowbatch.model.stimuli import Audit, Resume
from flowbatch.store.reader import Reader
from tests.http.rig import FAKE, Rig, a_server


def row(at: int, action: str = "batch:ListJobs") -> AuditRow:
    return AuditRow(Millis(at), "arn:x", None, None, None, action, "*", True, "s", "r", "{}", "d")


async def calls(rig: Rig, *times: int) -> None:
    engine = rig.running.app.engine
    engine.post(Audit(tuple(row(at) for at in times)))
    await engine.ask(lambda ticket: Resume(ticket, None))


def verified(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = run(["--state", str(folder / "state"), "audit", "verify", *words])
    said = capsys.readouterr()
    return code, said.out + said.err


async def test_what_is_older_than_its_time_goes_and_the_rest_can_be_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path
    async with a_server(folder) as rig:
        app = rig.running.app
        await calls(rig, *range(1000, 1100), app.engine.clock.now())
        with Reader(app.folder.database) as reader:
            assert await prune(app.verbs.call, reader, 1050) == 50
            assert await prune(app.verbs.call, reader, 1050) == 0
            assert await prune(app.verbs.call, reader, 2000) == 50
            assert reader.audit_pruned()[0] == 100
            kept = reader.audit()
            assert [each.action for _, each, _ in kept] == ["batch:ListJobs", *["flowbatch:PruneAudit"] * 2]
            assert await prune(app.verbs.call, reader, 1 << 50) == 2  # the newest always stays, and says the rest
    code, said = verified(folder, capsys, "--json")
    assert (code, {**json.loads(said), "hash": ""}) == (0, {"records": 2, "pruned": 102, "sequence": 104, "hash": ""})


async def pruned_log(folder: Path) -> Path:
    async with a_server(folder) as rig:
        app = rig.running.app
        await calls(rig, *range(1000, 1010), *[app.engine.clock.now()] * 5)
        with Reader(app.folder.database) as reader:
            assert await prune(app.verbs.call, reader, 2000) == 10
    return folder / "state" / "flowbatch.db"


UNLOCK = (
    "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_deleted; DROP TRIGGER audit_pruned_is_not_deleted;"
)
UNLOCK += "DROP TRIGGER audit_pruned_is_not_changed;"


@pytest.mark.parametrize(
    ("meddling", "said"),
    [
        ("UPDATE audit SET principal = 'arn:y' WHERE seq = 13", "record 13 of the audit log is not what was written"),
        ("UPDATE audit SET allowed = 1 - allowed WHERE seq = 12", "record 12 of the audit log is not what was written"),
        ("DELETE FROM audit WHERE seq = 13", "the audit log lacks record 13: after 12 comes 14"),
        ("DELETE FROM audit WHERE seq <= 12", "the audit log lacks record 11: after 10 comes 13"),
        (
            "INSERT INTO audit_pruned SELECT 12, hash, 0 FROM audit WHERE seq = 12; DELETE FROM audit WHERE seq <= 12",
            "the first 12 records of the audit log are gone, and none of those that are left says that they were let go",
        ),
        ("DELETE FROM audit_pruned", "the audit log lacks record 1: after 0 comes 11"),
        ("UPDATE audit_pruned SET hash = 'x'", "record 11 of the audit log is not what was written"),
    ],
)
async def test_whoever_meddles_with_the_log_is_noticed_at_that_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], meddling: str, said: str
) -> None:
    database = await pruned_log(tmp_path)
    assert verified(tmp_path, capsys)[0] == 0
    with closing(sqlite3.connect(database)) as db:
        statement = meddling.partition(";")[0]
        with pytest.raises(sqlite3.IntegrityError, match="the audit log is not changed"):
            db.execute(statement if "INSERT" not in statement else meddling.partition("; ")[2])
        db.rollback()
        db.executescript(UNLOCK + meddling)
        db.commit()
    code, told = verified(tmp_path, capsys)
    assert code == 4
    assert said in told


async def test_no_call_lets_go_of_what_is_not_there_or_of_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with a_server(tmp_path) as rig:
        await calls(rig, 1, 2, 3)
        for seq in (4, 5, 1000, -1, 0):
            await rig.running.app.verbs.call("prune_audit", {"seq": seq, "hash": "x"})
        with Reader(rig.running.app.folder.database) as reader:
            assert reader.audit_pruned()[0] in (0, 4)  # 4 was the newest when 5 was asked for
    assert verified(tmp_path, capsys)[0] in (0, 4)


async def until(there: Callable[[], bool]) -> None:
    """The mirror is written by a task of its own, on a thread."""
    with anyio.fail_after(20):
        while not there():  # noqa: ASYNC110 (what a thread writes into a file)
            await anyio.sleep(0.01)


def sequences(path: Path) -> list[int]:
    return [json.loads(line)["additionalEventData"]["sequence"] for line in path.read_text().splitlines()]


async def test_a_mirror_has_every_record_once_over_restarts_and_half_lines(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    mirrored = replace(FAKE, audit_mirror=str(path))
    async with a_server(tmp_path, mirrored) as rig:
        await calls(rig, 1, 2, 3)
        await until(lambda: path.exists() and len(path.read_text().splitlines()) == 3)
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("a") as file:
        file.write('{"half a li')
    async with a_server(tmp_path, mirrored) as rig:
        await calls(rig, 4)
        await until(lambda: sequences(path)[-1:] == [4] if path.read_text().endswith("}\n") else False)
        assert sequences(path) == [1, 2, 3, 4]
        # Settings that are read again name another file.
        await rig.running.force.change(replace(mirrored, audit_mirror=str(tmp_path / "b")), rig.running)
        await calls(rig, 5)
        await until(lambda: (tmp_path / "b").exists() and (tmp_path / "b").read_text().count("\n") == 5)
        await calls(rig, 6)
        await until(lambda: (tmp_path / "b").read_text().count("\n") == 6)
    assert sequences(path) in ([1, 2, 3, 4], [1, 2, 3, 4, 5])  # the fifth where it was still at the fourth


async def test_a_mirror_is_a_file_of_its_own(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await calls(rig, 1)
        database = rig.running.app.folder.database
        (tmp_path / "link").symlink_to(tmp_path / "x")
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "other").write_text("what somebody else wrote\n")
        for name in ("link", "pipe", "other"):
            with pytest.raises(OSError):
                await anyio.to_thread.run_sync(Mirror(tmp_path / name, database).write)
        assert (tmp_path / "other").read_text() == "what somebody else wrote\n"


async def test_gc_lets_records_go_by_their_own_retention(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await pruned_log(tmp_path)
    async with a_server(tmp_path) as rig:
        await calls(rig, rig.running.app.engine.clock.now())
    state = ["--state", str(tmp_path / "state"), "--config", str(tmp_path / "s.yaml")]
    (tmp_path / "s.yaml").write_text("audit: {retention: 30d}\n")
    assert run([*state, "gc"]) == 0
    assert "0 records of the audit log were let go by `audit: retention`" in capsys.readouterr().out
    async with a_server(tmp_path / "2") as rig:
        await calls(rig, 1000, rig.running.app.engine.clock.now())
    state[1] = str(tmp_path / "2" / "state")
    assert await anyio.to_thread.run_sync(run, [*state, "gc", "--dry-run"]) == 0
    assert "1 record of the audit log would be let go" in capsys.readouterr().out
    assert await anyio.to_thread.run_sync(run, [*state, "gc", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["audit_records"] == 1
    assert verified(tmp_path / "2", capsys)[0] == 0
