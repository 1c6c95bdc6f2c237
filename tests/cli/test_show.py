from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from flowbatch.cli.main import run
from flowbatch.folder import StateFolder
from flowbatch.model.container import Container, Mount
from flowbatch.model.ending import Evidence
from flowbatch.model.jobspec import JobPlan, SecretSource
from flowbatch.model.stimuli import Exited, Started
from tests.cli.filled import History, id_of
from tests.core.builders import environment, job, need


def dressed(plan: JobPlan) -> JobPlan:
    """With everything that a job may have on."""
    spec = replace(
        plan.spec,
        command=("echo", "two words", "\x1b[31mred"),
        env=(("GREETING", "it's me"),),
        secrets=(("TOKEN", SecretSource(env="MY_TOKEN")),),
        items=("first", {"lr": "1", "seed": "2"}, "third"),
        timeout_ms=90_000,
        tags=(("team", "blue"),),
        container=Container("busybox:1", mounts=(Mount("frames", "/frames", volume=True),), network="none"),
    )
    return replace(plan, spec=spec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StateFolder:
    history = History(environment(16))
    history.begin(
        "run",
        job("a"),
        dressed(job("b", size=3, needs=["a"], attempts=2)),
        job("c", size=3, needs=[need("b", each=True)]),
        params=(("shot", "sq010"),),
    )
    history.done("a", "b:0", "b:2", "c:0")
    history.done("b:1", "b:1#2", code=3)
    folder = history.store(tmp_path_factory.mktemp("show") / "state")
    history.log(folder, "b:1", "o no")
    return folder


def told(folder: StateFolder, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = run(["--state", str(folder.path), "show", *arguments])
    printed, errors = capsys.readouterr()
    assert code == 0, errors
    return printed


def json_of(folder: StateFolder, capsys: pytest.CaptureFixture[str], address: str) -> dict[str, Any]:
    found = json.loads(told(folder, capsys, address, "--json"))
    assert isinstance(found, dict)
    return found


def test_a_run(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    printed = told(folder, capsys, "last")
    assert f"run         {id_of('run')}" in printed
    assert (
        f"status      RUNNING (interrupted: `flowbatch --state {folder.path} resume {id_of('run')[:8]}` continues it)"
        in printed
    )
    assert "parameters  shot=sq010" in printed
    assert "2 SUCCEEDED, 1 FAILED" in printed
    found = json_of(folder, capsys, "last")
    assert (found["kind"], found["params"], found["stage"]) == ("run", {"shot": "sq010"}, "main")
    assert found["jobs"][1]["counts"] == {"SUCCEEDED": 2, "FAILED": 1}
    assert found["jobs"][1]["array"] == 3


def test_an_array(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    printed = told(folder, capsys, "flow/c")
    assert "needs      each b" in printed
    assert "children   1 STARTING, 1 SUCCEEDED, 1 FAILED" in printed
    assert "c:1" in printed
    found = json_of(folder, capsys, "flow/b")
    assert (found["kind"], found["index"], found["array"]) == ("job", None, 3)
    assert found["counts"] == {"SUCCEEDED": 2, "FAILED": 1}
    assert found["spec"]["needs"] == [{"job": "a", "when": "success", "each": False}]
    assert found["spec"]["secrets"] == ["TOKEN"]


def test_a_child_with_all_its_attempts(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    printed = told(folder, capsys, "flow/b:1")
    assert f"job          b:1 ({id_of('run/b')}:1)" in printed
    assert "exit code    3" in printed
    assert "item         lr=1 seed=2" in printed
    assert "command      echo 'two words' 'red'" in printed
    assert "container    image busybox:1; volume frames at /frames; network none" in printed
    assert "\x1b" not in printed
    assert "MY_TOKEN" not in printed
    assert "(there is none)" in printed.splitlines()[-1]
    found = json_of(folder, capsys, "flow/b:1")
    assert (found["kind"], found["index"], found["attempts"], found["exit_code"]) == ("child", 1, 2, 3)
    assert found["items"] == [{"lr": "1", "seed": "2"}]
    assert found["spec"]["container"]["image"] == "busybox:1"
    assert [(each["attempt"], each["exit_code"]) for each in found["history"]] == [(1, 3), (2, 3)]
    assert Path(found["history"][0]["log"]).read_text() == "1000 o no\n"


def test_an_attempt(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(told(folder, capsys, "flow/b:1#1").splitlines()) == 4
    found = json_of(folder, capsys, "flow/b:1#1")
    assert (found["kind"], found["attempt"], found["environment"]) == ("attempt", 1, "default")
    assert found["id"] == f"{id_of('run/b')}.1.1"


def test_a_single(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert "ATTEMPT  ENVIRONMENT" in told(folder, capsys, "flow/a")
    found = json_of(folder, capsys, id_of("run/a"))
    assert (found["kind"], found["index"], found["attempts"], len(found["history"])) == ("job", None, 1, 1)


def test_a_capped_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(environment(1))
    history.begin("run", job("a", attempts=2))
    history.end(history.name("a"), evidence=Evidence(3, truncated=True))
    history.end(history.name("a#2"))
    folder = history.store(tmp_path / "state")
    assert [each["truncated"] for each in json_of(folder, capsys, "flow/a")["history"]] == [True, False]
    assert json_of(folder, capsys, "flow/a#1")["truncated"] is True
    lines = told(folder, capsys, "flow/a").splitlines()
    assert lines[-2] == "  it was capped: its beginning is gone"
    assert lines[-3].startswith("log of attempt 1: ")


def test_the_images_of_attempts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once where all had the same; else each is named, for the tag has moved in between."""
    history = History()
    history.begin("one", job("same", attempts=2), job("moved", attempts=2))
    for name, images in (("same", ("x@sha256:1", "x@sha256:1")), ("moved", ("x@sha256:1", "x@sha256:2"))):
        for number, image in enumerate(images, 1):
            key = history.key(f"{name}:0#{number}", "one")
            history.tell(Started(key, history.now, image=image))
            history.tell(Exited(key, history.now, Evidence(2 - number), history.now))
    folder = history.store(tmp_path / "state")
    assert "image: x@sha256:1" in told(folder, capsys, "last/same").splitlines()
    lines = told(folder, capsys, "last/moved").splitlines()
    assert lines[-4:-2] == ["image of attempt 1: x@sha256:1", "image of attempt 2: x@sha256:2"]
    shown = json_of(folder, capsys, "last/moved")["history"]
    assert [each["image"] for each in shown] == ["x@sha256:1", "x@sha256:2"]


def test_a_child_that_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(environment(1))
    history.begin("run", job("a"), job("b", size=3, needs=["a"]))
    folder = history.store(tmp_path / "state")
    assert "No attempt has begun yet." in told(folder, capsys, "flow/b:2")
    assert json_of(folder, capsys, "flow/b:2")["history"] == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("flow/b:1#9", "there was no attempt 9; it has had 2"),
        ("flow/b:0-1", "one child is shown at a time"),
        ("flow/b:failed", "one child is shown at a time"),
        ("flow/b:3", "has no child 3; its indices are 0 to 2"),
        ("flow/a:0", "a is a single job"),
        ("flow/d", "has no job 'd'"),
        ("flow/b#1", "an attempt is that of one child"),
        ("flow//b", "not an address"),
    ],
)
def test_wrong_addresses(address: str, message: str, folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(folder.path), "show", address]) == 2
    assert message in capsys.readouterr().err
