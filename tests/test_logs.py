"""flowbatch's own log: the first line of it is often written when something is wrong already."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowbatch import logs


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    yield io.StringIO()
    logs.configure()


def test_a_line_holds_the_event_and_its_facts(out: io.StringIO) -> None:
    logs.configure(level="info", stream=out, json=True)
    logs.Logger("flowbatch.engine").error("store_full", error="no room", tries=3)
    line = json.loads(out.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "store_full",
        "error": "no room",
        "tries": 3,
        "logger": "flowbatch.engine",
        "level": "error",
    }


def test_lines_below_the_level_are_dropped(out: io.StringIO) -> None:
    logs.configure(stream=out)
    logs.Logger("here").info("nothing_to_see")
    assert out.getvalue() == ""
    logs.Logger("here").warning("look_here", name="x")
    assert "look_here" in out.getvalue()
    assert "name=x" in out.getvalue()


class NoRoom(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch, out: io.StringIO) -> None:
    """An engine that tells of a full disk in a file on that disk goes on waiting for room."""
    logs.configure(stream=NoRoom())
    logs.Logger("here").error("store_full")
    out.close()
    logs.configure(stream=out)
    logs.Logger("here").error("nobody_reads")
    logs.configure()
    monkeypatch.setattr(sys, "stderr", None)
    logs.Logger("here").error("closed")


# --- the file of an engine in the background

WRITER = """
import sys
from pathlib import Path
from flowbatch import logs
path = Path(sys.argv[1])
for number in range(6):
    print("line", number, "x" * 100, flush=True)
    print("told", number, file=sys.stderr, flush=True)
    logs.rotate(path, 200)
"""


def test_the_file_of_an_engine_begins_anew_when_it_is_full(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    before = os.umask(0)
    try:
        with logs.opened(path) as out:
            subprocess.run([sys.executable, "-c", WRITER, str(path)], stdout=out, stderr=out, check=True)
    finally:
        os.umask(before)
    files = [tmp_path / "engine.log.1", path]
    assert [file.read_text(encoding="utf-8").count("line") for file in files] == [2, 0]  # the newest are kept
    assert "told 5" in files[0].read_text(encoding="utf-8")
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_an_output_that_is_another_file_is_left_alone(tmp_path: Path) -> None:
    path, other = tmp_path / "engine.log", tmp_path / "other"
    path.write_bytes(b"x" * 500)
    with other.open("wb") as out:
        subprocess.run([sys.executable, "-c", WRITER, str(path)], stdout=out, stderr=out, check=True)
    assert other.read_bytes().count(b"line") == 6
    assert path.read_bytes() == b"x" * 500


def test_a_file_that_was_open_to_others_is_closed_to_them_and_a_full_one_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_bytes(b"old\n")
    path.chmod(0o644)
    with logs.opened(path, most_bytes=100) as out:
        out.write(b"new\n")
    assert path.read_bytes() == b"old\nnew\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with logs.opened(path, most_bytes=5) as out:
        out.write(b"newer\n")
    assert path.read_bytes() == b"newer\n"
    assert (tmp_path / "engine.log.1").read_bytes() == b"old\nnew\n"
