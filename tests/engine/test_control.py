"""The engine's socket: questions that make no sense are answered, and the engine goes on."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from flowbatch.app import App, open_app
from flowbatch.clock import VirtualClock
from flowbatch.engine import control
from flowbatch.engine.client import call
from flowbatch.errors import BackendUnavailable, FlowbatchError, FolderHeld, InputError
from flowbatch.folder import StateFolder, short_socket_path
from flowbatch.settings import defaults


@asynccontextmanager
async def an_app(folder: Path) -> AsyncIterator[App]:
    async with open_app(StateFolder(folder), defaults(), clock=VirtualClock(1), fake_only=True) as app:
        yield app


async def say(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    """One connection, an answer a line."""
    answers = []
    with short_socket_path(path) as name:
        stream = await anyio.connect_unix(name)
    async with stream:
        for line in lines:
            await stream.send(line)
            text = b""
            while not text.endswith(b"\n"):
                text += await stream.receive()
            answers.append(json.loads(text))
    return answers


async def test_nonsense_is_answered_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with an_app(tmp_path / "state") as app:
        lines = [
            b"\n",
            b"{\n",
            b"[]\n",
            b"17\n",
            b'"ping"\n',
            b"\xff\xfe\n",
            b'{"verb": "fly"}\n',
            b'{"verb": "cancel"}\n',
        ]
        lines += [
            b'{"verb": "cancel", "arguments": 7}\n',
            b'{"verb": "cancel", "arguments": {"job": "x", "indices": [1]}}\n',
        ]
        lines += [b'{"verb": "gc", "arguments": {"before": "now"}}\n', b"[" * 100_000 + b"\n"]
        lines += [b'{"verb": "cancel", "arguments": {"job": "x", "indices": [[0, Infinity]]}}\n', b'{"verb": "ping"}\n']
        *bad, good = await say(app.folder.socket, *lines)
        assert all(answer["exit_code"] == 2 and answer["error"] for answer in bad), bad
        assert "knows no verb 'fly'" in bad[6]["error"]
        assert good["value"]["runs"] == []


@pytest.mark.slow
async def test_a_line_without_an_end_is_not_kept_for_ever(tmp_path: Path) -> None:
    async with an_app(tmp_path / "state") as app:
        with anyio.fail_after(10):
            stream = await anyio.connect_unix(app.folder.socket)
            async with stream:
                try:
                    for _ in range(64):
                        await stream.send(b"x" * control.LINE_BYTES)
                except anyio.BrokenResourceError:
                    pass  # it hung up on us
        [answer] = await say(app.folder.socket, b'{"verb": "ping"}\n')
        assert "value" in answer


async def test_whoever_hangs_up_disturbs_nobody(tmp_path: Path) -> None:
    async with an_app(tmp_path / "state") as app:
        for line in (b"", b'{"verb": "pi', b'{"verb": "ping"}\n' * 100):
            with socket.socket(socket.AF_UNIX) as stream:
                stream.connect(str(app.folder.socket))
                stream.sendall(line)
        [answer] = await say(app.folder.socket, b'{"verb": "ping"}\n')
        assert "value" in answer


async def test_the_client_of_the_command_line(tmp_path: Path) -> None:
    async with an_app(tmp_path / "state") as app:
        path = str(app.folder.socket)
        answer = await anyio.to_thread.run_sync(call, path, "ping", {})
        assert isinstance(answer, dict)
        with pytest.raises(InputError, match="no verb"):
            await anyio.to_thread.run_sync(call, path, "fly", {})
        note = await anyio.to_thread.run_sync(call, path, "cancel", {"run": "no such run"})
        assert isinstance(note, dict)
        assert note["changed"] == 0
        with pytest.raises(FlowbatchError, match="not known"):
            await anyio.to_thread.run_sync(call, path, "retry", {"run": "no such run"})
    with pytest.raises(BackendUnavailable, match="does not answer"):
        call(path, "ping", {})


async def test_a_folder_too_deep_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 6) / "state"
    async with an_app(deep) as app:
        assert len(str(app.folder.socket)) > 108
        assert app.folder.socket.stat().st_mode & 0o777 == 0o600
        [answer] = await say(app.folder.socket, b'{"verb": "ping"}\n')
        assert "value" in answer
    assert not app.folder.socket.exists()


async def test_one_engine_a_folder(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    assert folder.holder() is None
    async with an_app(folder.path) as app:
        assert folder.holder() is not None
        with pytest.raises(FolderHeld, match="holds this state folder"):
            async with an_app(folder.path):
                raise AssertionError("two engines")
        [answer] = await say(app.folder.socket, b'{"verb": "ping"}\n')  # undisturbed
        assert "value" in answer
    assert folder.holder() is None
    assert folder.path.stat().st_mode & 0o777 == 0o700


async def test_only_the_owner_may_connect_and_the_mask_of_the_process_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mask is the whole process's: the store's thread makes files meanwhile."""
    before = os.umask(0)

    def forbidden(mask: int) -> int:
        raise AssertionError("the mask is changed")

    monkeypatch.setattr(os, "umask", forbidden)
    try:
        async with an_app(tmp_path / "state"):
            assert stat.S_IMODE((tmp_path / "state" / "engine.sock").stat().st_mode) == 0o600
    finally:
        monkeypatch.undo()
        assert os.umask(before) == 0
