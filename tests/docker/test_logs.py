"""What tasks print, through the real Engine."""

from __future__ import annotations

from pathlib import Path

from tests.docker.test_away import until
from tests.docker.world import CAP, DockerWorld, lines, with_world


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
async def test_a_log_is_read_while_its_task_runs(world: DockerWorld) -> None:
    order = world.script("echo first; sleep 600")
    world.backend.launch([order])
    await until(lambda: Path(order.log).exists() and lines(order) == [("o", "first")])
