"""The library on a real engine, store and folder; only its clock is the test's."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import anyio
import pytest

from flowbatch.app import App, open_app
from flowbatch.errors import FlowbatchError, InputError
from flowbatch.folder import StateFolder
from flowbatch.library.desk import EngineDesk
from flowbatch.library.folder import WatchedFolder
from flowbatch.library.shelves import Library
from flowbatch.model.access import AuditRow
from flowbatch.model.bucket import Bucket
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Environment, Queue
from flowbatch.model.outcome import Outcome
from flowbatch.model.resources import Resources
from flowbatch.model.rows import RunRow
from flowbatch.model.status import RunStatus
from flowbatch.settings import Settings
from flowbatch.spec.compile import Plan, parse, plan
from flowbatch.spec.pinning import pinned
from flowbatch.store.reader import Reader

QUICK = "jobs: {a: {script: 'true'}}\n"
LONG = "jobs: {a: {script: 'true', x-fake: {duration: 10m}}}\n"
WRONG = "jobs: {a: {scrpt: 'true'}}\n"
FAKE = Settings((Environment("default", "fake", Resources(8000, 8192)),), (Queue("default"),))
HOURLY = "schedule: {cron: '0 * * * *'%s}\n"


def at(text: str) -> Millis:
    return Millis(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000))


class HandClock:
    """Stands until the test sets it; nobody waits on it here."""

    def __init__(self) -> None:
        self.time = at("2026-05-01T12:30")

    def now(self) -> Millis:
        return self.time

    async def wait(self, event: anyio.Event, until: Millis | None) -> None:
        raise NotImplementedError

    async def sleep_until(self, at: Millis) -> None:
        raise NotImplementedError


class Rig:
    """One life of a server on the test's folders."""

    def __init__(self, app: App, library: Library, clock: HandClock) -> None:
        self.app, self.library, self.clock = app, library, clock
        self.path = library.folder.path
        self._ended: dict[str, RunStatus] = {}
        self._news = anyio.Event()
        app.engine.observe(self._look)
        with Reader(app.folder.database) as reader:  # what ended before we looked
            self._ended |= {view.id: view.status for view in reader.runs() if view.status is not RunStatus.RUNNING}

    def _look(self, outcome: Outcome) -> None:
        rows: list[RunRow] = [row for row in outcome.writes.runs.values() if row.status is not RunStatus.RUNNING]
        if rows:
            self._ended |= {row.id: row.status for row in rows}
            self._news.set()
            self._news = anyio.Event()

    async def until_ended(self, count: int) -> None:
        with anyio.fail_after(20):
            while len(self._ended) < count:
                await self._news.wait()

    async def look(self, time: str | None = None) -> None:
        """Two polls: a file is taken at the second."""
        if time is not None:
            self.clock.time = at(time)
        await self.library.poll()
        await self.library.poll()

    def put(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        stamp = next(STAMPS)
        os.utime(path, ns=(stamp, stamp))

    def runs(self) -> list[str]:
        """The workflows of all runs there are, the oldest first."""
        with Reader(self.app.folder.database) as reader:
            return [view.workflow for view in reversed(reader.runs(limit=1000))]

    def shelf(self, name: str) -> tuple[str, bool]:
        with Reader(self.app.folder.database) as reader:
            (row,) = [row for row in reader.shelves() if row.name == name]
        return datetime.fromtimestamp(row.seen_at / 1000, UTC).strftime("%d %H:%M"), row.gone

    def queued(self, name: str) -> list[str]:
        with Reader(self.app.folder.database) as reader:
            (row,) = [row for row in reader.shelves() if row.name == name]
        return [datetime.fromtimestamp(time / 1000, UTC).strftime("%H:%M") for time in row.queued]


STAMPS = iter(range(10**9, 10**12, 10**6))
Life = Callable[[], "AsyncIterator[Rig]"]


def compiled(name: str, content: bytes, params: Mapping[str, str]) -> Plan:
    return plan(
        parse(content, name), params=params, run_id=str(uuid4()), new_id=lambda: str(uuid4()), folder="/srv/library",
        home="/srv", read_source=lambda request: [], available=FAKE.environments, queues=FAKE.queues, root=False,
        guard=None,
    )  # fmt: skip


class Anybody:
    """Lets every file do everything; what one may is tested with a real server (tests/http/test_files.py)."""

    def allow(self, plan: Plan, name: str, content: bytes) -> AuditRow:
        return AuditRow(Millis(0), "-", None, None, None, "run", "*", True, None, plan.run.id, None, name)

    def refused(self, name: str, content: bytes, error: FlowbatchError) -> AuditRow:
        return AuditRow(Millis(0), "-", None, None, None, "run", "*", False, None, "-", None, name, error=str(error))


@asynccontextmanager
async def life(folder: Path, clock: HandClock) -> AsyncIterator[Rig]:
    """The engine in a life of its own; what the files and the store hold goes on."""
    path = folder / "library"
    path.mkdir(mode=0o755, exist_ok=True)
    (path / "inbox").mkdir(mode=0o755, exist_ok=True)
    watched = WatchedFolder(path, frozenset({os.getuid()}))
    inbox = WatchedFolder(path / "inbox", frozenset({os.getuid()}))
    watched.open()
    inbox.open()
    async with open_app(StateFolder(folder / "state"), FAKE, fake_only=True) as app:
        with Reader(app.folder.database) as reader:
            rows = reader.shelves()
        desk = EngineDesk(
            app.engine,
            app.folder.database,
            lambda plan: pinned(plan.run, plan.environments, plan.queues),
            Anybody(),
        )
        yield Rig(app, Library(watched, inbox, compiled, desk, clock, rows), clock)
    watched.close()
    inbox.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


async def test_a_file_runs_once_per_content_also_across_restarts(tmp_path: Path, clock: HandClock) -> None:
    async with life(tmp_path, clock) as rig:
        rig.put("a.yaml", QUICK)
        await rig.look()
        await rig.look()
        assert rig.runs() == ["a"]
        await rig.until_ended(1)
    async with life(tmp_path, clock) as rig:
        await rig.look()
        assert rig.runs() == ["a"]
        rig.put("a.yaml", "name: b\n" + QUICK)
        await rig.look()
        rig.put("a.yaml", QUICK)
        await rig.look()
        assert rig.runs() == ["a", "b", "a"]  # A → B → A runs three times (semantics.md 39)


async def test_a_broken_file_has_its_errors_beside_it_until_it_is_mended(tmp_path: Path, clock: HandClock) -> None:
    async with life(tmp_path, clock) as rig:
        errors = rig.path / "a.yaml.errors.txt"
        rig.put("a.yaml", WRONG)
        await rig.look()
        assert "a.yaml:1:12: jobs.a.scrpt: unknown key 'scrpt' (did you mean 'script'?)" in errors.read_text()
        assert rig.runs() == []
        rig.put("a.yaml", QUICK)
        await rig.look()
        assert not errors.exists()
        assert rig.runs() == ["a"]


async def test_a_refused_file_says_why(tmp_path: Path, clock: HandClock) -> None:
    async with life(tmp_path, clock) as rig:
        (rig.path / "a.yaml").symlink_to("/etc/hostname")
        await rig.look()
        assert (rig.path / "a.yaml.errors.txt").read_text().startswith("a.yaml: is a link")


async def test_a_manual_workflow_waits_until_it_is_asked_for(tmp_path: Path, clock: HandClock) -> None:
    async with life(tmp_path, clock) as rig:
        rig.put("a.yaml", "start: manual\nparams: {n: {type: integer, default: 1}}\n" + QUICK)
        await rig.look()
        assert rig.runs() == []
        await rig.library.start("a.yaml", {"n": "2"})
        await rig.library.start("a.yaml", {})
        assert rig.runs() == ["a", "a"]
        with pytest.raises(InputError, match=r"no workflow 'b\.yaml'"):
            await rig.library.start("b.yaml", {})


async def test_a_schedule_runs_each_of_its_times_once(tmp_path: Path, clock: HandClock) -> None:
    async with life(tmp_path, clock) as rig:
        rig.put("a.yaml", HOURLY % "" + QUICK)
        await rig.look("2026-05-01T12:30")
        assert rig.runs() == []
        for count, time in enumerate(("12:59", "13:00", "13:00", "13:59", "14:00", "15:00")):
            await rig.look(f"2026-05-01T{time}")
            expected = [0, 1, 1, 1, 2, 3][count]
            assert len(rig.runs()) == expected, time
            await rig.until_ended(expected)
    async with life(tmp_path, clock) as rig:
        await rig.look("2026-05-01T15:00")
        assert len(rig.runs()) == 3


@pytest.mark.parametrize(
    ("missed", "count", "seen"), [("skip", 0, "01 18:10"), ("latest", 1, "01 18:00"), ("all", 6, "01 18:00")]
)
async def test_what_passed_while_no_server_ran(
    tmp_path: Path, clock: HandClock, missed: str, count: int, seen: str
) -> None:
    async with life(tmp_path, clock) as rig:
        rig.put("a.yaml", HOURLY % f", missed: {missed}, overlap: allow" + QUICK)
        await rig.look("2026-05-01T12:30")
    async with life(tmp_path, clock) as rig:
        await rig.look("2026-05-01T18:10")
        assert len(rig.runs()) == count
        assert rig.shelf("a.yaml")[0] == seen
        await rig.look("2026-05-01T19:00")
        assert len(rig.runs()) == count + 1


async def test_what_somebody_put_in_the_place_of_errors_and_results_holds_up_no_other_file(
    tmp_path: Path, clock: HandClock
) -> None:
    async with life(tmp_path, clock) as rig:
        (rig.path / "a.yaml.errors.txt").mkdir()
        os.mkfifo(rig.path / ".b.yaml.errors.txt.new")
        (rig.path / "inbox" / "done").symlink_to(tmp_path)
        (rig.path / "inbox" / "failed").symlink_to(tmp_path)
        for name in ("a.yaml", "b.yaml", "inbox/c.yaml"):
            rig.put(name, WRONG)
        rig.put("inbox/d.yaml", QUICK)
        rig.put("z.yaml", QUICK)
        with anyio.fail_after(20):
            await rig.look()
            await rig.until_ended(2)
            await rig.look()
        assert sorted(rig.runs()) == ["d", "z"]
        assert "scrpt" in (rig.path / "b.yaml.errors.txt").read_text()
        assert sorted(rig.library.complaints) == ["a.yaml", "inbox/c.yaml", "inbox/d.yaml"]
        assert not [name for name in os.listdir(tmp_path) if name.endswith(".json")]
        (rig.path / "inbox" / "done").unlink()
        await rig.look()
        assert (rig.path / "inbox" / "done" / "d.yaml.result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("day", "hours", "night"),
    [("2026-03-29", 23, ["01:00"]), ("2026-06-01", 24, ["00:30"]), ("2026-10-25", 25, ["00:30"])],
)
async def test_a_day_of_schedules(tmp_path: Path, clock: HandClock, day: str, hours: int, night: list[str]) -> None:
    """In Prague, the days on which its clocks are set among them, and a restart at noon: each time runs once, and when it should.

    `night`: when 02:30 there comes, in UTC. On the day without it the run comes with the hour that follows; on the day with two of them, with
    the first.
    """
    local = "schedule: {cron: '%s', tz: Europe/Prague, overlap: allow}\n"
    files = {"hourly": "5 * * * *", "night": "30 2 * * *", "quarters": "*/15 8-9 * * *", "noon": "0 12 * * *"}
    begin = datetime.fromisoformat(f"{day}T00:00").replace(tzinfo=ZoneInfo("Europe/Prague")).astimezone(UTC)
    clock.time = Millis(int(begin.timestamp() * 1000) - 1)
    ran: list[tuple[str, str]] = []
    lives = [range(0, 12 * 60, 10), range(12 * 60, hours * 60, 10)]
    for life_no, minutes in enumerate(lives):
        async with life(tmp_path, clock) as rig:
            if life_no == 0:
                for name, cron in files.items():
                    rig.put(f"{name}.yaml", local % cron + QUICK)
            await rig.look()
            known = len(rig.runs())
            for minute in minutes:
                time = begin + timedelta(minutes=minute)
                clock.time = Millis(int(time.timestamp() * 1000))
                await rig.library.poll()
                names = rig.runs()
                ran += [(name, time.strftime("%H:%M")) for name in names[known:]]
                known = len(names)
    counts = {name: [each for each, _ in ran].count(name) for name in files}
    assert counts == {"hourly": hours, "night": 1, "quarters": 8, "noon": 1}
    assert [time for name, time in ran if name == "night"] == night
    assert [time for name, time in ran if name == "noon"] == ["11:00" if hours == 25 else "10:00"]


async def test_a_schedule_that_would_overlap_itself(tmp_path: Path, clock: HandClock) -> None:
    async with life(tmp_path, clock) as rig:
        for name in ("skip", "queue", "allow"):
            rig.put(f"{name}.yaml", HOURLY % f", overlap: {name}" + LONG)
        await rig.look("2026-05-01T12:30")
        for hour in (13, 14, 15):
            await rig.look(f"2026-05-01T{hour}:00")
        assert sorted(rig.runs()) == ["allow"] * 3 + ["queue", "skip"]
        assert rig.shelf("skip.yaml")[0] == "01 15:00"  # 14:00 and 15:00 are given up
        assert rig.shelf("queue.yaml")[0] == "01 15:00"
        assert rig.queued("queue.yaml") == ["14:00", "15:00"]


async def test_a_queued_time_has_its_turn_when_the_run_before_has_ended(tmp_path: Path, clock: HandClock) -> None:
    async with life(tmp_path, clock) as rig:
        rig.put("a.yaml", HOURLY % ", overlap: queue" + QUICK)
        await rig.look("2026-05-01T12:30")
        await rig.look("2026-05-01T15:00")  # the server was busy, not down: three times are owed
        for count in (1, 2, 3):
            await rig.until_ended(count)
            await rig.look()
        assert rig.runs() == ["a"] * 3
        assert rig.shelf("a.yaml")[0] == "01 15:00"


@pytest.mark.parametrize(("missed", "made_up"), [("skip", []), ("latest", ["17:00"]), ("all", ["16:00", "17:00"])])
async def test_times_that_wait_for_their_turn_are_owed_after_a_restart_whatever_is_missed(
    tmp_path: Path, clock: HandClock, missed: str, made_up: list[str]
) -> None:
    async with life(tmp_path, clock) as rig:
        rig.put("a.yaml", HOURLY % f", overlap: queue, missed: {missed}" + LONG)
        await rig.look("2026-05-01T12:30")
        for hour in (13, 14, 15):
            await rig.look(f"2026-05-01T{hour}:00")
        assert rig.runs() == ["a"]
        assert rig.queued("a.yaml") == ["14:00", "15:00"]
    async with life(tmp_path, clock) as rig:
        await rig.until_ended(1)  # the fake backend has lost what ran
        await rig.look("2026-05-01T17:30")
        assert rig.runs() == ["a", "a"]
        assert rig.queued("a.yaml") == ["15:00", *made_up]


async def test_the_last_good_version_stays_in_force_also_across_a_restart(tmp_path: Path, clock: HandClock) -> None:
    async with life(tmp_path, clock) as rig:
        rig.put("a.yaml", "name: good\n" + HOURLY % "" + QUICK)
        await rig.look("2026-05-01T12:30")
        rig.put("a.yaml", HOURLY % "" + WRONG)
        await rig.look("2026-05-01T13:00")
        assert rig.runs() == ["good"]
        await rig.until_ended(1)
    async with life(tmp_path, clock) as rig:
        await rig.look("2026-05-01T14:00")
        assert rig.runs() == ["good", "good"]
        assert (rig.path / "a.yaml.errors.txt").exists()


async def test_taking_the_file_away_ends_its_schedule_and_not_its_runs(tmp_path: Path, clock: HandClock) -> None:
    async with life(tmp_path, clock) as rig:
        text = HOURLY % "" + LONG
        rig.put("a.yaml", text)
        await rig.look("2026-05-01T12:30")
        await rig.look("2026-05-01T13:00")
        (rig.path / "a.yaml").unlink()
        await rig.look("2026-05-01T14:00")
        assert rig.runs() == ["a"]
        assert rig.shelf("a.yaml") == ("01 13:00", True)
        assert rig.library.desk.is_open("a.yaml")
        rig.put("a.yaml", text)
        await rig.look("2026-05-01T15:30")  # it is back: from now on, not from when it went
        assert rig.runs() == ["a"]
        assert rig.shelf("a.yaml") == ("01 15:30", False)


async def test_a_file_taken_away_while_no_server_ran_has_no_schedule_any_more(tmp_path: Path, clock: HandClock) -> None:
    async with life(tmp_path, clock) as rig:
        rig.put("a.yaml", HOURLY % "" + QUICK)
        await rig.look("2026-05-01T12:30")
        (rig.path / "a.yaml").unlink()
    async with life(tmp_path, clock) as rig:
        await rig.look("2026-05-01T18:10")
        assert rig.runs() == []
        assert rig.shelf("a.yaml")[1]


async def test_the_drop_box_runs_each_file_once_and_puts_its_result_beside_it(tmp_path: Path, clock: HandClock) -> None:
    async with life(tmp_path, clock) as rig:
        inbox = rig.path / "inbox"
        for count in (1, 2):  # the same file again is another run
            rig.put("inbox/a.yaml", HOURLY % "" + QUICK)
            await rig.look()
            assert len(rig.runs()) == count
            await rig.until_ended(count)
            await rig.look()
        assert sorted(os.listdir(inbox / "done")) == [
            "a.2.yaml",
            "a.2.yaml.result.json",
            "a.yaml",
            "a.yaml.result.json",
        ]
        result = json.loads((inbox / "done" / "a.yaml.result.json").read_text())
        assert result["status"] == "SUCCEEDED"
        assert result["jobs"]["a"]["counts"] == {"SUCCEEDED": 1}
        rig.put("inbox/b.yaml", WRONG)
        rig.put("inbox/c.yaml", "jobs: {a: {script: 'false', x-fake: {exit: 3}}}\n")
        await rig.look()
        await rig.until_ended(3)
        await rig.look()
        assert sorted(os.listdir(inbox / "failed")) == ["b.yaml", "b.yaml.errors.txt", "c.yaml", "c.yaml.result.json"]
        assert sorted(os.listdir(inbox)) == ["done", "failed"]


async def test_a_dropped_file_whose_run_goes_on_over_a_restart_is_not_run_again(
    tmp_path: Path, clock: HandClock
) -> None:
    async with life(tmp_path, clock) as rig:
        rig.put("inbox/a.yaml", LONG)
        await rig.look()
        await rig.look()
        assert rig.runs() == ["a"]
    async with life(tmp_path, clock) as rig:
        await rig.until_ended(1)  # the fake backend has lost what ran
        await rig.look()
        assert rig.runs() == ["a"]
        assert sorted(os.listdir(rig.path / "inbox" / "failed")) == ["a.yaml", "a.yaml.result.json"]


async def test_another_file_dropped_under_the_name_of_what_runs_has_its_turn_after_it(
    tmp_path: Path, clock: HandClock
) -> None:
    async with life(tmp_path, clock) as rig:
        done = rig.path / "inbox" / "done"
        rig.put("inbox/a.yaml", "name: first\n" + QUICK)
        await rig.look()
        rig.put("inbox/a.yaml", "name: second\n" + QUICK)  # before anybody has looked whether the first has ended
        await rig.until_ended(1)
        await rig.look()
        await rig.look()
        assert rig.runs() == ["first", "second"]
        await rig.until_ended(2)
        await rig.look()
        for file, name in (("a.yaml", "first"), ("a.2.yaml", "second")):
            assert (done / file).read_text().startswith(f"name: {name}\n")
            assert json.loads((done / f"{file}.result.json").read_text())["workflow"] == name
        assert os.listdir(rig.path / "inbox") == ["done"]


async def test_what_waits_for_another_takes_no_turn_from_others(tmp_path: Path, clock: HandClock) -> None:
    async with life(tmp_path, clock) as rig:
        rig.put("inbox/a.yaml", "name: first\n" + LONG)
        await rig.look()
        rig.library.pace = Bucket(0.001, clock.now())  # one at once, and none for long after it
        rig.put("inbox/a.yaml", "name: second\n" + QUICK)
        await rig.look()
        rig.put("b.yaml", QUICK)
        await rig.look()
        assert rig.runs() == ["first", "b"]


async def test_a_folder_that_is_put_in_the_place_of_the_watched_one_is_watched(
    tmp_path: Path, clock: HandClock
) -> None:
    async with life(tmp_path, clock) as rig:
        rig.put("a.yaml", HOURLY % "" + QUICK)
        rig.put("b.yaml", HOURLY % "" + QUICK)
        await rig.look("2026-05-01T12:30")
        shutil.copytree(rig.path, tmp_path / "new")
        (tmp_path / "new" / "b.yaml").unlink()
        (tmp_path / "new" / "c.yaml").write_text("name: c\n" + QUICK)
        rig.path.rename(tmp_path / "old")
        await rig.look("2026-05-01T13:00")  # nothing is there for a moment: what was accepted stays in force
        assert sorted(rig.runs()) == ["a", "b"]
        await rig.until_ended(2)
        assert set(rig.library.complaints) == {str(rig.path), str(rig.path / "inbox")}
        (tmp_path / "new").rename(rig.path)
        await rig.look("2026-05-01T14:00")
        assert rig.library.complaints == {}
        assert sorted(rig.runs()) == ["a", "a", "b", "c"]
        rig.put("inbox/d.yaml", QUICK)
        await rig.look()
        assert "d" in rig.runs()
