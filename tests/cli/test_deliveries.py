"""`deliveries`, `redeliver`, `notify`: from a run with receivers to what became of its events."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from flowbatch.app import open_app
from flowbatch.folder import StateFolder
from flowbatch.model.ids import Millis
from flowbatch.model.notify import Dead, SinkProgress
from flowbatch.model.stimuli import TellProgress
from flowbatch.settings import defaults
from flowbatch.store.outbox import Outbox
from tests.app.commands import PATIENCE_S, Commands, commands

pytestmark = pytest.mark.slow

WORKFLOW = """
name: told
environments: {here: {backend: fake}}
queues: {only: {environments: [here]}}
defaults: {queue: only, command: [pretend]}
jobs:
  a: {array: 3, x-fake: {by_index: {'1': {exit: 3}}}}
notify:
  - {name: file, to: {jsonl: events.jsonl}, arrays: both}
  - {name: down, to: 'http://127.0.0.1:1/', events: run.failed}
  - {name: prog, to: {exec: [sh, -c, 'exit 3']}, as: text, events: run.failed}
"""


@pytest.fixture
def told(tmp_path: Path) -> Any:
    with commands(tmp_path) as flowbatch:
        flowbatch.write("flowbatch.yaml", "webhooks: {allow_networks: [127.0.0.1], wait: 2s}\n")
        flowbatch.write("told.yaml", WORKFLOW)
        done = flowbatch.call("run", "told.yaml")
        assert done.code == 1, done.err
        assert "Waiting up to 2.0 s for notifications: " in done.err
        assert (
            "Still owed to down, http://127.0.0.1:1: 1 notification (no connection: Connection refused). " in done.err
        )
        yield flowbatch


def lines(flowbatch: Commands) -> list[Any]:
    return [json.loads(line) for line in (flowbatch.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def test_what_became_of_events(told: Commands) -> None:
    found = told.ok("deliveries", "--json").json
    sinks = {each["sink"].rpartition("/")[2]: each for each in found["sinks"]}
    assert {name: each["status"] for name, each in sinks.items()} == {"file": "CLOSED", "down": "OPEN", "prog": "OPEN"}
    assert sinks["down"]["error"] == "no connection: Connection refused"
    assert sinks["file"]["delivered"] == len(lines(told)) == 13
    assert {(each["tries"], each["status"]) for each in found["deliveries"]} == {(1, None)}
    refused = told.ok("deliveries", "--failed", "--json").json["failed"]
    assert [(each["state"], each["tries"], each["error"]) for each in refused] == [("parked", 1, "sh exited with 3:")]
    with Outbox(told.state / "flowbatch.db") as outbox:
        parked = {each.name: each.parked for each in outbox.meters()}
    assert parked == {"run/down": 0, "run/file": 0, "run/prog": 1}
    for words in (["deliveries"], ["deliveries", "--sink", "down"], ["deliveries", "--failed"]):
        assert "RECEIVER" in told.ok(*words).out
    assert told.call("deliveries", "--sink", "nobody").code == 2


def test_delivering_again(told: Commands) -> None:
    before = lines(told)
    assert "Done: what " in told.ok("redeliver", "--sink", "file", "--from", "2", "--to", "4").out
    assert lines(told)[len(before) :] == before[1:4]
    logged = [json.loads(line) for line in told.ok("events", "--json").out.splitlines()]
    assert [each["id"] for each in before] == [each["id"] for each in logged if each["run"] is not None][: len(before)]
    told.ok("redeliver", "--sink", "file", "--id", logged[0]["id"])
    assert lines(told)[-1] == before[0]
    nothing = told.ok("redeliver", "--sink", "file", "--dead")
    assert (nothing.out, nothing.err) == (
        "",
        f"Nothing was given up for {told.ok('runs', '--json').json[0]['id'][:8]}/file.\n",
    )
    for words in (["--from", "1", "--dead"], [], ["--id", "evt_1"], ["--from", "900"]):
        assert told.call("redeliver", "--sink", "file", *words).code == 2


def test_trying_a_receiver_out(told: Commands) -> None:
    done = told.call("notify", "test", "down", "--workflow", "told.yaml")
    assert (done.code, done.err.strip()) == (
        1, "down: http://127.0.0.1:1 did not take it: no connection: Connection refused",
    )  # fmt: skip
    assert told.ok("notify", "test", "file", "--workflow", "told.yaml", "--json").json["delivered"] is True
    assert lines(told)[-1]["flowbatch"]["kind"] == "test"
    assert told.call("notify", "test", "file").code == 2  # the settings have none


def test_what_is_owed_stays_owed(told: Commands) -> None:
    done = told.call("notify", "flush", "--json")
    assert (done.code, len(done.json["owed"])) == (1, 2)
    assert "is enabled" in told.ok("notify", "enable", "down").out


def test_a_run_without_receivers_says_nothing(tmp_path: Path) -> None:
    with commands(tmp_path) as flowbatch:
        flowbatch.write("w.yaml", WORKFLOW.partition("notify:")[0])
        assert "notification" not in flowbatch.call("run", "w.yaml").err
        assert "No receiver of events is known" in flowbatch.ok("deliveries").out
        assert flowbatch.ok("deliveries", "--json").json == {"sinks": [], "deliveries": []}
        assert flowbatch.ok("notify", "flush").out.strip() == "Nothing is owed."


def test_who_is_told_nothing_is_said(tmp_path: Path) -> None:
    """A receiver that was disabled, and one that the settings have no more: neither is forgotten in silence."""
    with commands(tmp_path) as flowbatch, unheard() as port:
        there = f"{{name: gone, to: 'http://127.0.0.1:{port}/', events: 'run.*'}}"
        flowbatch.write("flowbatch.yaml", f"webhooks: {{allow_networks: [127.0.0.1], wait: 1s}}\nnotify: [{there}]\n")
        flowbatch.write("told.yaml", WORKFLOW.partition("notify:")[0])
        assert "Still owed to gone" in flowbatch.call("run", "told.yaml").err
        flowbatch.write("flowbatch.yaml", "webhooks: {wait: 1s}\n")
        said = f"gone, http://127.0.0.1:{port}, is told nothing and "
        assert said in (err := flowbatch.call("run", "told.yaml").err)
        assert "the settings have no receiver of that name any more" in err
        done = flowbatch.call("notify", "flush")
        assert (done.code, said in done.err) == (1, True)
        flowbatch.write("flowbatch.yaml", f"webhooks: {{allow_networks: [127.0.0.1], wait: 1s}}\nnotify: [{there}]\n")
        anyio.run(disable, flowbatch, "gone")
        done = flowbatch.call("notify", "flush")
        assert (done.code, said in done.err) == (1, True)
        assert "disabled: 410 gone; `flowbatch notify enable gone` sends it all" in done.err
        assert flowbatch.call("notify", "flush", "--json").json["silent"][0]["name"] == "gone"
        flowbatch.write("flowbatch.yaml", "webhooks: {wait: 1s}\n")  # disabled, and declared no more: nothing is open
        done = flowbatch.call("notify", "flush")
        assert (done.code, said in done.err) == (1, True)


def test_what_a_receiver_has_refused_is_not_forgotten_with_it(tmp_path: Path) -> None:
    with commands(tmp_path) as flowbatch:
        refusing = "notify: [{name: prog, to: {exec: [sh, -c, 'exit 1']}, as: text}]\n"
        flowbatch.write("flowbatch.yaml", f"webhooks: {{wait: 1s}}\n{refusing}")
        flowbatch.write("told.yaml", WORKFLOW.partition("notify:")[0])
        flowbatch.call("run", "told.yaml")
        flowbatch.write("flowbatch.yaml", "webhooks: {wait: 1s}\n")
        done = flowbatch.call("notify", "flush")
        assert done.code == 1, done
        assert " refused: the settings have no receiver of that name any more" in done.err


@contextmanager
def unheard() -> Iterator[int]:
    """A port at which nobody listens, and which nobody else gets."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def disable(flowbatch: Commands, key: str) -> None:
    """As its lane does after a 410."""
    async with open_app(StateFolder(flowbatch.state), defaults(), hold_open_runs=True) as app:
        progress = SinkProgress(key, app.engine.clock.now(), 0, disable="410 gone")
        await app.engine.ask(lambda ticket: TellProgress(ticket, progress, None))


