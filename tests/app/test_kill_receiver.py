"""kill -9 of the engine and of the receiver at random instants, over 10,000 events and more: I6 with real processes (F30, F31)."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from flowbatch.model.events import EventKind, kind_of
from flowbatch.model.status import RunStatus
from flowbatch.store.outbox import Outbox
from flowbatch.store.results import Event
from tests.app.commands import PATIENCE_S, Commands, commands

CHILDREN: Final = 1500
KILLS: Final = 8
SEED: Final = os.environ.get("FLOWBATCH_CHAOS_SEED")
WORKFLOW: Final = """
name: told
environments: {here: {backend: fake, vcpus: 50}}
queues: {only: {environments: [here]}}
defaults: {queue: only, command: [pretend], lost_attempts: {free: 10}, x-fake: {duration: 20ms}}
jobs:
  wide: {array: {size: CHILDREN, tolerate: 100%}, x-fake: {duration: 20ms, by_index: {'7': {exit: 3}}}}
  each: {needs: [{each: wide, when: done}]}
notify:
  - {name: single, to: 'http://127.0.0.1:PORT/single', arrays: both}
  - {name: batched, to: 'http://127.0.0.1:PORT/batched', arrays: both, batch: 50}
  - {name: dead, to: 'http://127.0.0.1:1/', arrays: both}
"""
SETTINGS: Final = "webhooks: {allow_networks: [127.0.0.1], wait: 3s}\n"


class Listening:
    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.file = folder / "received"
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.app.listener", str(self.port), str(self.file)]
        self.process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        self.starts += 1

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def listening(folder: Path) -> Iterator[Listening]:
    made = Listening(folder)
    made.start()
    try:
        yield made
    finally:
        made.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_engine_and_receiver_die_at_random_instants(tmp_path: Path) -> None:
    seed = int(SEED) if SEED is not None else random.SystemRandom().randrange(10**6)
    print(f"replay with FLOWBATCH_CHAOS_SEED={seed}", flush=True)
    rng = random.Random(seed)
    with commands(tmp_path) as flowbatch, listening(tmp_path) as listener:
        flowbatch.write("flowbatch.yaml", SETTINGS)
        text = WORKFLOW.replace("PORT", str(listener.port)).replace("CHILDREN", str(CHILDREN))
        workflow = flowbatch.write("told.yaml", text)
        under_fire(flowbatch, workflow, listener, rng)
        until_all_is_told(flowbatch)
        told = judge(flowbatch, listener.file)
    print(f"{told} events, {listener.starts} receivers", flush=True)
    assert told >= 10_000


def under_fire(flowbatch: Commands, workflow: Path, listener: Listening, rng: random.Random) -> None:
    words: tuple[str | Path, ...] = ("run", workflow)
    for _ in range(KILLS):
        process = flowbatch.start(*words)
        while not (flowbatch.state / "flowbatch.db").exists():  # however slow the machine is, each life begins
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"it ended with {process.wait(0.05)} before it began")
        until = time.monotonic() + rng.uniform(0.8, 3.5)
        while time.monotonic() < until:
            try:
                process.wait(rng.uniform(0.2, 1.5))
                break
            except subprocess.TimeoutExpired:
                if rng.random() < 0.4:
                    listener.kill()
                    listener.start()
        process.kill()
        flowbatch.end(process)
        with flowbatch.reader() if (flowbatch.state / "flowbatch.db").exists() else no_reader() as reader:
            words = ("resume",) if reader is not None and reader.runs() else ("run", workflow)


@contextmanager
def no_reader() -> Iterator[None]:
    yield None


def until_all_is_told(flowbatch: Commands) -> None:
    done = flowbatch.call("resume")
    assert done.code in (0, 1), done
    until = time.monotonic() + 4 * PATIENCE_S
    while time.monotonic() < until:
        flowbatch.call("notify", "flush")
        with Outbox(flowbatch.state / "flowbatch.db") as outbox:
            if all(view.status.name == "CLOSED" for view in outbox.sinks() if not view.key.endswith("/dead")):
                return
    raise AssertionError(f"still owed: {flowbatch.call('deliveries').out}")


def judge(flowbatch: Commands, file: Path) -> int:
    """Every event at least once, in order per job by its first delivery, the same id and body each time."""
    with Outbox(flowbatch.state / "flowbatch.db") as outbox:
        [run] = outbox.runs()
        assert run.status is not RunStatus.RUNNING
        events: dict[int, Event] = {}
        after = 0
        while page := outbox.events(after=after, limit=5000):
            events |= {event.seq: event for event in page}
            after = page[-1].seq
        views = {view.key.rpartition("/")[2]: view for view in outbox.sinks()}
        refused = {name: outbox.refusals(view) for name, view in views.items()}
    wanted = {seq for seq, event in events.items() if event.row.kind is not EventKind.SINK}
    received: dict[str, list[tuple[str, str, int, str]]] = {"/single": [], "/batched": []}
    for line in file.read_text(encoding="utf-8").splitlines():
        path, identity, digest, number, subject = line.split(" ")
        received[path].append((identity, digest, int(number), subject))
    for path, lines in received.items():
        name = path[1:]
        assert not refused[name].dead, refused[name].dead[:3]
        assert not refused[name].gaps
        missing = wanted - {seq for _, _, seq, _ in lines}
        assert not missing, (
            f"{name}: {len(missing)} never came, e.g. {kind_of(events[min(missing)].row)} {min(missing)}"
        )
        bodies: dict[str, tuple[str, int]] = {}
        firsts: dict[str, list[int]] = {}
        for identity, digest, seq, subject in lines:
            if identity not in bodies:
                firsts.setdefault(subject, []).append(seq)
            assert bodies.setdefault(identity, (digest, seq)) == (digest, seq), f"{identity} came with another body"
        assert len(bodies) == len({seq for _, _, seq, _ in lines}), "two ids of one event"
        for subject, seqs in firsts.items():
            assert seqs == sorted(seqs), f"{name}: {subject} in the order {seqs}"
        twice = sum(count - 1 for count in Counter(identity for identity, *_ in lines).values())
        print(f"{name}: {len(lines)} deliveries of {len(bodies)} events, {twice} of them repeats", flush=True)
    assert views["dead"].delivered == 0
    return len(wanted)
