"""Nodes and containers in the verbs that show things: `@` in addresses, tables, JSON, logs and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowbatch.cli.main import run
from flowbatch.folder import StateFolder
from flowbatch.model.ids import node_id
from flowbatch.model.jobspec import After, Condition
from tests.cli.filled import History, id_of
from tests.core.builders import crewed, environment, gang


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StateFolder:
    history = History(environment(16))
    parts = (("app", True, (After(1, Condition.SUCCESS),)), ("init", False, ()))
    history.begin("run", gang(3), crewed(*parts))
    history.start(history.name("g@0"))
    history.start(history.name("g@1"), history.name("g@2"))
    history.end(history.name("g@2"), code=3)
    history.end(history.name("g@0"))
    history.end(history.name("g@1"), code=143)
    history.end(history.name("t@1"), code=9)
    folder = history.store(tmp_path_factory.mktemp("members") / "state")
    history.log(folder, "g@0", "o gathered")
    history.log(folder, "g@2", "o so far", "e no further")
    return folder


class Told:
    def __init__(self, folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What is printed, or what is said of a refusal."""
        found = run(["--state", str(self.folder.path), *arguments])
        printed, errors = self.capsys.readouterr()
        assert found == code, errors
        return errors if code else printed

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def told(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> Told:
    return Told(folder, capsys)


def row(text: str, first: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(first))


def test_a_job_shows_its_nodes(told: Told) -> None:
    text = told("show", "last/g")
    assert row(text, "0 (main)")[:3] == ["0", "(main)", "SUCCEEDED"]
    assert row(text.partition("NODE")[2], "1 ")[1:4:2] == ["FAILED", "143"]
    assert "Main node exited" in text
    assert "3 nodes, node 0 is the main one" in text
    assert "logs last" not in text
    assert f"{id_of('run')[:8]}/g@0" in text


def test_one_node(told: Told) -> None:
    text = told("show", "last/g@2")
    assert row(text, "exit code") == ["exit", "code", "3"]
    assert node_id(id_of("run/g"), 2) in text  # type: ignore[arg-type]
    assert told("show", f"{id_of('run/g')}#2") == text  # AWS's id of it


def test_json_has_all_of_them(told: Told) -> None:
    members = told.json("show", "last/g")["members"]
    assert [(each["label"], each["status"], each["exit_code"], each["main"]) for each in members] == [
        ("0", "SUCCEEDED", 0, True), ("1", "FAILED", 143, False), ("2", "FAILED", 3, False),
    ]  # fmt: skip
    assert len({each["address"] for each in members}) == 3
    assert told.json("show", "last/g@1") == {"kind": "node", **members[1]}
    assert told.json("show", "last/g")["spec"]["members"]["groups"][0]["last"] == 2


def test_containers_go_by_their_names(told: Told) -> None:
    text = told("show", "last/t")
    assert row(text, "app")[1] == "FAILED"
    assert "it depends on init (SUCCESS), which can no longer come true" in text
    assert "app: 1 vCPU, after init (SUCCESS)" in text
    assert told.json("show", "last/t@init")["exit_code"] == 9


def test_jobs_lists_them_where_all_is_asked_for(told: Told) -> None:
    assert "g@1" not in told("jobs", "last")
    assert row(told("jobs", "last", "--all"), "g@1")[1] == "FAILED"
    labels = [each.get("member") for each in told.json("jobs", "last", "--all")]
    assert labels == [None, "0", "1", "2", None, "app", "init"]
    assert [each.get("member") for each in told.json("jobs", "last", "--all", "--status", "succeeded")] == [None, "0"]


def test_logs(told: Told) -> None:
    assert told("logs", "last/g@2") == "so far\nno further\n"
    assert told("logs", "last/g@2", "--tail", "1") == "no further\n"
    assert told("logs", "last/g") == "g@0| gathered\ng@2| so far\ng@2| no further\n"
    assert told("logs", "last") == "g@0| gathered\ng@2| so far\ng@2| no further\n"
    first = json.loads(told("logs", "last/g@0", "--json").splitlines()[0])
    assert (first["job"], first["member"], first["attempt"]) == ("g", "0", 1)
    assert told("logs", "last/g@2", "-f") == "so far\nno further\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("logs", "last/g", "-f"), "one node or container is followed at a time, like"),
        (("show", "last/g@3"), "g has no node or container '3'; it has 0 to 2"),
        (("show", "last/t@ap"), "t has no node or container 'ap' (did you mean 'app'?); it has app, init"),
        (("cancel", "last/g@1"), "nodes and containers live and end with their job"),
        (("show", "last/g@1#7"), "there was no attempt 7; it has had 1"),
    ],
)
def test_refusals(told: Told, words: tuple[str, ...], said: str) -> None:
    assert said in told(*words, code=2)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("last/g@1", "g@1 FAILED: exited with 143 (Main node exited)"),
        ("last/t@app", "t@app FAILED: never began (it depends on init (SUCCESS), which can no longer come true)"),
    ],
)
def test_why(told: Told, address: str, said: str) -> None:
    assert told("why", address) == f"{said}\n"
    assert told.json("why", address)["why"] == said


def test_gc_knows_their_logs(folder: StateFolder, tmp_path: Path) -> None:
    from flowbatch.cli.gc import LOG

    found = [f"{path.parent.name}/{path.name}" for path in folder.logs.glob("*/*")]
    assert len(found) == 2
    assert all(LOG.fullmatch(name) for name in found)
