"""kill -9 of the engine, and sometimes of the supervisor, at random instants: reliability.md F01, F23, I1, I4, I5, I7, I8."""

from __future__ import annotations

import os
import random
import select
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

from flowbatch.clock import SystemClock
from tests.app.chaos import check, collected, write_workflow
from tests.app.commands import PATIENCE_S, Commands, commands, kill, wait_for_end

KILLS: Final = 52
SEED: Final = os.environ.get("FLOWBATCH_CHAOS_SEED")
SUPERVISOR_DIES_EVERY: Final = 5
FAILED: Final = 1  # `late` times out, in every run


@pytest.mark.slow
@pytest.mark.timeout(600)  # 60 s by itself; a step that hangs is told by its own patience, on however busy a machine
def test_engines_die_at_random_instants(tmp_path: Path) -> None:
    seed = int(SEED) if SEED is not None else random.SystemRandom().randrange(10**6)
    print(f"replay with FLOWBATCH_CHAOS_SEED={seed}", flush=True)
    workflow = write_workflow(tmp_path, quick=140, flaky=60)
    with commands(tmp_path) as flowbatch:
        deaths, lives = under_fire(flowbatch, workflow, random.Random(seed), startup_seconds(tmp_path))
        while open_runs(flowbatch):
            done = flowbatch.call("resume")
            assert done.code == FAILED, done
        supervisor = flowbatch.supervisor()
        if supervisor is not None:
            wait_for_end(supervisor)  # by itself, once nobody needs it
        assert flowbatch.tasks() == {}
        with flowbatch.reader() as reader:
            runs = collected(reader, tmp_path / "records")
            opened = reader.rows("SELECT count(*) FROM life")[0][0]
    lost = sum(check(tasks, deaths) for tasks in runs)
    tasks = sum(map(len, runs))
    attempts = sum(len(task.attempts) for run in runs for task in run)
    print(
        f"{KILLS} kills of {lives} engines, {opened} of which had opened the store, {len(deaths)} of the supervisor; {len(runs)} runs, {tasks} tasks, ",
        end="",
    )
    print(f"{attempts} attempts, {lost} lost")
    assert tasks >= 500
    assert opened >= KILLS // 3, "the engines were killed before they did anything"


def startup_seconds(folder: Path) -> float:
    """From a command line to a run's end, on this machine as it is now."""
    (folder / "pace").mkdir()
    with commands(folder / "pace") as flowbatch:
        workflow = flowbatch.write("one.yaml", "jobs: {one: {command: ['true']}}")
        took = []
        for _ in range(2):  # the first one may have to compile
            since = time.monotonic()
            flowbatch.ok("run", workflow)
            took.append(time.monotonic() - since)
        return min(took)


def under_fire(flowbatch: Commands, workflow: Path, dice: random.Random, startup_s: float) -> tuple[list[float], int]:
    """Kills engine after engine; returns when supervisors were killed (epoch ms), and how many engines there were."""
    deaths: list[float] = []
    kills = lives = 0
    while kills < KILLS:
        words: list[str | Path] = ["resume"] if open_runs(flowbatch) else ["run", workflow]
        engine = flowbatch.start(*words)
        lives += 1
        if dice.random() < 0.33:
            when, delay = "its start", dice.uniform(0.05, startup_s)
        else:  # however slow the machine is: it has said something, so it works
            when, delay = "its first line", dice.uniform(0, 0.6)
            assert engine.stdout is not None
            ready, _, _ = select.select([engine.stdout], [], [], PATIENCE_S)
            assert ready, f"an engine that neither works nor ends: {what_they_do(flowbatch)}"
        try:
            _, errors = engine.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            pass
        else:
            assert engine.returncode == FAILED, errors
            continue  # it was quicker than we
        both = kills % SUPERVISOR_DIES_EVERY == SUPERVISOR_DIES_EVERY - 1
        first = dice.random() < 0.7
        print(f"{time.monotonic():.1f}: {words[0]} is killed {delay:.2f} s after {when}, {both=} {first=}")
        if both and first:
            kill_supervisor(flowbatch, deaths)
            time.sleep(dice.uniform(0, 0.3))  # the engine finds a new one, or is killed while it looks for it
        engine.kill()
        engine.communicate()
        kills += 1
        if both and not first:
            kill_supervisor(flowbatch, deaths)
    return deaths, lives


def what_they_do(flowbatch: Commands) -> list[str]:
    """Every process of the folder, by the kernel's word, for whoever must find out why nothing goes on."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            words = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if process.name.isdigit() and str(flowbatch.state) in words:
                found.append(
                    f"{process.name} {words}: {process.joinpath('stat').read_text()} {process.joinpath('wchan').read_text()}"
                )
        except OSError:
            continue
    return found


def kill_supervisor(flowbatch: Commands, deaths: list[float]) -> None:
    pid = flowbatch.supervisor()
    if pid is not None:
        deaths.append(SystemClock().now())
        kill(pid)


def open_runs(flowbatch: Commands) -> bool:
    if not (flowbatch.state / "flowbatch.db").exists():
        return False
    with flowbatch.reader() as reader:
        return bool(reader.open_runs())
