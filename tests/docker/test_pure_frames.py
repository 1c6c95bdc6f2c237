"""The Engine's log into ours, without an Engine."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flowbatch.backends.docker.frames import Intake, KeptLog, Position, resume

CAP = 1 << 20


def frame(ms: int, text: bytes, stream: int = 1) -> bytes:
    stamp = f"1970-01-01T00:00:{ms // 1000:02}.{ms % 1000:03}000000Z ".encode()
    payload = stamp + text
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def read(
    path: Path, position: Position, frames: list[tuple[int, bytes, int]], *, last: bool = True, cut: int = 7
) -> int:
    """As a reading does it: only what is not before `since`, in chunks of any size."""
    log = KeptLog(str(path), CAP)
    intake = Intake(log, position)
    data = b"".join(frame(ms, text, stream) for ms, text, stream in frames if ms >= position.since_ms)
    for at in range(0, len(data), cut):
        intake.feed(data[at : at + cut])
    if last:
        intake.finish()
    log.close()
    return intake.lines


def test_lines_have_their_time_and_stream(tmp_path: Path) -> None:
    log = tmp_path / "sub" / "a.log"
    read(log, Position(), [(1_001, b"one\n", 1), (1_002, b"\n", 2), (1_003, b"no newline", 1)])
    assert log.read_bytes() == b"1001 o one\n1002 e \n1003 o no newline\n"


FULL = 16 << 10


def test_parts_of_a_line_are_put_together_per_stream(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    a, b = b"a" * FULL, b"\xff" * FULL
    read(log, Position(), [(1, a, 1), (1, b, 2), (1, b"aa\n", 1), (1, b"\x00b\n", 2), (2, b"next\n", 1)], cut=4_000)
    assert log.read_bytes() == b"1 o " + a + b"aa\n1 e " + b + b"\x00b\n2 o next\n"


def test_the_last_part_may_have_lost_its_newline(tmp_path: Path) -> None:
    """As the `local` driver has it; or the line was as long as a part, and nothing follows."""
    log = tmp_path / "a.log"
    a = b"a" * FULL
    read(log, Position(), [(1, a, 1), (1, b"tail", 1), (2, a, 1), (3, b"next\n", 1), (4, b"end", 1)], cut=4_000)
    assert log.read_bytes() == b"1 o " + a + b"tail\n2 o " + a + b"\n3 o next\n4 o end\n"


def test_an_unfinished_line_waits_for_its_end(tmp_path: Path) -> None:
    log, position = tmp_path / "a.log", Position()
    a = b"a" * FULL
    frames = [(1, b"one\n", 1), (2, a, 1)]
    read(log, position, frames, last=False, cut=4_000)
    assert log.read_bytes() == b"1 o one\n"
    read(log, position, [*frames, (2, b"b\n", 1)], cut=4_000)
    assert log.read_bytes() == b"1 o one\n2 o " + a + b"b\n"


entries = st.lists(st.tuples(st.integers(0, 30), st.sampled_from([1, 2])), max_size=60)


@given(entries, st.lists(st.integers(0, 60), max_size=4), st.booleans())
def test_any_number_of_readings_and_lives_give_each_line_once(
    tmp_path_factory: object, steps: list[tuple[int, int]], cuts: list[int], new_lives: bool
) -> None:
    """Readings at any moments, each by an engine that knows only the file."""
    path = Path(str(tmp_path_factory.mktemp("log"))) / "a.log"  # type: ignore[attr-defined]
    frames, now = [], 100
    for number, (step, stream) in enumerate(steps):
        now += step
        frames.append((now, b"line %d\n" % number, stream))
    position = Position()
    for cut in [*sorted(cuts), len(frames)]:
        position = resume(path) if new_lives else position
        read(path, position, frames[:cut], cut=64)
    expected = [b"%d %b %b" % (ms, b"oe"[stream - 1 : stream], text) for ms, text, stream in frames]
    found = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    assert found == expected


def test_a_torn_last_line_is_taken_off(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"5 o one\n6 o tw")
    position = resume(log)
    assert position.since_ms == 0
    assert position.known() == 1
    read(log, position, [(5, b"one\n", 1), (6, b"two\n", 1)])
    assert log.read_bytes() == b"5 o one\n6 o two\n"


def test_a_flood_keeps_the_newest_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = KeptLog(str(path), 4_096)
    intake = Intake(log, Position())
    for number in range(1_000):
        intake.feed(frame(number, b"line %d\n" % number))
    intake.finish()
    log.close()
    assert log.truncated
    assert path.read_bytes().endswith(b"999 o line 999\n")
    assert path.stat().st_size + path.with_name("a.log.1").stat().st_size <= 4_096
