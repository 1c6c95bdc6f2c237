"""The other end of the engine's socket, for the command line: one question, one answer, no event loop."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Final

from flowbatch.errors import BackendUnavailable, FlowbatchError, InputError

SECONDS: Final = 30.0


def call(path: str, verb: str, arguments: Mapping[str, object], seconds: float = SECONDS) -> object:
    """Asks a running engine. Raises InputError where it refuses, BackendUnavailable where none answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(seconds)
            stream.connect(path)
            stream.sendall(json.dumps({"verb": verb, "arguments": dict(arguments)}).encode() + b"\n")
            with stream.makefile("rb") as lines:
                line = lines.readline()
    except OSError as error:
        raise BackendUnavailable(f"the engine does not answer on its socket: {error.strerror or error}") from error
    if not line:
        raise BackendUnavailable("the engine hung up before it answered: it has just ended")
    reply = json.loads(line)
    if "error" in reply:
        raise InputError(reply["error"]) if reply.get("exit_code") == 2 else FlowbatchError(reply["error"])
    value: object = reply.get("value")
    return value
