"""The server: connections with limits, and each request by gate, authentication, rate, operation, record and answer.

Nothing of a request is looked at before the gate has let it in, and nothing of its body before its sender is known. An answer
of AWS's kind is JSON with `x-amzn-requestid`, an error has its name in `x-amzn-errortype`.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import anyio
from aiohttp import web
from msgspec import Struct, field
from msgspec.structs import replace
from pydantic_core import from_json, to_json

from flowbatch.clock import WallClock
from flowbatch.http.authentication import Authenticator, claimed_key
from flowbatch.http.calls import Call, Principal, Request, Route
from flowbatch.http.connections import ACCEPTED_AT_ONCE, BACKLOG, Listener
from flowbatch.http.failures import (
    ClientFailure,
    Failure,
    MethodNotAllowed,
    NotAuthentic,
    ServerFailure,
    TooManyRequests,
)
from flowbatch.http.gate import Gate
from flowbatch.http.native.routes import PREFIX, NativeRoute, Router, given_of
from flowbatch.http.native.socket import Socket
from flowbatch.http.native.streams import Raw, Stream
from flowbatch.http.service import READS_FLUSHED_MS, Service
from flowbatch.http.signature import signature_in
from flowbatch.logs import Logger
from flowbatch.model.bucket import Bucket
from flowbatch.model.ids import uuid_text
from flowbatch.model.stimuli import Audit

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

WALL: Final = WallClock()
log = Logger(__name__)

HEADER_BYTES: Final = 16 * 1024
HEADERS_MAX: Final = 100
BODY_BYTES: Final = 1024 * 1024
DEPTH_MAX: Final = 32
IDLE_S: Final = 75.0
LINGER_S: Final = 1.0  # for the rest of a body that was refused
REPLAYS_MAX: Final = 20_000
JSON: Final = "application/json"
HSTS: Final = ("strict-transport-security", "max-age=31536000")
PAGE_METHODS: Final = ("GET", "HEAD")
FIELDS_MAX: Final = 100  # of a query
UNMODELLED: Final = ("x-content-type-options", "nosniff")

Plain = Callable[[], Awaitable[tuple[str, bytes]]]  # a page without authentication: its type and its body


class Reply(Struct, frozen=True):
    status: int
    body: bytes
    error: str | None = None
    retry_after_s: float | None = None
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: Stream | Socket | None = None


class Server:
    """`routes`: by method and path; those of tags by method and the path's beginning. `plain`: pages for everybody."""

    def __init__(
        self,
        service: Service,
        authenticator: Authenticator,
        gate: Gate,
        routes: dict[tuple[str, str], Route],
        prefixed: dict[tuple[str, str], Route],
        targets: dict[str, Route],
        plain: Mapping[str, Plain],
        native: Router,
    ) -> None:
        self.service = service
        self.authenticator = authenticator
        self.gate = gate
        self.routes = routes
        self.prefixed = prefixed
        self.targets = targets
        self.plain = plain
        self.native = native
        self.calls: dict[tuple[str, int], int] = {}  # (operation, status) → how many
        self.requests_under_way = 0
        self.streams = 0  # answers that go on
        self._buckets: dict[str, Bucket] = {}
        self._replays: OrderedDict[str, Reply] = OrderedDict()

    # --- listening

    async def run(
        self,
        sockets: list[Any],
        tls: ssl.SSLContext | None = None,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Never returns. `sockets`: bound; those of the unix family are the owner's. Cancelled, it answers what is under way."""
        loop = asyncio.get_running_loop()
        limits = self.service.limits
        listener = Listener(
            self.handle,
            limits,
            access_log=None,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            max_headers=HEADERS_MAX,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            auto_decompress=False,
        )
        servers = []
        for each in sockets:
            if each.family.name == "AF_UNIX":
                servers.append(await loop.create_unix_server(listener, sock=each, backlog=ACCEPTED_AT_ONCE))
            else:
                patience = None if tls is None else limits.read_s  # for a handshake: as for the head of a request
                servers.append(
                    await loop.create_server(
                        listener, sock=each, ssl=tls, backlog=ACCEPTED_AT_ONCE, ssl_handshake_timeout=patience
                    )
                )
            each.listen(BACKLOG)  # asyncio takes one number for both
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.write_down, name="audit of reads")
                task_status.started()
                await anyio.sleep_forever()
        finally:
            for server in servers:
                server.close()
            self.service.live.close()
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                listener.pre_shutdown()
                await listener.shutdown(3.0)
            self.flush()

    async def write_down(self) -> None:
        """Reads and denials become rows a few times a second, together."""
        while True:
            await anyio.sleep(READS_FLUSHED_MS / 1000)
            self.flush()

    def flush(self) -> None:
        rows = self.service.noted()
        if rows:
            self.service.engine.post(Audit(rows))

    # --- one request

    async def handle(self, raw: web.BaseRequest) -> web.StreamResponse:
        response = await self.respond(raw)
        if raw.secure and not response.prepared:
            response.headers[HSTS[0]] = HSTS[1]
        return response

    async def respond(self, raw: web.BaseRequest) -> web.StreamResponse:
        request_id = uuid_text(os.urandom(16))
        self.requests_under_way += 1
        name = "-"
        try:
            headers = joined(raw)
            path, _, query = raw.raw_path.partition("?")
            address = raw.remote if raw.transport is None or raw.transport.get_extra_info("peername") else None
            refused = self.gate.refusal(raw.method, headers, has_body=raw.can_read_body) if address else None
            if refused is not None:
                reply = failed(refused.status, refused.code, refused.message)
            elif path in self.plain and raw.method in PAGE_METHODS:
                kind, body = await self.plain[path]()
                return web.Response(body=body, content_type=kind, charset="utf-8", headers=dict([UNMODELLED]))
            else:
                body = await self.read(raw, headers)
                request = Request(raw.method, path, query, headers, body, address)
                route, resource = self.route(request)
                name = route.name
                reply = await self.answer(request, route, resource, request_id)
        except Failure as error:
            reply = of_failure(error, request_id, as_aws=not raw.path.startswith(PREFIX))
        except Exception as error:
            log.error("request_failed", request=request_id, operation=name, error=f"{type(error).__name__}: {error}")
            reply = failed(500, "ServerException", f"An internal error; the server's log has it as {request_id}")
        finally:
            self.requests_under_way -= 1
        self.calls[name, reply.status] = self.calls.get((name, reply.status), 0) + 1
        if reply.stream is not None:
            self.streams += 1
            try:
                secure = dict([HSTS]) if raw.secure else {}
                return await reply.stream.send(raw, {**headers_of(reply, request_id), **secure})
            finally:
                self.streams -= 1
        return respond(reply, request_id)

    async def read(self, raw: web.BaseRequest, headers: dict[str, str]) -> bytes:
        """The body, bounded in size and time. Raises Failure."""
        if not raw.can_read_body:
            return b""
        if int(headers.get("content-length") or 0) > BODY_BYTES:
            raise TooLarge(f"A request has at most {BODY_BYTES} bytes")
        if raw.content.is_eof():
            return raw.content.read_nowait()  # all of it came with the head: most bodies do
        try:
            with anyio.fail_after(self.service.limits.read_s):
                return await raw.read()
        except TimeoutError:
            raise TooSlow(f"The body did not come within {self.service.limits.read_s:g} s") from None
        except web.HTTPRequestEntityTooLarge:
            raise TooLarge(f"A request has at most {BODY_BYTES} bytes") from None

    def route(self, request: Request) -> tuple[Route, str | Mapping[str, str]]:
        """And the resource that the path names, decoded, or the variables of a native path. Raises ClientFailure."""
        if request.path.startswith(PREFIX):
            return self.native.find(request)
        target = request.headers.get("x-amz-target")
        if request.path == "/" and target is not None:
            found = self.targets.get(target)
            if found is None:
                raise UnknownOperation(f"{target[:128]} is no operation of this server")
            return found, ""
        known = self.routes.get((request.method, request.path))
        if known is not None:
            return known, ""
        for (method, prefix), route in self.prefixed.items():
            if method == request.method and request.path.startswith(prefix):
                return route, unquote(request.path.removeprefix(prefix))
        if others := self.methods_of(request.path):
            raise MethodNotAllowed(request.method, request.path, others)
        raise UnknownOperation(f"There is no operation at {request.method} {request.path[:128]}")

    def methods_of(self, path: str) -> set[str]:
        """All that there is something for, at a path that is none of the native API's."""
        found = {method for method, known in self.routes if known == path}
        found |= {method for method, prefix in self.prefixed if path.startswith(prefix)}
        return found | set(PAGE_METHODS) if path in self.plain else found

    async def answer(self, request: Request, route: Route, resource: str | Mapping[str, str], request_id: str) -> Reply:
        """Raises Failure."""
        now = self.service.now()
        try:
            principal = self.authenticator.principal(request, WALL.now())  # signers go by the wall's time
        except NotAuthentic as error:
            self.note_stranger(request, route, request_id, error)
            raise
        self.limit(principal, now)
        signature = None if route.reads or principal.key_id is None else signature_in(request.headers)
        if signature is not None and (known := self._replays.get(signature)) is not None:
            return known
        call = Call(self.service, request, request_id, principal, route.action, {})
        try:
            call.given = parsed(request, route, resource)
            value = await route.act(call)
            if call.decision is None:
                raise AssertionError(f"{route.name} was answered, and nobody asked whether it may")
        except Failure as error:
            if not call.recorded:
                self.service.note(call.row(error))
            raise
        if not call.recorded:
            self.service.note(call.row())
        if isinstance(value, Raw):
            return Reply(value.status, value.body, kind=value.kind, headers=value.headers)
        if isinstance(value, Stream | Socket):
            return Reply(200, b"", stream=value)
        reply = Reply(200, to_json(value))
        if signature is not None and route.name != "SubmitJob":
            self._replays[signature] = reply  # a submission has an id of its own, which outlives this process
            if len(self._replays) > REPLAYS_MAX:
                self._replays.popitem(last=False)
        return reply

    def limit(self, principal: Principal, now: int) -> None:
        rate = self.service.limits.calls_per_s
        if rate is not None and principal.key_id is not None:
            bucket = self._buckets.get(principal.key_id)
            if bucket is None:
                bucket = self._buckets[principal.key_id] = Bucket(rate, now)
            if not bucket.take(now):
                raise TooManyRequests("Too Many Requests", 1 / rate)

    def note_stranger(self, request: Request, route: Route, request_id: str, error: Failure) -> None:
        """A request that nobody is known to have sent; the failures of an address are bounded, and so are these."""
        nobody = Principal("-", "-", claimed_key(request.headers), ())
        self.service.note(Call(self.service, request, request_id, nobody, route.action, {}).row(error))


