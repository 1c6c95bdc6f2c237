"""An Engine that loses answers, stands still or goes: nothing starts twice, and nothing fails because of it."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from flowbatch.backends.docker.api import Api
from flowbatch.backends.docker.ends import VANISHED
from flowbatch.backends.docker.watching import INSPECT_EVERY_S, LIST_EVERY_S
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.stimuli import Exited, LaunchFailed, Started
from tests.docker.engine import Raw
from tests.docker.proxy import a_proxy
from tests.docker.world import LOOK_S, docker_world, lines


async def test_an_answer_to_a_create_is_lost(tmp_path: Path, raw: Raw) -> None:
    async with a_proxy(tmp_path, raw.path) as proxy, docker_world(tmp_path, raw, proxy.path) as world:
        proxy.lose.append("POST .*/containers/create")
        order = world.script("echo once")
        world.backend.launch([order])
        assert (await world.facts.exited(order.key)).evidence == Evidence(0)
        assert proxy.lost.is_set()
        assert lines(order) == [("o", "once")]
        assert len(raw.labelled(f"flowbatch.instance={world.instance}")) == 1


async def test_an_answer_to_a_start_is_lost(tmp_path: Path, raw: Raw) -> None:
    async with a_proxy(tmp_path, raw.path) as proxy, docker_world(tmp_path, raw, proxy.path) as world:
        proxy.lose.append("POST .*/start")
        order = world.script("echo once; exit 5")
        world.backend.launch([order])
        end = await world.facts.exited(order.key)
        assert end.evidence == Evidence(5)
        assert [type(fact) for fact in world.facts.of(order.key)] == [Started, Exited]
        assert lines(order) == [("o", "once")]
        assert len([each for each in proxy.requests if each.endswith("/start")]) == 1
        assert world.backend.duplicate_starts == 0


async def test_an_answer_to_a_removal_is_lost(tmp_path: Path, raw: Raw) -> None:
    async with a_proxy(tmp_path, raw.path) as proxy, docker_world(tmp_path, raw, proxy.path) as world:
        proxy.lose.append("DELETE .*/containers/")
        order = world.script("true")
        world.backend.launch([order])
        await world.facts.exited(order.key)
        world.backend.forget([order.key])
        await world.backend.tidy()
        await proxy.lost.wait()
        await until(lambda: not raw.labelled(f"flowbatch.instance={world.instance}"))


async def test_an_engine_that_goes_and_comes_back(tmp_path: Path, raw: Raw) -> None:
    """What ended meanwhile has its code, what runs is left running, what shall start waits and says for what."""
    async with a_proxy(tmp_path, raw.path) as proxy, docker_world(tmp_path, raw, proxy.path) as world:
        ends, runs = world.script("sleep 600 & wait $!; exit 7", 0), world.command(("sleep", "600"), 1)
        world.backend.launch([ends, runs])
        await world.facts.started(ends.key)
        await world.facts.started(runs.key)
        proxy.drop()
        await until(lambda: world.backend.trouble is not None)
        later = world.script("true", 2)
        world.backend.launch([later])
        raw.ok("POST", f"/containers/{world.name_of(ends)}/kill", signal="KILL")
        proxy.back()
        await world.facts.exited(later.key)
        end = await world.facts.exited(ends.key)
        # The daemon never restarted, so that a kill is a kill and no loss.
        assert end.evidence == Evidence(137)
        assert len(world.facts.of(runs.key)) == 1
        assert world.backend.trouble is None
        world.backend.stop(runs.key, 0, Halt.TERMINATE)
        await world.facts.exited(runs.key)


async def test_an_engine_that_stands_still(tmp_path: Path, raw: Raw) -> None:
    async with a_proxy(tmp_path, raw.path) as proxy, docker_world(tmp_path, raw, proxy.path) as world:
        first = world.script("true", 0)
        world.backend.launch([first])
        await world.facts.exited(first.key)
        proxy.hang()
        order, stopped = world.script("echo once", 1), world.script("true", 2)
        world.backend.launch([order])
        await until(lambda: world.backend.trouble is not None)
        world.backend.launch([stopped])
        world.backend.stop(stopped.key, 0, Halt.TERMINATE)
        end = await world.facts.ended(stopped.key)  # it never was sent: no need to ask anybody
        assert isinstance(end, LaunchFailed)
        assert end.evidence.start_error is None
        assert world.facts.of(order.key) == []
        proxy.flow()
        assert (await world.facts.exited(order.key)).evidence == Evidence(0)
        assert lines(order) == [("o", "once")]


async def test_an_end_during_a_broken_stream_of_events_is_seen(tmp_path: Path, raw: Raw) -> None:
    async with a_proxy(tmp_path, raw.path) as proxy, docker_world(tmp_path, raw, proxy.path) as world:
        order = world.command(("sleep", "600"))
        world.backend.launch([order])
        await world.facts.started(order.key)
        proxy.drop()
        raw.ok("POST", f"/containers/{world.name_of(order)}/kill")
        proxy.back()
        assert (await world.facts.exited(order.key)).evidence == Evidence(137)


async def test_d36_a_container_that_is_removed_by_hand_before_our_eyes_is_lost(tmp_path: Path, raw: Raw) -> None:
    """The Engine kills it first, and says so: 137 is nothing of the program's."""
    async with docker_world(tmp_path, raw) as world:
        order = world.command(("sleep", "600"))
        world.backend.launch([order])
        await world.facts.started(order.key)
        raw.ok("DELETE", f"/containers/{world.name_of(order)}", force=1)
        assert (await world.facts.exited(order.key)).evidence == VANISHED


