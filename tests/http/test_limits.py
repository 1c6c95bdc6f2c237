"""What bad input gets: sizes, depth, kinds, hosts, slow and too many connections. Plain sockets, no client that means well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from flowbatch.http import keys
from flowbatch.http.service import Limits
from tests.http.rig import a_server

pytestmark = pytest.mark.slow


async def say(rig: Any, data: bytes) -> bytes:
    """All that comes back until the server hangs up."""
    host, port = rig.url.removeprefix("http://").split(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(data)
        found = b""
        try:
            while True:
                found += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return found


def request(rig: Any, path: str = "/v1/listjobs", body: bytes = b'{"jobQueue":"default"}', **headers: str) -> bytes:
    """As the administrator, with a bearer token."""
    running = rig.running
    told = {
        "Host": rig.url.removeprefix("http://"),
        "Content-Type": "application/json",
        "Authorization": f"Bearer {keys.token(running.administrator.id, running.secret)}",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def code(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_what_is_answered_to_what(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with a_server(tmp_path) as rig:
        good = await say(rig, request(rig))
        assert code(good) == 200
        assert b'{"jobSummaryList":[]}' in good
        assert b"x-content-type-options: nosniff" in good.lower()
        assert code(await say(rig, request(rig, Host="evil.example"))) == 421
        assert code(await say(rig, request(rig, Host="localhost:1"))) == 200
        assert code(await say(rig, request(rig, Origin="http://evil.example"))) == 403
        assert code(await say(rig, request(rig, Sec_Fetch_Site="cross-site"))) == 403
        assert code(await say(rig, request(rig, Content_Type="text/plain"))) == 415
        assert code(await say(rig, request(rig, "/v1/nothing"))) == 404
        for path, methods in (
            ("/v1/listjobs", b"POST"),
            ("/v1/tags/arn", b"DELETE, GET, POST"),
            ("/api/v1/runs/last", b"GET"),
            ("/healthz", b"GET, HEAD"),
        ):
            wrong = await say(rig, request(rig, path).replace(b"POST", b"PATCH", 1))
            assert code(wrong) == 405
            assert b"\r\nallow: " + methods.lower() + b"\r\n" in wrong.lower()
        fields = "&".join(f"x{number}=y" for number in range(101))
        assert b"The query cannot be read" in await say(rig, request(rig, f"/v1/listjobs?{fields}"))
        head = await say(rig, request(rig, "/healthz", b"").replace(b"POST", b"HEAD", 1))
        assert (code(head), head.endswith(b"\r\n\r\n")) == (200, True)
        assert code(await say(rig, request(rig, "/" + "x" * 20_000))) == 400
        assert code(await say(rig, request(rig, X_Long="y" * 20_000))) == 400
        many: dict[str, Any] = {f"X_{number}": "y" for number in range(150)}
        assert code(await say(rig, request(rig, **many))) == 400
        assert code(await say(rig, request(rig, body=b"{" + b" " * (2 << 20) + b"}"))) == 413
        for body in (b"[]", b"{", b'{"jobQueue": NaN}', b'{"a":' * 40 + b"1" + b"}" * 40, b"\xff"):
            answer = await say(rig, request(rig, body=body))
            assert (code(answer), b"ClientException" in answer) == (400, True), body
        assert code(await say(rig, b"nonsense\r\n\r\n")) == 400
        assert code(await say(rig, request(rig, Authorization="Bearer fbk_aaaaaaaaaaaa_x"))) == 403
        assert code(await say(rig, request(rig, Authorization="Basic eDp5"))) == 403
        assert code(await say(rig, request(rig))) == 200
    assert "Traceback" not in capfd.readouterr().err  # whoever scans a port fills no log


async def test_half_a_request_holds_no_connection(tmp_path: Path) -> None:
    async with a_server(tmp_path, limits=Limits(read_s=0.2)) as rig:
        with anyio.fail_after(10):
            assert await say(rig, b"POST /v1/listjobs HTTP/1.1\r\nHost: x") == b""
            half = request(rig, Content_Length="100")
            assert code(await say(rig, half)) == 408
        assert code(await say(rig, request(rig))) == 200


async def test_who_says_nothing_holds_no_connection(tmp_path: Path) -> None:
    async with a_server(tmp_path, limits=Limits(read_s=0.2)) as rig:
        host, port = rig.url.removeprefix("http://").split(":")
        with anyio.fail_after(10):
            async with await anyio.connect_tcp(host, int(port)) as stream:
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()


async def test_connections_are_bounded(tmp_path: Path) -> None:
    async with a_server(tmp_path, limits=Limits(connections=3)) as rig:
        host, port = rig.url.removeprefix("http://").split(":")
        held = [await anyio.connect_tcp(host, int(port)) for _ in range(3)]
        for stream in held:  # each is known to the server once it has been answered
            await stream.send(request(rig, Connection="keep-alive"))
            await stream.receive()
        assert code(await say(rig, request(rig))) == 503
        for stream in held:
            await stream.aclose()
        while (answer := code(await say(rig, request(rig)))) == 503:
            await anyio.lowlevel.checkpoint()
        assert answer == 200


async def test_calls_of_a_key_are_bounded_once_that_is_set(tmp_path: Path) -> None:
    async with a_server(tmp_path, limits=Limits(calls_per_s=0.001)) as rig:
        assert code(await say(rig, request(rig))) == 200
        answer = await say(rig, request(rig))
        assert code(answer) == 429
        assert b"TooManyRequestsException" in answer
        assert b"retry-after: 1000" in answer.lower()


async def test_a_replayed_request_changes_nothing_again(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        state = rig.running.service.state
        box = {"command": ["true"], "resourceRequirements": [{"type": "VCPU", "value": "1"}]}
        body = json.dumps({"jobDefinitionName": "d", "type": "container", "containerProperties": box}).encode()
        signed = rig.signed("/v1/registerjobdefinition", body, {})
        first, again = [await rig.send(signed) for _ in range(2)]
        assert first == again
        assert state.definitions["d"].last == 1
        said = signed.headers["Authorization"]
        signed.headers["Authorization"] = (said if isinstance(said, str) else said.decode()).replace(", ", " ,  ")
        assert await rig.send(signed) == first  # the header is not signed: whoever writes it otherwise says nothing new
        assert state.definitions["d"].last == 1
