from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowbatch.cli.events import news, print_event, seq_of, time_of
from flowbatch.cli.main import run
from flowbatch.errors import InputError
from flowbatch.folder import StateFolder
from flowbatch.model.events import ChildEvents, EventKind, EventRow, SinkChange, kind_of
from flowbatch.model.ids import Millis
from flowbatch.store.reader import Reader
from flowbatch.store.results import Event
from tests.cli.filled import History, id_of
from tests.core.builders import environment, job


@pytest.fixture
def history() -> History:
    history = History(environment(16), child_events=ChildEvents.ALL)
    history.begin("run", job("a"), job("b", size=2, needs=["a"]))
    history.done("a", "b:0")
    history.done("b:1", code=3)
    history.begin("second", job("x"), workflow="other")
    return history


@pytest.fixture
def folder(history: History, tmp_path: Path) -> StateFolder:
    return history.store(tmp_path / "state")


def told(folder: StateFolder, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    code = run(["--state", str(folder.path), "events", *arguments])
    printed, errors = capsys.readouterr()
    assert code == 0, errors
    return printed.splitlines()


def json_of(folder: StateFolder, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told(folder, capsys, *arguments, "--json")]


def test_every_change_has_its_kind(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(folder, capsys, "--run", "flow")
    assert [each["kind"] for each in found if each["job"] == "a"] == [
        "job.runnable",
        "job.starting",
        "job.running",
        "job.succeeded",
    ]
    assert [(each["kind"], each["index"]) for each in found if each["job"] == "b" and each["index"] == 1][-1] == (
        "child.failed",
        1,
    )
    assert (found[0]["kind"], found[-1]["kind"]) == ("run.running", "run.failed")


def test_an_event_for_programs(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    [event] = [each for each in json_of(folder, capsys) if each["kind"] == "child.failed"]
    assert event == {
        "id": event["id"], "seq": event["seq"], "at": 4500 + 1000, "kind": "child.failed", "run": id_of("run"), "job": "b",
        "job_id": id_of("run/b"), "index": 1, "attempt": 1, "exit_code": 3, "reason": None,
        "status_reason": "Essential container in task exited", "detail": {"started_at": 5000},
    }  # fmt: skip


def test_events_for_people(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    [line] = [line for line in told(folder, capsys) if "child.failed" in line]
    assert line.endswith(f"child.failed     {id_of('run')[:8]}/b:1#1  exit 3, Essential container in task exited")


def test_it_says_when_children_are_not_logged(
    folder: StateFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["--state", str(folder.path), "events"])
    assert capsys.readouterr().err.startswith("Of arrays only those runs log children")
    monkeypatch.setenv("FLOWBATCH_CHILD_EVENTS", "ends")
    run(["--state", str(folder.path), "events"])
    assert capsys.readouterr().err == ""


def test_a_part_of_the_log(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    seqs = [each["seq"] for each in json_of(folder, capsys)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert [each["seq"] for each in json_of(folder, capsys, "--limit", "3")] == seqs[-3:]
    assert [each["seq"] for each in json_of(folder, capsys, "--since", "4")] == seqs[4:]
    assert [each["seq"] for each in json_of(folder, capsys, "--since", "4", "--limit", "2")] == [5, 6]
    assert json_of(folder, capsys, "--since", str(seqs[-1])) == []
    last = json_of(folder, capsys, "--run", "flow", "--limit", "1")
    assert [each["kind"] for each in last] == ["run.failed"]


def test_since_a_time(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(folder, capsys, "--since", "1970-01-01T00:00:02+00:00")
    assert found[0]["at"] == 2000
    assert json_of(folder, capsys, "--since", "10m") == []
    with Reader(folder.database) as reader:
        every = {event.seq: event.row.at for event in reader.events()}
        for at in {0, 1, *every.values(), 10**9}:
            text = f"1970-01-01T00:00:{at / 1000:06.3f}+00:00" if at < 60_000 else "1970-01-12"
            assert seq_of(reader, text) == max((seq for seq, when in every.items() if when < at), default=0)


@pytest.mark.parametrize("since", ["yesterday", "-5", "10x", ""])
def test_a_time_that_is_none(since: str) -> None:
    with pytest.raises(InputError, match="give a number, a time"):
        time_of(since)


def test_following_shows_what_comes_until_the_run_ends(history: History, folder: StateFolder) -> None:
    with Reader(folder.database) as reader:
        second = reader.run("other")
        pauses = 0

        def pause() -> None:
            """What else happens meanwhile: the run ends in the second pause."""
            nonlocal pauses
            pauses += 1
            if pauses == 1:
                history.start(history.name("x", "second"))
            else:
                history.end(history.name("x", "second"))
            history.store(folder.path)

        found = [kind_of(event.row) for event in news(reader, reader.last_seq(), second, pause)]
    assert found == ["job.running", "job.succeeded", "run.succeeded"]
    assert pauses == 2


def test_following_an_ended_run_ends(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert json_of(folder, capsys, "--run", "flow", "-f") == json_of(folder, capsys, "--run", "flow")


def test_wrong_input(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(folder.path), "events", "--run", "fow"]) == 2
    assert "did you mean 'flow'" in capsys.readouterr().err
    assert run(["--state", str(folder.path), "events", "--since", "soon"]) == 2
    assert "--since soon: give a number" in capsys.readouterr().err


def test_reasons_drive_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History()
    history.begin("run", job("a"))
    history.refuse(history.name("a"), "CannotStartContainerError: \x1b[2J\x9bgone\r\x08\n\u202e")
    printed = "\n".join(told(history.store(tmp_path / "state"), capsys))
    assert "gone" in printed
    assert not set(printed) & set("\x1b\x07\x08\x9b\r\u202e")


def test_what_became_of_deliveries_says_whose(capsys: pytest.CaptureFixture[str]) -> None:
    detail = '{"sink": "1a2b3c4d-0000-4000-8000-000000000000/slack", "first": 4, "last": 9}'
    row = EventRow(Millis(0), EventKind.SINK, None, None, None, None, SinkChange.GAP, None, None, "gone", detail)
    event = Event(7, row, None, None, None, "evt_x")
    print_event(event, as_json=False)
    assert "delivery.gap     -  1a2b3c4d/slack, events 4..9  gone" in capsys.readouterr().out
    print_event(event, as_json=True)
    assert json.loads(capsys.readouterr().out)["detail"]["last"] == 9
