"""Secrets are read beside the engine's turns, and an attempt may be stopped before they are there."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from flowbatch.backends.fake import FakeBackend
from flowbatch.clock import VirtualClock
from flowbatch.engine import secrets
from flowbatch.engine.executor import Executor
from flowbatch.engine.orders import OrderDesk
from flowbatch.engine.secrets import SecretMissing, absent, resolve
from flowbatch.model.effects import Effect, Forget, Launch, Stop
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.ids import AttemptKey, JobId
from flowbatch.model.jobspec import JobSpec, SecretSource
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import LaunchFailed
from flowbatch.ports import Fact, LaunchOrder

SPEC = JobSpec("one", "line", ("work",), Resources(1000))


class Recording(FakeBackend):
    """Keeps the calls; nothing runs."""

    def __init__(self) -> None:
        super().__init__(VirtualClock())
        self.calls: list[tuple[str, object]] = []
        self.orders: list[LaunchOrder] = []
        self.launched = anyio.Event()

    def launch(self, orders: Sequence[LaunchOrder]) -> None:
        self.orders += orders
        self.calls.append(("launch", [order.key.idx for order in orders]))
        self.launched.set()

    def stop(self, key: AttemptKey, grace_ms: int, why: Halt) -> None:
        self.calls.append(("stop", key.idx))

    def forget(self, keys: Sequence[AttemptKey]) -> None:
        self.calls.append(("forget", [key.idx for key in keys]))


class World:
    def __init__(self, folder: Path, tasks: anyio.abc.TaskGroup) -> None:
        self.backend = Recording()
        self.facts: list[Fact] = []
        self.told = anyio.Event()
        desk = OrderDesk(folder, log_cap_bytes=1000)
        self.executor = Executor({"fake": self.backend}, desk, VirtualClock(7), self.report, tasks)

    def report(self, facts: Sequence[Fact]) -> None:
        self.facts += facts
        self.told.set()


def key(index: int) -> AttemptKey:
    return AttemptKey(JobId("job"), index, 1)


def launch(index: int, *sources: SecretSource, backend: str = "fake") -> Launch:
    spec = replace(SPEC, secrets=tuple((f"S{number}", source) for number, source in enumerate(sources)))
    return Launch(key(index), backend, "place", "line", spec, Resources(1000), None)


def stop(index: int) -> Stop:
    return Stop(key(index), "fake", 100, Halt.TERMINATE)


async def performed(folder: Path, *effects: Effect) -> World:
    async with anyio.create_task_group() as tasks:
        world = World(folder, tasks)
        world.executor.perform(list(effects))
    return world


async def test_calls_keep_their_order_per_attempt(tmp_path: Path) -> None:
    world = await performed(tmp_path, launch(0), launch(1), stop(1), launch(2), Forget(key(9), "fake"), stop(8))
    launches = [index for name, indices in world.backend.calls if name == "launch" for index in indices]  # type: ignore[attr-defined]
    assert launches == [0, 1, 2]
    calls = world.backend.calls
    assert calls.index(("stop", 1)) > calls.index(("launch", [0, 1]))
    assert ("forget", [9]) in calls


async def test_what_cannot_be_launched_is_a_fact_and_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()  # where a folder is needed
    world = await performed(tmp_path, launch(0, backend="docker"), stop(0))
    [fact] = world.facts
    assert fact == LaunchFailed(
        key(0), world.facts[0].at, Evidence(start_error="CannotStartContainerError: this engine has no docker backend")
    )


async def test_secrets_are_put_into_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_MINE", "one")
    (tmp_path / "two").write_text("two\n", encoding="utf-8")
    sources = [
        SecretSource(env="OF_MINE"),
        SecretSource(file=str(tmp_path / "two")),
        SecretSource(command=("echo", "three")),
    ]
    world = await performed(tmp_path, launch(0, *sources))
    [order] = world.backend.orders
    assert [order.env[f"S{number}"] for number in range(3)] == ["one", "two", "three"]
    assert world.facts == []


async def test_a_missing_secret_fails_the_launch(tmp_path: Path) -> None:
    world = await performed(tmp_path, launch(0, SecretSource(file=str(tmp_path / "none"))))
    [fact] = world.facts
    assert isinstance(fact, LaunchFailed)
    assert fact.evidence.start_error is not None
    assert fact.evidence.start_error.startswith("ResourceInitializationError: secret S0: ")
    assert world.backend.calls == []


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_stop_while_secrets_are_read(tmp_path: Path, stopped: bool) -> None:
    """Nothing is launched after its stop; without one the launch comes late."""
    os.mkfifo(tmp_path / "slow")
    async with anyio.create_task_group() as tasks:
        world = World(tmp_path, tasks)
        world.executor.perform([launch(0, SecretSource(file=str(tmp_path / "slow"))), launch(1)])
        assert world.backend.calls == [("launch", [1])]  # nobody waits for it
        if stopped:
            world.executor.perform([stop(0)])
        writer = threading.Thread(target=(tmp_path / "slow").write_text, args=("late",))
        writer.start()  # opening a pipe waits for its reader
    writer.join()
    if stopped:
        assert world.facts == [LaunchFailed(key(0), world.facts[0].at, Evidence())]
        assert world.backend.calls == [("launch", [1])]
    else:
        assert world.facts == []
        assert world.backend.orders[1].env["S0"] == "late"


# --- where secrets come from


def test_what_is_wrong_is_said_without_the_value(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    wrong: list[tuple[SecretSource, str]] = [
        (SecretSource(env="FLOWBATCH_NOT_SET"), "FLOWBATCH_NOT_SET is not set"),
        (SecretSource(file=str(tmp_path / "none")), "No such file"),
        (SecretSource(file=str(tmp_path / "binary")), "not UTF-8"),
        (SecretSource(command=("sh", "-c", "echo canary; echo canary >&2; exit 3")), "sh exited with 3"),
        (SecretSource(command=("/no/such/program",)), "No such file"),
    ]
    for source, words in wrong:
        with pytest.raises(SecretMissing, match=words) as raised:
            resolve(source)
        assert "canary" not in str(raised.value)


def test_a_command_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "COMMAND_SECONDS", 0.05)
    with pytest.raises(SecretMissing, match="took longer"):
        resolve(SecretSource(command=("sleep", "60")))


def test_a_command_has_neither_our_terminal_nor_our_input() -> None:
    """Whoever asks there for a passphrase would wait where nobody looks, and Ctrl-C is the run's."""
    show = "cut -d' ' -f5-7 /proc/self/stat; readlink /proc/self/fd/0"
    ids, reads = resolve(SecretSource(command=("sh", "-c", show))).split("\n")
    group, session, terminal = map(int, ids.split(" "))
    assert group == session != os.getsid(0)
    assert terminal == 0
    assert reads == "/dev/null"


def test_what_can_be_told_at_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_MINE", "")
    assert absent(SecretSource(env="OF_MINE")) is None
    assert absent(SecretSource(command=("/no/such/program",))) is None  # only run when a task needs it
    for source in (SecretSource(env="FLOWBATCH_NOT_SET"), SecretSource(file=str(tmp_path))):
        assert absent(source) is not None