class UnknownOperation(Failure):
    status = 404
    code = "UnknownOperationException"


class TooLarge(Failure):
    status = 413
    code = "RequestEntityTooLargeException"


class TooSlow(Failure):
    status = 408
    code = "RequestTimeoutException"


def joined(raw: web.BaseRequest) -> dict[str, str]:
    """By names in lower case; of a header that is there twice both values, so that a second one cannot stand for the first."""
    found = {name.lower(): value for name, value in raw.headers.items()}
    if len(found) == len(raw.headers):
        return found
    found = {}
    for key, value in raw.headers.items():
        name = key.lower()
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def parsed(request: Request, route: Route, resource: str | Mapping[str, str]) -> dict[str, Any]:
    """The body as an object; of a path with a resource, that too. Raises ClientFailure."""
    if len(request.body) > route.body_max:
        said = f"{route.name} takes at most {route.body_max >> 10} KiB, got {-(-len(request.body) // 1024)} KiB"
        if route.name in ("SubmitJob", "RegisterJobDefinition"):
            what = "Job" if route.name == "SubmitJob" else "Job definition"
            said = f"{what} size must be less than {route.body_max >> 10} KiB, got {-(-len(request.body) // 1024)} KiB"
        raise ClientFailure(said)
    given: dict[str, Any] = {}
    if request.body:
        try:
            found = from_json(request.body, allow_inf_nan=False)
        except ValueError as error:
            raise ClientFailure(f"The body is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise ClientFailure("The body is a JSON object")
        given = found
        if request.body.count(b"{") + request.body.count(b"[") > DEPTH_MAX and too_deep(given):
            raise ClientFailure(f"The body is nested deeper than {DEPTH_MAX}")
    if isinstance(route, NativeRoute):
        assert not isinstance(resource, str)
        return given_of(request, resource, given)
    if resource:
        given = {**given, "resourceArn": resource}
    if request.query:
        from urllib.parse import parse_qs

        try:
            fields = parse_qs(request.query, keep_blank_values=True, max_num_fields=FIELDS_MAX)
        except ValueError as error:
            raise ClientFailure(f"The query cannot be read: {error}") from None
        given = {**given, **fields}
    return given


def too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [
            each
            for one in level
            for each in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
            if isinstance(each, (dict, list))
        ]
        if not level:
            return False
    return True


def of_failure(error: Failure, request_id: str, *, as_aws: bool) -> Reply:
    message = str(error)
    if as_aws and type(error) in (ClientFailure, ServerFailure):
        message = f"Error executing request, Exception : {message}, RequestId: {request_id}"
    retry = error.retry_after_s if isinstance(error, TooManyRequests) else None
    reply = failed(error.status, error.code, message, retry)
    return replace(reply, headers={"allow": error.allowed}) if isinstance(error, MethodNotAllowed) else reply


def failed(status: int, code: str, message: str, retry_after_s: float | None = None) -> Reply:
    return Reply(status, to_json({"__type": code, "message": message}), code, retry_after_s)


def headers_of(reply: Reply, request_id: str) -> dict[str, str]:
    headers = {"x-amzn-requestid": request_id, "content-type": reply.kind, UNMODELLED[0]: UNMODELLED[1]}
    if reply.error is not None:
        headers["x-amzn-errortype"] = reply.error
    if reply.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(reply.retry_after_s)))
    return {**headers, **reply.headers}


def respond(reply: Reply, request_id: str) -> web.Response:
    return web.Response(body=reply.body, status=reply.status, headers=headers_of(reply, request_id))
