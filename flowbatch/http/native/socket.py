"""One WebSocket for a client, and what it has subscribed to: the event log, or runs as they go.

What is said over it stands at `open_socket`. A subscription makes its next
message once the one before has been taken: a slow client holds one of each, and is sent away when it takes none for a while.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from contextlib import aclosing
from typing import Annotated, Any, Final, Literal

import anyio
from aiohttp import WSCloseCode, WSMsgType, web
from anyio.abc import TaskGroup
from msgspec import Struct, field
from msgspec.structs import replace
from pydantic import Field
from pydantic_core import from_json, to_json

from flowbatch.http.calls import Call
from flowbatch.http.failures import ClientFailure, Failure
from flowbatch.http.native.reading import event_messages, of_events, progress_messages
from flowbatch.http.native.streams import Messages
from flowbatch.http.native.subjects import known_run
from flowbatch.http.operations.shapes import Shape, Whole, read
from flowbatch.logs import Logger

log = Logger(__name__)

MESSAGE_BYTES: Final = 64 * 1024  # of what a client says
SUBSCRIPTIONS_MAX: Final = 32
HEARTBEAT_S: Final = 20.0
CLOSE_S: Final = 1.0
NO_KEY: Final = "the key is no longer valid"


class Said(Shape):
    do: Literal["subscribe", "unsubscribe"]
    id: Annotated[int, Field(ge=0, lt=2**53)]
    to: Literal["events", "run"] | None = None
    since: Whole | None = None
    run: Annotated[str, Field(min_length=1, max_length=512)] | None = None


async def open_socket(call: Call) -> Socket:
    """A WebSocket for all that a client wants to be told of.

    The client says `{"do": "subscribe", "id": 1, "to": "events", "since": 120}` (with a `run` of its events alone), or
    `{"do": "subscribe", "id": 2, "to": "run", "run": "last"}`, and `{"do": "unsubscribe", "id": 1}`. It is told `{"id": 1, "type": "subscribed"}`,
    then `{"id": 1, "type": "message", "data": …}` with what the streams of /events and /runs/{run}/follow have, at last
    `{"id": 1, "type": "closed", "reason": …}`; or `{"id": 1, "type": "error", "message": …}`. Each subscription needs the action of that stream:
    flowbatch:ListEvents, flowbatch:FollowRun.
    """
    call.allow()
    if call.request.headers.get("upgrade", "").lower() != "websocket":
        raise ClientFailure("Here is a WebSocket: the request must be an upgrade to one")
    objection = handshake_objection(call.request.headers)
    if objection is not None:
        raise ClientFailure(f"The handshake of a WebSocket: {objection}")
    return Socket(call)


def handshake_objection(headers: Mapping[str, str]) -> str | None:
    """RFC 6455 §4.2.1. What comes later is aiohttp's, which would only hang up."""
    if "upgrade" not in [each.strip() for each in headers.get("connection", "").lower().split(",")]:
        return "`Connection: Upgrade` is missing"
    if headers.get("sec-websocket-version") != "13":
        return "Sec-WebSocket-Version must be 13"
    try:
        key = b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except ValueError:
        key = b""
    return None if len(key) == 16 else "Sec-WebSocket-Key must be 16 bytes in base64"


