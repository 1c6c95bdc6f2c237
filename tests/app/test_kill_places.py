"""kill -9 of the engine while Spot is given back and while an environment is replaced, with real processes (reliability.md F01, I1, I4)."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.app.commands import PATIENCE_S, Commands, Pipe, commands

GIVEN_BACK: Final = r"Host EC2 \(instance i-[0-9a-f]{17}\) terminated\."
# And as much again by chance: before the order is durable, while it is told, after it was obeyed.
DELAYS_S: Final = (0.0, 0.03, 0.12)

SPOT: Final = """
host: {vcpus: 3.5, memory: 1GiB}
environments:
  paid:  {backend: process, vcpus: 3.5, memory: 1GiB}
  cheap: {backend: process, vcpus: 3, memory: 1GiB, spot: true, notice: 2s}
queues:
  work:  {environments: [paid]}
  spare: {environments: [cheap]}
"""
RENDER: Final = """
defaults: {env: {FOLDER: 'FOLDER_OF_TEST'}}
jobs:
  render:
    queue: QUEUE_OF_RENDER
    array: SIZE
    vcpus: 1
    memory: 64MiB
    retry: {attempts: 5, rules: [{status: 'Host EC2*', action: retry}, {reason: '*', action: exit}]}
    script: |
      echo "$AWS_BATCH_JOB_ARRAY_INDEX $AWS_BATCH_JOB_ATTEMPT" >> "$FOLDER/begun"
      [ "$AWS_BATCH_JOB_ATTEMPT" = 1 ] || exit 0
      trap 'sleep 0.2; exit 1' TERM
      echo ready > "$FOLDER/ready"
      until [ -e "$FOLDER/over" ]; do sleep 0.02; done
"""
URGENT: Final = """
  urgent:
    queue: work
    vcpus: 2
    memory: 64MiB
    needs: pause
    script: touch "$FOLDER/over"
  pause: {queue: work, vcpus: 0.5, memory: 16MiB, script: 'until [ -e "$FOLDER/go" ]; do sleep 0.02; done'}
"""


def flow(folder: Path, queue: str, size: int, more: str = "") -> str:
    text = RENDER.replace("FOLDER_OF_TEST", str(folder)).replace("QUEUE_OF_RENDER", queue).replace("SIZE", str(size))
    return text + more


def begun(folder: Path) -> list[tuple[int, int]]:
    """(index, attempt) of what has really started, as the tasks themselves wrote it."""
    lines = (folder / "begun").read_text(encoding="utf-8").split("\n")[:-1]
    return sorted((int(index), int(attempt)) for index, attempt in (line.split() for line in lines))


def wait_for(ready: Pipe, count: int) -> None:
    for _ in range(count):
        assert ready.line() == "ready"


def history(flowbatch: Commands, index: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = flowbatch.ok("show", f"last/render:{index}", "--json").json["history"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", DELAYS_S)
def test_spot_is_given_back_though_the_engine_dies(tmp_path: Path, delay_s: float) -> None:
    """Two of three make room for what needs two vCPUs: each told once or once more, none started twice, no attempt charged."""
    with commands(tmp_path) as flowbatch:
        flowbatch.write("flowbatch.yaml", SPOT)
        ready = flowbatch.pipe("ready")
        engine = flowbatch.start("run", flowbatch.write("flow.yaml", flow(tmp_path, "spare", 3, URGENT)))
        wait_for(ready, 3)
        (tmp_path / "go").touch()
        time.sleep(delay_s + random.uniform(0, delay_s))
        engine.kill()
        engine.communicate(timeout=PATIENCE_S)
        flowbatch.ok("resume")
        ends = {each["job"]: each["status"] for each in flowbatch.ok("jobs", "last", "--json").json}
        assert ends == dict.fromkeys(("render", "urgent", "pause"), "SUCCEEDED")
        every = [history(flowbatch, index) for index in range(3)]
        assert flowbatch.tasks() == {}
    again = [each for each in every if len(each) > 1]
    assert len(again) == 2, "two had to give way, and two were enough"
    for attempts in again:
        assert len(attempts) == 2
        assert re.fullmatch(GIVEN_BACK, attempts[0]["status_reason"])
    started = begun(tmp_path)
    assert len(started) == len(set(started)) == 5, f"each attempt starts once: {started}"


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.0, 0.6])
def test_an_environment_is_replaced_though_the_engine_dies(tmp_path: Path, delay_s: float) -> None:
    """Whoever was answered finds the change in the next life; who was not asks again."""
    with commands(tmp_path) as flowbatch:
        flowbatch.write(
            "flowbatch.yaml", "environments: {main: {backend: process, vcpus: 2, memory: 1GiB}}\nqueues: {work: {}}\n"
        )
        ready = flowbatch.pipe("ready")
        engine = flowbatch.start("run", flowbatch.write("flow.yaml", flow(tmp_path, "work", 2)))
        wait_for(ready, 2)
        update = ("environments", "update", "main", "--cpu", "quota", "--terminate-jobs")
        asking = flowbatch.start(*update)
        time.sleep(delay_s + random.uniform(0, 0.5))
        engine.kill()
        engine.communicate(timeout=PATIENCE_S)
        answered = flowbatch.end(asking).code == 0
        print(f"{answered=}")
        if not answered:
            flowbatch.ok(*update)
        flowbatch.ok("resume")
        shown = flowbatch.ok("environments", "show", "main", "--json").json
        every = [history(flowbatch, index) for index in range(2)]
        assert flowbatch.tasks() == {}
    assert (shown["cpu"], shown["status"]) == ("quota", "VALID")
    for attempts in every:
        assert len(attempts) == 2, attempts
        assert re.fullmatch(GIVEN_BACK, attempts[0]["status_reason"])
    started = begun(tmp_path)
    assert len(started) == len(set(started)) == 4, f"each attempt starts once: {started}"
