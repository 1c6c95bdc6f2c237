"""A real receiver of webhooks, with every fault of F30: what it does is in the path of the URL."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

LOOP = "127.0.0.1"


@dataclass
class Receiver:
    """`got`: (path, headers, body) as they came, in order."""

    port: int = 0
    secure: bool = False
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=dict)  # statuses for a path, one after the other; then 200
    release: asyncio.Event = field(default_factory=asyncio.Event)  # what hangs goes on

    def url(self, path: str) -> str:
        return f"http{'s' if self.secure else ''}://{LOOP}:{self.port}/{path}"

    def ids(self, path: str) -> list[str]:
        return [headers["webhook-id"] for where, headers, _ in self.got if where == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path, body = request.path.lstrip("/"), await request.read()
        self.got.append((path, {name.lower(): value for name, value in request.headers.items()}, body))
        waiting = self.answers.get(path)
        if waiting:
            return web.Response(status=waiting.pop(0), text="as asked")
        match path.partition("/")[0]:
            case "hang":
                await self.release.wait()
            case "reset":
                assert request.transport is not None
                request.transport.abort()
            case "gone":
                return web.Response(status=410)
            case "later":
                return web.Response(status=429, headers={"Retry-After": "120"})
            case "redirect":
                return web.Response(status=302, headers={"Location": self.url("stolen")})
            case "huge":
                return await self.stream(request, b"x" * 65536, 16_384)
            case "drip":
                return await self.stream(request, b".", 1_000_000, pause_s=0.05)
            case "status":
                return web.Response(status=int(path.rpartition("/")[2]), text="no\x1b[2J\u202e good")
        return web.Response(text="ok")

    async def stream(self, request: web.Request, part: bytes, count: int, pause_s: float = 0) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(count):
            await response.write(part)
            if pause_s:
                await asyncio.sleep(pause_s)
        return response


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    made = Receiver(secure=tls is not None)
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, LOOP, 0, ssl_context=tls)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        made.release.set()
        await runner.cleanup()


def self_signed(folder: Path) -> ssl.SSLContext:
    """A certificate that nobody vouches for."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", f"/CN={LOOP}"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