def test_what_was_refused_is_sent_again_at_once_by_flush(tmp_path: Path) -> None:
    with commands(tmp_path) as flowbatch:
        program = f"{{exec: [sh, -c, 'test -e {tmp_path}/open']}}"
        flowbatch.write(
            "flowbatch.yaml", f"webhooks: {{wait: 1s}}\nnotify: [{{name: prog, to: {program}, as: text}}]\n"
        )
        flowbatch.write("told.yaml", WORKFLOW.partition("notify:")[0])
        assert "(sh exited with 1:)" in flowbatch.call("run", "told.yaml").err
        (tmp_path / "open").touch()
        assert flowbatch.ok("notify", "flush").out.strip() == "Nothing is owed."


def test_an_engine_that_runs_is_told_to_try_what_waits_now(tmp_path: Path) -> None:
    with commands(tmp_path) as flowbatch:
        tried, gate = flowbatch.pipe("tried"), flowbatch.pipe("gate")
        program = f"{{exec: [sh, -c, 'echo tried > {tmp_path}/tried; test -e {tmp_path}/open']}}"
        receiver = f"{{name: prog, to: {program}, as: text, events: job.succeeded}}"
        flowbatch.write("flowbatch.yaml", f"webhooks: {{wait: 1s}}\nnotify: [{receiver}]\n")
        file = flowbatch.write(
            "two.yaml", f"jobs: {{a: {{script: 'true'}}, b: {{script: 'read _ < {tmp_path}/gate'}}}}\n"
        )
        engine = flowbatch.start("run", file)
        tried.lines(1)
        until(lambda: bool(flowbatch.ok("deliveries", "--failed", "--json").json["failed"]))
        (tmp_path / "open").touch()
        done = flowbatch.ok("notify", "flush")
        assert done.out.splitlines() == [
            "Tried now, prog: 1 message (sh exited with 1:)",
            f"`flowbatch --state {flowbatch.state} deliveries` shows what becomes of it.",
        ]
        tried.lines(1)
        until(lambda: flowbatch.ok("notify", "flush").out == "Nothing is owed.\n")
        gate.let(1)
        assert flowbatch.end(engine).code == 0