async def test_d36_a_container_that_was_removed_by_hand_is_lost(tmp_path: Path, raw: Raw) -> None:
    """Its end goes with it: while nobody could look, so that no event of it was acted upon in time."""
    async with a_proxy(tmp_path, raw.path) as proxy, docker_world(tmp_path, raw, proxy.path) as world:
        order = world.command(("sleep", "600"))
        world.backend.launch([order])
        await world.facts.started(order.key)
        proxy.hang()
        raw.ok("DELETE", f"/containers/{world.name_of(order)}", force=1)
        proxy.flow()
        assert (await world.facts.exited(order.key)).evidence == VANISHED
        world.backend.forget([order.key])
        await world.backend.tidy()
        assert await world.backend.census() == []


async def test_many_that_run_hold_no_connection(tmp_path: Path, raw: Raw) -> None:
    async with a_proxy(tmp_path, raw.path) as proxy, docker_world(tmp_path, raw, proxy.path) as world:
        orders = [world.command(("sleep", "600"), idx) for idx in range(30)]
        world.backend.launch(orders)
        for order in orders:
            await world.facts.started(order.key)
        in_use = proxy.open
        assert in_use <= 16  # what the starts used is kept a while for other calls; one is the stream of events
        for order in orders:
            world.backend.stop(order.key, 0, Halt.TERMINATE)
        for order in orders:
            assert (await world.facts.exited(order.key)).evidence == Evidence(137)


async def until(done: object) -> None:
    """Of what an Engine or a file says. The pause leaves the processor to those that are waited for."""
    assert callable(done)
    while not await anyio.to_thread.run_sync(done):  # noqa: ASYNC110
        await anyio.sleep(LOOK_S)


class Held(Api):
    """Keeps the answer about a container that runs until it does no more."""

    def __init__(self, raw: Raw) -> None:
        super().__init__(f"unix://{raw.path}")
        self.raw = raw

    async def inspect(self, container: str) -> dict[str, Any]:
        answer = await super().inspect(container)
        if answer["State"]["Status"] == "running":
            await anyio.to_thread.run_sync(lambda: self.raw.ok("POST", f"/containers/{container}/wait"))
            await anyio.sleep(0.2)  # the stream of events is ahead by now
        return answer


async def test_an_end_that_overtakes_the_news_of_its_start_is_not_missed(tmp_path: Path, raw: Raw) -> None:
    """By the stream of events, and not by the list that comes later."""
    async with docker_world(tmp_path, raw, api=lambda: Held(raw)) as world:
        order = world.script("sleep 0.5; exit 3")
        world.backend.launch([order])
        with anyio.fail_after(LIST_EVERY_S / 2):
            assert (await world.facts.exited(order.key)).evidence == Evidence(3)


class Elsewhere(Api):
    """The clock of the Engine's machine is ten minutes behind ours."""

    def open(self) -> None:
        super().open()
        self.socket_path = None

    async def info(self) -> dict[str, Any]:
        answer = await super().info()
        return answer | {"SystemTime": behind(answer["SystemTime"])}

    async def inspect(self, container: str) -> dict[str, Any]:
        answer = await super().inspect(container)
        times = {name: behind(answer["State"][name]) for name in ("StartedAt", "FinishedAt")}
        return answer | {"State": answer["State"] | times}


def behind(text: str) -> str:
    if text.startswith("0001-"):
        return text
    moment = datetime.fromisoformat(text[:19] + "+00:00") - timedelta(minutes=10)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{text[20:]}"


async def test_times_of_another_machine_come_out_as_ours(tmp_path: Path, raw: Raw) -> None:
    """Or its attempts would be ten minutes old at their start, and over their timeout."""
    async with docker_world(tmp_path, raw, api=lambda: Elsewhere(f"unix://{raw.path}")) as world:
        order = world.script("exit 3")
        sent = world.facts.clock.now()
        world.backend.launch([order])
        started, ended = await world.facts.started(order.key), await world.facts.exited(order.key)
        heard = world.facts.clock.now()
        assert sent - 3_000 <= started.at <= ended.at <= heard + 3_000


class Counting(Api):
    def __init__(self, raw: Raw, *, near: bool) -> None:
        super().__init__(f"unix://{raw.path}")
        self.near = near
        self.inspections = 0

    def lives(self, container: str, pid: int) -> bool:
        return self.near and super().lives(container, pid)

    async def inspect(self, container: str) -> dict[str, Any]:
        self.inspections += 1
        return await super().inspect(container)


@pytest.mark.parametrize("near", [True, False], ids=["its process is seen", "its process is not seen"])
async def test_what_merely_runs_is_inspected_only_where_its_process_cannot_be_seen(
    tmp_path: Path, raw: Raw, near: bool
) -> None:
    """After a minute without news; and what has ended is not seen among the processes."""
    api = Counting(raw, near=near)
    async with docker_world(tmp_path, raw, api=lambda: api) as world:
        order = world.command(("sleep", "600"))
        world.backend.launch([order])
        await world.facts.started(order.key)
        session, attempt = world.backend._session, world.backend._attempts[order.key]
        assert session is not None
        begun, asked = api.inspections, anyio.current_time()
        attempt.looked_at = asked - INSPECT_EVERY_S
        await session.rounds.once()
        await until(lambda: attempt.looked_at >= asked)
        assert api.inspections - begun == (0 if near else 1)
        assert not api.lives(attempt.id, os.getpid()), "another's process was taken for its own"
        world.backend.stop(order.key, 0, Halt.TERMINATE)
        await world.facts.exited(order.key)
        assert not api.lives(attempt.id, attempt.pid)
