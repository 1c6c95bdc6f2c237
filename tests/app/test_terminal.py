"""`run` on a terminal: a live view that is drawn, and an end that leaves the terminal as it was."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios

import pytest

from tests.app.commands import PATIENCE_S, Commands

pytestmark = pytest.mark.slow

WORKFLOW = """
name: shown
jobs:
  first: {command: ['true']}
  wide: {needs: first, vcpus: 0.1, array: 6, script: 'echo here > news; read _ < gate'}
"""
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"
# a terminal is taken by the leader of a session without one; then its keys send signals
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
CTRL_C = b"\x03"


class Terminal:
    """A pseudo-terminal with a flowbatch in its foreground."""

    def __init__(self, flowbatch: Commands, *words: str, env: dict[str, str] | None = None, columns: int = 100) -> None:
        self.fd, inner = os.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, "-m", "flowbatch", "--state", str(flowbatch.state), *words],
            env={**flowbatch.env, "TERM": "xterm-256color", **(env or {})},
            cwd=flowbatch.folder,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self.shown = b""

    def read_until(self, pattern: bytes) -> None:
        while re.search(pattern, self.shown) is None:
            assert self._read(), f"the terminal never showed {pattern!r}: {self.shown!r}"

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def end(self) -> int:
        while self._read():
            pass
        os.close(self.fd)
        return self.process.wait(PATIENCE_S)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.fd], [], [], PATIENCE_S)
        assert ready, f"the terminal is silent: {self.shown!r}"
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False  # the other end is closed
        self.shown += data
        return bool(data)


def test_a_bar_is_drawn_and_the_terminal_is_left_clean(flowbatch: Commands) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    terminal = Terminal(flowbatch, "run", str(flowbatch.write("shown.yaml", WORKFLOW)))
    news.lines(6)
    terminal.read_until(rb"6 running")
    gate.let(6)
    assert terminal.end() == 0
    assert "━".encode() in terminal.shown
    assert b"6/6" in terminal.shown
    assert terminal.shown.count(HIDE) == terminal.shown.count(SHOW) == 1
    assert terminal.shown.rindex(SHOW) > terminal.shown.rindex(b"6/6")
    assert b"Traceback" not in terminal.shown
    assert terminal.shown.endswith(b"\n")


def test_ctrl_c_on_the_keyboard_reaches_the_engine_alone(flowbatch: Commands) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    terminal = Terminal(flowbatch, "run", str(flowbatch.write("shown.yaml", WORKFLOW)))
    news.lines(6)
    terminal.read_until(rb"6 running")
    terminal.type(CTRL_C)
    terminal.read_until(rb"Draining")
    gate.let(6)
    assert terminal.end() == 0  # there was nothing more to start: the run is over
    assert b"SUCCEEDED" in terminal.shown
    assert terminal.shown.count(HIDE) == terminal.shown.count(SHOW)


def test_no_colour_without_a_terminal(flowbatch: Commands) -> None:
    done = flowbatch.ok("run", flowbatch.write("one.yaml", "jobs: {one: {command: ['true']}}"))
    assert "\x1b" not in done.out + done.err
    assert "SUCCEEDED" in done.out


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_terminal_that_wants_no_colours_gets_none(flowbatch: Commands, env: dict[str, str]) -> None:
    workflow = flowbatch.write("two.yaml", "jobs: {one: {command: ['true']}, two: {command: ['false']}}")
    terminal = Terminal(flowbatch, "run", str(workflow), env=env)
    assert terminal.end() == 1
    listed = Terminal(flowbatch, "jobs", "last", env=env)
    assert listed.end() == 0
    assert b"FAILED" in listed.shown
    assert re.findall(rb"\x1b\[[0-9;]*[34][0-9]m", terminal.shown + listed.shown) == []
    if env == {"TERM": "dumb"}:
        assert b"\x1b" not in terminal.shown + listed.shown


@pytest.mark.parametrize("columns", [1, 20])
def test_a_narrow_terminal_is_no_obstacle(flowbatch: Commands, columns: int) -> None:
    terminal = Terminal(
        flowbatch, "run", str(flowbatch.write("one.yaml", "jobs: {one: {command: ['true']}}")), columns=columns
    )
    assert terminal.end() == 0
    assert b"Traceback" not in terminal.shown
    assert terminal.shown.count(HIDE) == terminal.shown.count(SHOW)
