"""kill -9 of the engine at random instants while it runs containers: reliability.md F01 to F08 and F15, I1, I4, I5, I7, I8.

While no engine lives, now and then a running container is removed by hand: that attempt is lost, and nobody else's.
"""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from flowbatch.backends.docker.instance import instance_file
from flowbatch.backends.docker.names import ATTEMPT, INSTANCE
from flowbatch.model.status import Status
from tests.app.chaos import collected
from tests.app.commands import PATIENCE_S, Commands, commands
from tests.docker.chaos import check, write_workflow
from tests.docker.engine import Raw

KILLS: Final = 16
VICTIMS: Final = 3
ATTEMPTS_MIN: Final = 100
LAST_LIFE_S: Final = 180  # most of the work is its own: a hundred containers on a machine that others use too
SEED: Final = os.environ.get("FLOWBATCH_CHAOS_SEED")
FAILED: Final = 1  # `late` times out, in every run


@pytest.mark.timeout(300)
def test_engines_die_at_random_instants(tmp_path: Path, raw: Raw) -> None:
    seed = int(SEED) if SEED is not None else random.SystemRandom().randrange(10**6)
    print(f"replay with FLOWBATCH_CHAOS_SEED={seed}", flush=True)
    workflow = write_workflow(tmp_path, VICTIMS)
    with commands(tmp_path) as flowbatch:
        try:
            removed, lives = under_fire(flowbatch, workflow, random.Random(seed), raw)
            while open_runs(flowbatch):
                take_away(flowbatch, raw, removed)
                engine = flowbatch.start("resume")
                engine.communicate(timeout=LAST_LIFE_S)
                assert engine.returncode == FAILED
            # Nothing is left behind, not for a moment: an engine that ends by itself has removed what is over.
            assert containers(flowbatch, raw) == []
            with flowbatch.reader() as reader:
                runs = collected(reader, tmp_path / "records")
                opened = reader.rows("SELECT count(*) FROM life")[0][0]
        finally:
            raw.sweep_state(flowbatch.state)
    attempts = sum(check(tasks, removed) for tasks in runs)
    print(f"{KILLS} kills of {lives} engines, {opened} of which had opened the store; {len(runs)} runs, ", end="")
    print(f"{sum(map(len, runs))} tasks, {attempts} containers that ran, {len(removed)} removed by hand")
    assert attempts >= ATTEMPTS_MIN
    assert opened >= KILLS // 2, "the engines were killed before they did anything"
    assert removed, "nothing was removed by hand"


def under_fire(flowbatch: Commands, workflow: Path, dice: random.Random, raw: Raw) -> tuple[set[str], int]:
    """Kills engine after engine; returns the attempts whose containers were taken away, and how many engines there were."""
    removed: set[str] = set()
    kills = lives = 0
    while kills < KILLS:
        words: list[str | Path] = ["resume"] if open_runs(flowbatch) else ["run", workflow]
        engine = flowbatch.start(*words)
        lives += 1
        delay = dice.uniform(0, 1.5)
        if dice.random() < 0.7:  # however slow the machine is: it has said something, so it works
            assert engine.stdout is not None
            ready, _, _ = select.select([engine.stdout], [], [], PATIENCE_S)
            assert ready, "an engine that neither works nor ends"
        try:
            _, errors = engine.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            pass
        else:
            assert engine.returncode == FAILED, errors
            continue  # it was quicker than we
        engine.kill()
        engine.communicate()
        kills += 1
        take_away(flowbatch, raw, removed)
    return removed, lives


def take_away(flowbatch: Commands, raw: Raw, removed: set[str]) -> None:
    """Removes containers of `victim` that run, where the store knows of their start: one that it does not know of is launched
    again, since nobody can tell it from a container that never was."""
    known = known_victims(flowbatch)
    for item in containers(flowbatch, raw):
        attempt = item["Labels"][ATTEMPT]
        if attempt in known and item["State"] == "running":
            raw.ok("DELETE", f"/containers/{item['Id']}", force=1)
            removed.add(attempt)


def known_victims(flowbatch: Commands) -> set[str]:
    """First attempts of `victim`, which sleep, that are RUNNING in the store."""
    known: set[str] = set()
    if not (flowbatch.state / "flowbatch.db").exists():
        return known
    with flowbatch.reader() as reader:
        for run in reader.open_runs():
            for job in (job for job in reader.jobs(run) if job.name == "victim"):
                for task in reader.tasks(job):
                    attempts = reader.attempts(job, task.index or 0)
                    if task.status is Status.RUNNING and len(attempts) == 1:
                        known.add(attempts[0].key.id)
    return known


def containers(flowbatch: Commands, raw: Raw) -> list[dict[str, Any]]:
    """All of this state folder, whatever their state."""
    try:
        instance = json.loads(instance_file(flowbatch.state / "docker").read_text(encoding="utf-8"))["instance"]
    except FileNotFoundError:
        return []
    return raw.labelled(f"{INSTANCE}={instance}")


def open_runs(flowbatch: Commands) -> bool:
    if not (flowbatch.state / "flowbatch.db").exists():
        return False
    with flowbatch.reader() as reader:
        return bool(reader.open_runs())