def until(there: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < ends, "it never came"


async def collect(flowbatch: Commands) -> int:
    """As `gc` does, of runs that ended just now."""
    async with open_app(StateFolder(flowbatch.state), defaults(), hold_open_runs=True) as app:
        return await app.engine.collect(Millis(app.engine.clock.now() + 1000))


def test_what_is_collected_before_it_is_delivered_is_a_gap_that_is_told(tmp_path: Path) -> None:
    """Of events that wait to be read, of one that was refused and is to be tried again, and of a digest on its way."""
    with commands(tmp_path) as flowbatch:
        sinks = """
  - {name: down, to: 'http://127.0.0.1:1/', events: 'run.*'}
  - {name: refuses, to: {exec: [sh, -c, 'exit 3']}, as: text, events: run.failed}
  - {name: summary, to: 'http://127.0.0.1:1/', as: slack, events: run.failed, digest: 1s}
  - {name: log, to: {jsonl: log.jsonl}, events: 'delivery.*'}
"""
        flowbatch.write("flowbatch.yaml", f"webhooks: {{allow_networks: [127.0.0.1], wait: 2s}}\nnotify:{sinks}")
        flowbatch.write("told.yaml", WORKFLOW.partition("notify:")[0])
        assert flowbatch.call("run", "told.yaml").code == 1
        held = {each["sink"]: each for each in flowbatch.ok("deliveries", "--json").json["sinks"]}
        assert held["down"]["lag"] > 0
        assert anyio.run(collect, flowbatch) == 1
        held = {each["sink"]: each for each in flowbatch.ok("deliveries", "--json").json["sinks"]}
        assert held["down"]["lag"] > 0  # of events that are gone
        flowbatch.call("notify", "flush")
        failed = flowbatch.ok("deliveries", "--failed", "--json").json["failed"]
        assert {(each["sink"], each["state"]) for each in failed} >= {
            ("down", "gap"), ("refuses", "gap"), ("summary", "gap"),
        }, failed  # fmt: skip
        assert not [each for each in failed if each["state"] == "parked"]
        assert "collected before it was delivered" in flowbatch.ok("deliveries", "--failed").out
        flowbatch.call("notify", "flush")
        told = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        gaps = [event["detail"]["sink"] for event in told if event["flowbatch"]["kind"] == "delivery.gap"]
        assert {"down", "refuses", "summary"} <= set(gaps)
        assert len(gaps) < 10
        gone = flowbatch.call("redeliver", "--sink", "log", "--from", "1", "--to", "2")
        assert (gone.code, gone.err) == (
            2,
            "flowbatch: events 1..2 were collected: they go with their runs (`gc`, `retention`)\n",
        )
        again = flowbatch.ok("redeliver", "--sink", "log", "--from", "1")  # what is left of the log
        assert "the log still has" in again.err
        after = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [event["id"] for event in after] == [event["id"] for event in told] * 2


async def give_up(flowbatch: Commands, **numbers: int) -> None:
    """As lanes do after 75 hours."""
    async with open_app(StateFolder(flowbatch.state), defaults(), hold_open_runs=True) as app:
        for key, seq in numbers.items():
            dead = (Dead(seq, 10, app.engine.clock.now(), "422 no", 1 if key == "summary" else None),)
            progress = SinkProgress(key, app.engine.clock.now(), seq, dead=dead)
            await app.engine.ask(lambda ticket, told=progress: TellProgress(ticket, told, None))  # type: ignore[misc]


def test_what_was_given_up_is_told_and_can_be_had_again(tmp_path: Path) -> None:
    with commands(tmp_path) as flowbatch:
        sinks = """
  - {name: plain, to: {jsonl: events.jsonl}, events: ['run.*', 'delivery.*']}
  - {name: summary, to: {exec: [sh, -c, 'cat >> summary.txt; echo >> summary.txt']}, as: text, digest: 1s}
"""
        flowbatch.write("flowbatch.yaml", f"notify:{sinks}")
        flowbatch.write("told.yaml", WORKFLOW.partition("notify:")[0])
        assert flowbatch.call("run", "told.yaml").code == 1
        [first, _] = lines(flowbatch)
        anyio.run(partial(give_up, flowbatch, plain=first["flowbatch"]["seq"], summary=4))
        failed = flowbatch.ok("deliveries", "--failed", "--json").json["failed"]
        assert {(each["sink"], each["state"], each["tries"]) for each in failed} == {
            ("plain", "dead", 10), ("summary", "dead", 10),
        }  # fmt: skip
        assert "1..4" in flowbatch.ok("deliveries", "--failed").out
        before = (tmp_path / "summary.txt").read_text(encoding="utf-8")
        assert "wants of 1 digest was delivered" in flowbatch.ok("redeliver", "--sink", "summary", "--dead").out
        assert (tmp_path / "summary.txt").read_text(encoding="utf-8").count(before) == 2
        assert "was delivered" in flowbatch.ok("redeliver", "--sink", "plain", "--dead").out
        [_, _, *later] = lines(flowbatch)
        told = [each for each in later if each["flowbatch"]["kind"] == "delivery.dead"]
        assert {each["detail"]["sink"] for each in told} == {"summary"}, "its own is told to others"
        assert first in later
        failed = flowbatch.ok("deliveries", "--failed", "--json").json["failed"]
        assert not failed
