from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowbatch.cli.main import run
from flowbatch.clock import SystemClock
from flowbatch.model.ids import Millis, RunId
from flowbatch.model.rows import ShelfRow
from flowbatch.model.stimuli import Shelve
from tests.cli.filled import History

JOBS = "jobs: {a: {script: 'true'}}\n"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    history = History()
    for name, text, gone in (
        ("nightly.yaml", "schedule: {cron: '0 2 * * *', tz: Europe/Prague, overlap: queue}\n", False),
        ("often.yaml", "schedule: {cron: '* * * * *'}\n", False),
        ("gone.yaml", "schedule: {cron: '* * * * *'}\n", True),
        ("plain.yaml", "", False),
    ):
        history.tell(Shelve(1, ShelfRow(name, "d", text + JOBS, Millis(5), gone, RunId("0f9a1c1e-1"))))
    history.store(tmp_path / "state")
    return tmp_path / "state"


def test_the_next_one_comes_first(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(state), "schedules"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["WORKFLOW", "often.yaml", "nightly.yaml"]
    assert lines[2][-5:] == ["*", "Europe/Prague", "latest", "queue", "0f9a1c1e"]


def test_programs_get_the_times_to_come(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = SystemClock().now()
    assert run(["--state", str(state), "schedules", "--json"]) == 0
    often, nightly = json.loads(capsys.readouterr().out)
    assert (often["workflow"], often["seen_at"], often["last_run"]) == ("often.yaml", 5, "0f9a1c1e-1")
    assert len(often["next"]) == 5
    assert before < often["next"][0] <= SystemClock().now() + 60_000
    assert {later - sooner for sooner, later in zip(often["next"], often["next"][1:], strict=False)} == {60_000}
    assert nightly["tz"] == "Europe/Prague"


def test_where_nothing_is_scheduled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    History().store(tmp_path / "state")
    assert run(["--state", str(tmp_path / "state"), "schedules"]) == 0
    assert "No workflow here has a schedule" in capsys.readouterr().out
