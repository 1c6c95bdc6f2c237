"""What tasks print, through the real Engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from bench.report import rss_mib
from flowbatch.backends.docker.api import Api
from flowbatch.backends.docker.attempts import Attempt
from flowbatch.backends.docker.health import Health
from flowbatch.backends.docker.logs import PAUSE_MAX_S, READINGS, AttemptLog, Readings
from flowbatch.model.ending import Halt
from flowbatch.model.ids import AttemptKey, Millis
from flowbatch.tasklogs import is_cut
from tests.backends.conformance import JOB
from tests.docker.test_away import until
from tests.docker.test_lives import exec_in
from tests.docker.world import CAP, DockerWorld, lines, with_world
from tests.sim.docker.loop import LoopClock, play
from tests.sim.docker.wire import once


@with_world
async def test_both_streams_bytes_and_long_lines(world: DockerWorld) -> None:
    """The Engine cuts at 16 KiB (D28); nothing of that is seen."""
    order = world.script(
        "printf 'a%.0s' $(seq 40000); echo; printf 'b%.0s' $(seq 16384); echo; printf '\\377\\000x\\n' >&2; printf 'no newline'",
        log_cap_bytes=8 << 20,
    )
    world.backend.launch([order])
    await world.facts.exited(order.key)
    data = Path(order.log).read_bytes().splitlines()  # noqa: ASYNC240  a test may wait for its disk
    texts = {line.split(b" ", 2)[2] for line in data}
    assert texts == {b"a" * 40_000, b"b" * 16_384, b"\xff\x00x", b"no newline"}
    assert sorted(line.split(b" ")[1] for line in data) == [b"e", b"o", b"o", b"o"]


@with_world
async def test_more_lines_than_one_reading_takes(world: DockerWorld) -> None:
    order = world.script("seq 5000")
    world.backend.launch([order])
    await world.facts.exited(order.key)
    assert [text for _, text in lines(order)] == [str(number) for number in range(1, 5001)]


@with_world
async def test_a_flood_is_capped_and_says_so(world: DockerWorld) -> None:
    """The newest is kept, in two segments (D26)."""
    order = world.script("yes 0123456789012345678901234567890123456789 | head -n 400000; echo last")
    world.backend.launch([order])
    end = await world.facts.exited(order.key)
    assert end.evidence.exit_code == 0
    world.backend.forget([order.key])
    await world.backend.tidy()
    path = Path(order.log)
    assert path.read_bytes().endswith(b" o last\n")  # noqa: ASYNC240
    size = path.stat().st_size + path.with_name(path.name + ".1").stat().st_size  # noqa: ASYNC240
    assert CAP // 2 <= size <= CAP + (64 << 10)
    assert end.evidence.truncated


@with_world
async def test_f21_a_hundred_megabytes_without_a_line_end_take_no_memory(world: DockerWorld) -> None:
    """Nor more of the disk than the cap says, whatever bytes they are."""
    order = world.script("head -c 100000000 /dev/zero | tr '\\0' '\\377'")
    before = rss_mib()
    world.backend.launch([order])
    end = await world.facts.exited(order.key)
    world.backend.forget([order.key])
    await world.backend.tidy()
    path = Path(order.log)
    size = sum(each.stat().st_size for each in (path, path.with_name(path.name + ".1")) if each.exists())
    assert (end.evidence.exit_code, end.evidence.truncated) == (0, True)
    assert size <= CAP + (64 << 10)
    assert rss_mib() - before < 20


@with_world
async def test_a_log_is_read_while_its_task_runs(world: DockerWorld) -> None:
    order = world.script("echo first; sleep 600")
    world.backend.launch([order])
    await until(lambda: Path(order.log).exists() and lines(order) == [("o", "first")])


@with_world
async def test_a_beginning_that_is_dropped_in_another_life_is_told(world: DockerWorld) -> None:
    """The engine that dropped it died before the end: no evidence of the end says so, a file beside the log does."""
    flood = "yes 0123456789012345678901234567890123456789 | head -n 24000; echo ready; sleep 600"
    order = world.script(flood)
    world.backend.launch([order])
    await world.facts.started(order.key)
    path = Path(order.log)
    await until(lambda: path.exists() and path.read_bytes().endswith(b" o ready\n"))
    await world.next_life()
    await world.backend.census()
    world.backend.stop(order.key, 0, Halt.TERMINATE)
    assert (await world.facts.exited(order.key)).evidence.truncated
    assert is_cut(path)


@with_world
async def test_who_reads_along_does_not_wait_for_a_silent_one(world: DockerWorld) -> None:
    """A line after a long silence: many others run, so that each is looked at but rarely, but for the one that is watched."""
    order = world.script("while [ ! -e /tmp/go ]; do sleep 0.1; done; echo at last; sleep 600")
    world.backend.launch([order])
    await world.facts.started(order.key)
    attempt = world.backend._attempts[order.key]
    attempt.log.due = anyio.current_time() + PAUSE_MAX_S  # as after minutes of silence
    attempt.log.pause = PAUSE_MAX_S
    assert world.backend._session is not None
    world.backend._session.readings.put(attempt)
    exec_in(world, order, ["touch", "/tmp/go"])
    with anyio.fail_after(30):
        while not (Path(order.log).exists() and lines(order)):  # noqa: ASYNC240
            world.backend.watch_log(order.key)
            await anyio.sleep(0.1)
    assert lines(order) == [("o", "at last")]


async def test_the_few_are_read_often_and_the_many_share(tmp_path: Path) -> None:
    """What a round costs does not grow with how many run; how long a silent one waits does."""
    asked: list[str] = []

    class Silent(Api):
        @asynccontextmanager
        async def logs(self, container: str, params: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
            asked.append(container)
            yield once(b"")

    def play_with(count: int, watched: int | None) -> dict[str, int]:
        asked.clear()

        async def main() -> None:
            readings, running = Readings(), []
            for idx in range(count):
                attempt = Attempt(AttemptKey(JOB, idx, 1), "", AttemptLog(str(tmp_path / f"{count}-{idx}"), CAP))
                attempt.id, attempt.started_at = str(idx), Millis(1)
                running.append(attempt)
                readings.put(attempt)
            api = Silent()
            health = Health(api, LoopClock(), lambda: None)
            health._failures = 0
            with anyio.move_on_after(600):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(readings.run, api, health)
                    while True:
                        if watched is not None:
                            readings.watch(running[watched])
                        await anyio.sleep(2)

        play(main)
        return Counter(asked)

    for count, least in ((2, 590 // 5), (30, 590 // 15), (900, 1)):
        found = await anyio.to_thread.run_sync(play_with, count, None)
        assert sum(found.values()) <= READINGS * 600
        assert min(found[str(idx)] for idx in range(count)) >= least
    found = await anyio.to_thread.run_sync(play_with, 900, 7)
    assert found["7"] >= 590 // 2
    assert sum(found.values()) <= READINGS * 600
