from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowbatch.cli.main import run
from flowbatch.folder import StateFolder
from flowbatch.model.jobspec import Stage
from tests.cli.filled import History, id_of
from tests.core.builders import environment, job, need

FILE = "jobs: {a: {script: a}, b: {array: 3, needs: a, script: b}, c: {needs: [{each: b}], script: c}}\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flow.yaml").write_text(FILE)


@pytest.fixture
def folder() -> StateFolder:
    history = History(environment(2))
    history.begin(
        "run",
        job("a"),
        job("b", size=3, needs=["a"]),
        job("c", size=3, needs=[need("b", each=True)]),
        job("report", stage=Stage.FINALLY),
    )
    history.done("a", "b:0")
    return history.store(Path(".flowbatch"))


def test_a_workflow(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph", "flow.yaml"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "flow",
        "",
        "●      a",
        "╰─●    b  ×3  ← a",
        "  ╘═●  c  ×3  ← each b",
        "",
        "══ child by child (each)",
    ]


def test_a_run_with_how_it_stands(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph", "last"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"flow {id_of('run')[:8]} RUNNING",
        "",
        "✓      a      SUCCEEDED",
        "╰─▶    b  ×3  2 STARTING, 1 SUCCEEDED  ← a",
        "  ╘═○  c  ×3  2 PENDING, 1 RUNNABLE    ← each b",
        "",
        "finally, when all of the above have ended:",
        "○  report  PENDING",
        "",
        "══ child by child (each)",
    ]


def test_a_run_for_programs(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph", id_of("run")[:6], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["workflow"], told["run"], told["status"]) == ("flow", id_of("run"), "RUNNING")
    jobs = told["jobs"]
    assert jobs[1] == {
        "job": "b", "array": 3, "finally": False, "image": None, "needs": [{"job": "a", "when": "success", "each": False}],
        "status": "PENDING", "counts": {"STARTING": 2, "SUCCEEDED": 1},
    }  # fmt: skip
    assert jobs[0]["counts"] is None
    assert jobs[3]["finally"] is True


@pytest.mark.parametrize(("form", "first"), [("mermaid", "---"), ("dot", 'digraph "flow" {')])
def test_for_other_programs(form: str, first: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph", "flow.yaml", "--format", form]) == 0
    assert capsys.readouterr().out.splitlines()[0] == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "nowhere.yaml: the workflow cannot be read"),
        (["nowhere"], "there is no state folder here yet"),
        (["flow.yaml", "--format", "png"], "'png' is not one of"),
        (["flow.yaml", "-p", "x=1"], "x"),
    ],
)
def test_wrong_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_terminal_that_knows_no_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with target.open("w", encoding="ascii") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert run(["graph", "flow.yaml"]) == 0
    assert target.read_text(encoding="ascii").splitlines()[2] == "*      a"
