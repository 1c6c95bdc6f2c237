"""What a short run pays for: the supervisor's start and the interpreter's end."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from flowbatch.backends.process_start import start_early


def test_what_was_printed_is_whole_though_the_interpreter_is_not_taken_apart() -> None:
    done = subprocess.run([sys.executable, "-m", "flowbatch", "schema"], stdout=subprocess.PIPE, check=True)
    assert done.stdout.endswith(b"}\n")


def test_output_that_cannot_be_written_is_told() -> None:
    program = "import sys; from flowbatch.__main__ import leave; sys.stdout.write('x'); leave(3)"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, env={}, check=False)
    assert done.returncode == 120
    assert b"No space left" in done.stderr


def test_no_supervisor_goes_ahead_of_the_look_at_a_store_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "flowbatch.db").write_bytes(b"a newer version's")
    assert start_early(tmp_path / "supervisor") is None
    assert not (tmp_path / "supervisor").exists()


def test_a_supervisor_that_was_started_ahead_listens_once_it_is_waited_for(tmp_path: Path) -> None:
    starting = start_early(tmp_path / "supervisor")
    assert starting is not None
    starting.finish()
    starting.finish()
    assert (tmp_path / "supervisor" / "sock").is_socket()


def test_help_loads_nothing_that_only_an_engine_needs() -> None:
    program = (
        "import sys, flowbatch.__main__ as main\n"
        "main.leave = lambda code: print(sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "sys.argv[1:] = ['--help']\nmain.main()"
    )
    told = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, text=True).stdout
    loaded = set(ast.literal_eval(told.splitlines()[-1]))
    assert "click" in loaded
    assert loaded.isdisjoint(
        {"aiodocker", "aiohttp", "anyio", "asyncio", "msgspec", "pydantic", "sqlite3", "structlog", "yaml"}
    )
