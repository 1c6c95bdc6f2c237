"""One WebSocket for a client: what it subscribes to, what it may, and how it ends."""

from __future__ import annotations

import socket as sockets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError

from flowbatch.http import keys
from flowbatch.model.ids import Millis
from flowbatch.model.stimuli import PutKey
from tests.http.rig import Rig, a_server
from tests.http.test_native_api import ARRAY, FOR_EVER, RUN, SINGLE, ask, bearer, ended, spec, submit


@asynccontextmanager
async def a_socket(rig: Rig, key: str | None = None, **headers: str) -> AsyncIterator[ClientWebSocketResponse]:
    told = {"Authorization": f"Bearer {key or bearer(rig)}", **headers}
    with anyio.fail_after(30):
        async with ClientSession(headers=told) as session, session.ws_connect(f"{rig.url}/api/v1/live") as socket:
            yield socket


async def until(socket: ClientWebSocketResponse, number: int, kind: str) -> tuple[Any, list[Any]]:
    """The message of that kind, and those of the same subscription before it."""
    before: list[Any] = []
    while True:
        said = await socket.receive_json()
        if said["id"] == number and said["type"] == kind:
            return said, before
        if said["id"] == number:
            before.append(said)


async def test_events_and_a_run_over_one_socket(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig, a_socket(rig) as socket:
        await submit(rig, (SINGLE, spec("one")), (ARRAY, spec("many", 6, duration_ms=FOR_EVER)))
        await socket.send_json({"do": "subscribe", "id": 1, "to": "events", "since": 0})
        await socket.send_json({"do": "subscribe", "id": 2, "to": "run", "run": "last"})
        first, _ = await until(socket, 2, "message")
        assert [job["key"] for job in first["data"]["jobs"]] == ["one", "many"]
        await ask(rig, "/terminate", {"address": "last"})
        said: list[Any] = []
        while not any(each["id"] == 2 and each["type"] == "closed" for each in said) or not any(
            each["type"] == "message" and each["data"].get("kind") == "run.failed" for each in said
        ):
            said.append(await socket.receive_json())
        [closed] = [each for each in said if each["type"] == "closed"]
        assert closed == {"id": 2, "type": "closed", "reason": "the run has ended"}
        last = [each["data"] for each in said if each["id"] == 2 and each["type"] == "message"][-1]
        assert (last["over"], last["run"]["status"]) == (True, "FAILED")
        await socket.send_json({"do": "unsubscribe", "id": 1})
        closed, _ = await until(socket, 1, "closed")
        assert closed["reason"] == "unsubscribed"
        await submit(
            rig, ("99999999-3333-4333-8444-555555555555", spec("x")), run="99999999-2222-4333-8444-555555555555"
        )
        await socket.send_json({"do": "subscribe", "id": 1, "to": "events", "since": 0, "run": RUN})
        message, before = await until(socket, 1, "message")
        assert [each["type"] for each in before] == ["subscribed"]
        assert (message["data"]["seq"], message["data"]["run"]) == (1, RUN)


async def test_what_makes_no_sense_is_answered_so(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig, a_socket(rig) as socket:
        for text, number, word in (
            ("nonsense", None, "no JSON"),
            ("[]", None, "object"),
            ('{"do": "dance", "id": 1}', None, "do"),
            ('{"do": "subscribe"}', None, "id"),
            ('{"do": "subscribe", "id": 1}', 1, "`to` is events or run"),
            ('{"do": "subscribe", "id": 1, "to": "run"}', 1, "`run` is needed"),
            ('{"do": "subscribe", "id": 1, "to": "run", "run": "none"}', 1, "no run has this id"),
            ('{"do": "subscribe", "id": 1, "to": "events", "since": -1}', None, "since"),
        ):
            await socket.send_str(text)
            said = await socket.receive_json()
            assert (said["type"], said["id"], word in said["message"]) == ("error", number, True), (text, said)
        for number in range(33):
            await socket.send_json({"do": "subscribe", "id": number, "to": "events"})
        said, _ = await until(socket, 32, "error")
        assert "32 subscriptions are open" in said["message"]
        await socket.send_json({"do": "subscribe", "id": 3, "to": "events"})
        said, _ = await until(socket, 3, "error")
        assert "in use" in said["message"]
        await socket.send_bytes(b"x")
        while (last := await socket.receive()).type is WSMsgType.TEXT:
            pass
        assert (last.type, last.data) == (WSMsgType.CLOSE, 1003)


async def test_who_may_and_how_long(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await submit(rig, (SINGLE, spec("one", duration_ms=FOR_EVER)))
        for key, headers in (
            ("fbk_nonsense", {}),
            (None, {"Origin": "http://evil.example"}),
            (None, {"Host": "evil.example"}),
        ):
            with pytest.raises(WSServerHandshakeError) as refused:
                async with a_socket(rig, key, **headers):
                    pass
            assert refused.value.status in (403, 421)
        assert (await ask(rig, "/live")).status == 400
        may = {"Effect": "Allow", "Action": ["flowbatch:OpenSocket", "flowbatch:FollowRun"], "Resource": "*"}
        name, secret = await rig.key("some", may)
        key_id = name.removeprefix(keys.PREFIX)
        async with a_socket(rig, keys.token(key_id, secret), Origin=rig.url) as socket:
            await socket.send_json({"do": "subscribe", "id": 1, "to": "events"})
            said, _ = await until(socket, 1, "error")
            assert said["code"] == "AccessDeniedException"
            await socket.send_json({"do": "subscribe", "id": 2, "to": "run", "run": "last"})
            await until(socket, 2, "message")
            row = rig.running.app.engine.machine.state.keys[key_id]
            await rig.running.app.engine.ask(lambda ticket: PutKey(ticket, row._replace(revoked_at=Millis(1))))
            said, _ = await until(socket, 2, "closed")
            assert said["reason"] == "the key is no longer valid"
            last = await socket.receive()
            assert (last.type, last.data) == (WSMsgType.CLOSE, 1008)
        rig.running.server.flush()
        await ask(rig, "/runs")
        seen = {(row.action, row.allowed) for _, row, _ in rig.running.service.reader.audit() if row.key_id == key_id}
        assert {("flowbatch:FollowRun", True), ("flowbatch:ListEvents", False)} <= seen


async def test_the_end_of_the_server_is_said(tmp_path: Path) -> None:
    async with ClientSession() as session:
        async with a_server(tmp_path) as rig:
            await submit(rig, (SINGLE, spec("one")))
            await ended(rig)
            told = {"Authorization": f"Bearer {bearer(rig)}"}
            socket = await session.ws_connect(f"{rig.url}/api/v1/live", headers=told)
            await socket.send_json({"do": "subscribe", "id": 1, "to": "events"})
            await until(socket, 1, "subscribed")
        with anyio.fail_after(10):
            while (last := await socket.receive()).type is WSMsgType.TEXT:
                pass
        assert (last.type, last.data) == (WSMsgType.CLOSE, 1001)
        await socket.close()


async def test_who_does_not_read_is_cut_off(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        rig.running.service.live.slow_s = 0.2
        await submit(rig, *((f"{number:08d}-7777-4333-8444-555555555555", spec(f"j{number}")) for number in range(600)))
        await ended(rig)
        server = rig.running.server
        with sockets.socket(sockets.AF_UNIX) as stream, anyio.fail_after(20):
            stream.connect(str(rig.running.app.folder.http_socket))
            stream.sendall(
                b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            text = b'{"do":"subscribe","id":1,"to":"events","since":0}'
            stream.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
            while not server.streams:
                await anyio.lowlevel.checkpoint()
            while server.streams:
                await anyio.lowlevel.checkpoint()
            stream.settimeout(10)
            got = await anyio.to_thread.run_sync(lambda: b"".join(iter(lambda: stream.recv(1 << 20), b"")))
        assert got.startswith(b"HTTP/1.1 101 ")
        assert len(got) < 500_000  # of more than these


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"Sec-WebSocket-Key": "xx"}, "Sec-WebSocket-Key must be 16 bytes in base64"),
        ({"Sec-WebSocket-Key": ""}, "Sec-WebSocket-Key must be"),
        ({"Sec-WebSocket-Version": "12"}, "Sec-WebSocket-Version must be 13"),
        ({"Connection": "close"}, "`Connection: Upgrade` is missing"),
        ({"Connection": "upgraded"}, "`Connection: Upgrade` is missing"),
    ],
)
async def test_a_handshake_that_is_none_is_answered(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    async with a_server(tmp_path) as rig:
        headers = {
            "Authorization": f"Bearer {bearer(rig)}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            **changed,
        }
        async with ClientSession() as session, session.get(f"{rig.url}/api/v1/live", headers=headers) as answer:
            assert answer.status == 400
            assert said in await answer.text()
