from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from flowbatch.app import open_app
from flowbatch.cli.main import run
from flowbatch.folder import StateFolder
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import Action, FakeScript, RetryPolicy, Rule, RunPlan, When
from flowbatch.model.outcome import Outcome
from flowbatch.model.stimuli import Cancel, SubmitRun, Target, Terminate
from flowbatch.settings import Settings
from tests.cli.filled import History, id_of, renamed
from tests.core.builders import environment, job, need, queue

SHORT = id_of("run")[:8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StateFolder:
    """Ended: b:1 failed twice, c:1 and d with it; e was skipped; f could not start; g tolerates one failure."""
    history = History(environment(16))
    history.begin(
        "run",
        job("a"),
        job("b", size=3, needs=["a"], attempts=2),
        job("c", size=3, needs=[need("b", each=True)]),
        job("d", needs=["c"]),
        job("e", needs=[need("a", When.FAILURE)]),
        job("f"),
        job("g", size=2, tolerate=1),
        job("h", size=3, sequential=True),
    )
    history.done("a", "b:0", "b:2")
    history.done("b:1", "b:1#2", code=3)
    history.done("c:0", "c:2", "g:0")
    history.refuse(history.name("f"), "CannotStartContainerError: no such file")
    history.done("g:1", "h:0", code=7)
    return history.store(tmp_path_factory.mktemp("why") / "state")


def told(folder: StateFolder, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = run(["--state", str(folder.path), "why", *arguments])
    printed, errors = capsys.readouterr()
    assert code == 0, errors
    return printed.removesuffix("\n")


B_1 = "b:1 FAILED: attempt 2 exited with 3 after 500 ms, and 2 were allowed"


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("last", f"run {SHORT} (flow) FAILED: 5 of 8 jobs did; b FAILED: 1 of 3 children FAILED, none may; the first of them: {B_1}"),
        ("flow/a", "a SUCCEEDED: attempt 1 exited with 0 after 500 ms"),
        ("flow/b", f"b FAILED: 1 of 3 children FAILED, none may; the first of them: {B_1}"),
        ("flow/b:1", B_1),
        ("flow/c:1", "c:1 FAILED without an attempt: it needs b:1, which FAILED"),
        ("flow/d", "d FAILED without an attempt: it needs c, which FAILED"),
        ("flow/e", "e SUCCEEDED without an attempt: Skipped: a did not fail"),
        ("flow/f", "f FAILED: attempt 1 could not start (CannotStartContainerError: no such file), and 1 was allowed"),
        ("flow/g", "g SUCCEEDED: 1 of 2 children FAILED, 1 may; the first of them: g:1 FAILED: attempt 1 exited with 7 after 500 ms, and 1 was allowed"),
        ("flow/h:2", "h:2 FAILED without an attempt: it needs h:1, which FAILED"),
    ],
)  # fmt: skip
def test_how_it_ended(address: str, sentence: str, folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(folder, capsys, address) == sentence


def test_a_need_that_any_end_meets_is_not_to_blame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(environment(16))
    both = [need("a", When.DONE, each=True), need("b", each=True)]
    history.begin("run", job("a", size=2), job("b", size=2), job("c", size=2, needs=both))
    history.done("a:0", "b:0", code=1)
    history.done("a:1", "b:1", "c:1")
    folder = history.store(tmp_path / "state")
    assert told(folder, capsys, "last/c:0") == "c:0 FAILED without an attempt: it needs b:0, which FAILED"


def test_why_it_was_not_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(environment(16))
    policy = RetryPolicy(5, rules=(Rule(Action.EXIT, exit_code="2"),))
    history.begin(
        "run",
        job("rule", retry=policy),
        job("late", attempts=5),
        job("wide", size=2, attempts=5),
        job("stopped", attempts=5),
    )
    history.done("rule", code=2)
    history.end(history.name("late"), evidence=Evidence(143, timed_out=True))
    history.tell(Cancel(5, Target(job=JobId(id_of("run/wide")), indices=((1, 1),)), "enough"))
    history.tell(Terminate(6, Target(job=JobId(id_of("run/stopped"))), "enough"))
    history.done("wide:1", "stopped", code=1)
    folder = history.store(tmp_path / "state")
    ends = {
        "rule": "exited with 2 after 500 ms, and a rule of its `retry` exits on that (5 attempts were allowed)",
        "late": "(Job attempt duration exceeded timeout), and a timeout is never tried again",
        "wide:1": "exited with 1 after 500 ms, and it had been cancelled meanwhile",
        "stopped": "exited with 1 after 500 ms (enough)",
    }
    for name, end in ends.items():
        assert told(folder, capsys, f"flow/{name}").endswith(end)


def test_a_run_that_succeeded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History()
    history.begin("run", job("a"), job("b", size=2))
    history.done("a", "b:0", "b:1")
    folder = history.store(tmp_path / "state")
    assert told(folder, capsys, "last") == f"run {SHORT} (flow) SUCCEEDED: all of its 2 jobs have"
    assert told(folder, capsys, "last/b") == "b SUCCEEDED: none of its 2 children failed"


def test_for_programs(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(told(folder, capsys, "flow/b:1", "--json")) == {
        "run": id_of("run"), "job": "b", "job_id": id_of("run/b"), "index": 1, "status": "FAILED", "why": B_1,
    }  # fmt: skip
    assert json.loads(told(folder, capsys, "last", "--json"))["job"] is None


def test_no_engine_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(environment(1))
    history.begin("run", job("a"), job("b", size=3), job("c", needs=["b"]))
    history.start(history.name("a"))
    folder = history.store(tmp_path / "state")
    resume = f"`flowbatch --state {folder.path} resume {SHORT}` continues it"
    assert told(folder, capsys, "flow/c") == f"no engine runs: c is PENDING; {resume}"
    assert told(folder, capsys, "flow/b") == f"no engine runs: b is PENDING with 3 RUNNABLE; {resume}"
    assert told(folder, capsys, "flow/b:2") == f"no engine runs: b:2 is RUNNABLE; {resume}"
    ended = "a was RUNNING when the engine ended, and may have ended since"
    assert told(folder, capsys, "flow/a") == f"no engine runs: {ended}; {resume}"
    assert told(folder, capsys, "flow").startswith(
        f"run {SHORT} (flow) is RUNNING: 3 of 3 jobs are open; no engine runs: a"
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [("flow/b:0-1", "one child is explained at a time, like b:0"), ("flow/b:9", "has no child 9"), ("x", "no run has")],
)
def test_wrong_input(address: str, message: str, folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(folder.path), "why", address]) == 2
    assert message in capsys.readouterr().err


async def test_a_running_engine_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hour = FakeScript(duration_ms=3_600_000)
    plans = [job("a"), job("b", size=2, needs=["a"]), job("big", vcpus=2)]
    fakes = tuple(renamed(replace(plan, spec=replace(plan.spec, fake=hour)), "run") for plan in plans)
    plan = RunPlan(RunId(id_of("run")), "flow", fakes)
    folder = StateFolder(tmp_path / "state")
    settings = Settings((environment(2),), (queue(),))

    async def why(address: str, *options: str) -> str:
        """In a thread: the verb blocks until the engine, which runs here, has answered."""
        arguments = ["--state", str(folder.path), "why", address, *options]
        assert await anyio.to_thread.run_sync(partial(run, arguments)) == 0
        return capsys.readouterr().out.strip()

    async with open_app(folder, settings, fake_only=True) as app:
        runs = anyio.Event()

        def look(_: Outcome) -> None:
            if any(live.started_at for live in app.engine.machine.state.live.values()):
                runs.set()

        app.engine.observe(look)
        answer = await app.engine.ask(lambda ticket: SubmitRun(ticket, plan))
        assert answer.error is None
        await runs.wait()
        a = await why("flow/a")
        assert a.startswith("a is RUNNING for ")
        assert a.endswith(" s in environment default, attempt 1")
        assert await why("flow/b:1") == "b:1 is PENDING: it waits for a (RUNNING) to succeed"
        big = await why("flow/big")
        assert big == "big is RUNNABLE: it needs 2 vCPU; default has 1 of 2 vCPUs free, 1 tasks run there"
        told: dict[str, Any] = json.loads(await why("flow/big", "--json"))
        assert (told["status"], told["why"]) == ("RUNNABLE", big)
        assert (await why("flow")).startswith(f"run {SHORT} (flow) is RUNNING: 3 of 3 jobs are open; a is ")