class Socket(Struct):
    call: Call
    scopes: dict[int, anyio.CancelScope] = field(default_factory=dict)
    sending: anyio.Lock = field(default_factory=anyio.Lock)

    async def send(self, raw: web.BaseRequest, headers: Mapping[str, str]) -> web.StreamResponse:
        """Until either end closes it."""
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_BYTES)
        socket.headers.update({name: value for name, value in headers.items() if name != "content-type"})
        try:
            await socket.prepare(raw)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.see_off, socket)
                async for message in socket:
                    if message.type is not WSMsgType.TEXT:
                        await socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"JSON in text is spoken here")
                        break
                    await self.heed(socket, tasks, message.data)
                tasks.cancel_scope.cancel()
        except* TimeoutError:
            log.warning("listener_too_slow", address=raw.remote, path=raw.path)
            if raw.transport is not None:
                raw.transport.abort()
        except* (ConnectionError, web.HTTPException):
            pass  # it has gone, or was no upgrade
        if socket.prepared:
            return socket
        said = {"__type": ClientFailure.code, "message": "The handshake of a WebSocket: this is no upgrade to one"}
        return web.Response(status=ClientFailure.status, body=to_json(said), headers=headers)

    async def see_off(self, socket: web.WebSocketResponse) -> None:
        await self.call.service.live.closed.wait()
        with anyio.move_on_after(CLOSE_S):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server ends")

    async def heed(self, socket: web.WebSocketResponse, tasks: TaskGroup, text: str) -> None:
        said: Said | None = None
        try:
            said = read(Said, object_of(text))
            if said.do == "unsubscribe":
                scope = self.scopes.get(said.id)
                if scope is not None:
                    scope.cancel()
                return
            messages = self.subscribed(said)
        except Failure as error:
            about = {
                "id": None if said is None else said.id,
                "type": "error",
                "code": error.code,
                "message": str(error),
            }
            await self.tell(socket, about)
            return
        scope = self.scopes[said.id] = anyio.CancelScope()
        tasks.start_soon(self.pass_on, socket, said.id, messages, scope)

    def subscribed(self, said: Said) -> Messages:
        """Raises ClientFailure, AccessDenied, NotFound."""
        if said.id in self.scopes:
            raise ClientFailure(f"id {said.id} is in use: unsubscribe it, or take another")
        if len(self.scopes) >= SUBSCRIPTIONS_MAX:
            raise ClientFailure(f"{SUBSCRIPTIONS_MAX} subscriptions are open: unsubscribe one")
        action = "flowbatch:FollowRun" if said.to == "run" else "flowbatch:ListEvents"
        call = replace(self.call, action=action, decision=None, given=said.model_dump())
        try:
            if not call.still_valid():
                raise ClientFailure(NO_KEY)
            if said.to == "run":
                if said.run is None:
                    raise ClientFailure("`run` is needed")
                messages = progress_messages(call, known_run(call, said.run))
            elif said.to == "events":
                run = of_events(call, said.run)
                since = call.service.reader.last_seq() if said.since is None else said.since
                messages = event_messages(call, since, run)
            else:
                raise ClientFailure("`to` is events or run")
        except Failure as error:
            call.service.note(call.row(error))
            raise
        call.service.note(call.row())
        return messages

    async def pass_on(
        self, socket: web.WebSocketResponse, number: int, messages: Messages, scope: anyio.CancelScope
    ) -> None:
        reason = "unsubscribed"
        try:
            with scope:
                await self.tell(socket, {"id": number, "type": "subscribed"})
                async with aclosing(messages):
                    async for each in messages:
                        if each is not None and each.last:
                            reason = str(dict(each.value)["reason"])
                        elif each is not None:
                            await self.tell(socket, {"id": number, "type": "message", "data": each.value})
                if reason == "unsubscribed":
                    reason = "the run has ended"
        finally:
            del self.scopes[number]
        await self.tell(socket, {"id": number, "type": "closed", "reason": reason})
        if reason == NO_KEY:
            await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=NO_KEY.encode())

    async def tell(self, socket: web.WebSocketResponse, value: Mapping[str, Any]) -> None:
        """Raises TimeoutError where nobody takes it."""
        with anyio.fail_after(self.call.service.live.slow_s):
            async with self.sending:
                if not socket.closed:
                    await socket.send_str(to_json(value).decode())


def object_of(text: str) -> dict[str, Any]:
    """Raises ClientFailure."""
    try:
        found = from_json(text)
    except ValueError as error:
        raise ClientFailure(f"That is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ClientFailure("A JSON object is needed")
    return found
