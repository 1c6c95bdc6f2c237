"""The engine's unix socket: a JSON object a line in, one out, so that the other verbs reach a `run` in progress."""

from __future__ import annotations

import json
from typing import Final

import anyio
from anyio.abc import SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from flowbatch.engine.verbs import Verbs
from flowbatch.errors import FlowbatchError

LINE_BYTES: Final = 16 * 1024 * 1024  # a run of many jobs with many items is one line; only the owner sends any


async def serve(socket: str, verbs: Verbs, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Never returns. Only the folder's owner can open the socket (0600 in a 0700 folder)."""
    await anyio.Path(socket).unlink(missing_ok=True)  # we hold the folder: whoever left it is gone
    # Its mode is set between its making and its listening, so that nobody can have connected before.
    async with await anyio.create_unix_listener(socket, mode=0o600) as listener:
        task_status.started()
        await listener.serve(lambda stream: converse(stream, verbs))


async def converse(stream: SocketStream, verbs: Verbs) -> None:
    async with stream:
        lines = BufferedByteReceiveStream(stream)
        whole = True
        while whole:
            try:
                line = await lines.receive_until(b"\n", LINE_BYTES)
            except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            except anyio.DelimiterNotFound:
                line, whole = b"", False  # too long: answered as the nonsense that it is, and no more is read
            reply = await answer(line, verbs)
            try:
                await stream.send(json.dumps(reply).encode() + b"\n")
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return


async def answer(line: bytes, verbs: Verbs) -> dict[str, object]:
    try:
        request = json.loads(line)
        verb, arguments = request["verb"], request.get("arguments", {})
        return {"value": await verbs.call(str(verb), dict(arguments))}
    except FlowbatchError as error:
        return {"error": str(error), "exit_code": error.exit_code}
    except Exception as error:  # nesting, infinities, lists for numbers: no request may end the engine
        return {
            "error": f"not a request that this engine understands: {str(error) or type(error).__name__}",
            "exit_code": 2,
        }
