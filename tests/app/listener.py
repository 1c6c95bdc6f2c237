"""A receiver in a process of its own: `python -m tests.app.listener PORT FILE`. What it takes is on disk before it answers.

Each line is `<path> <webhook-id> <sha-256 of the body> <seq> <subject>`; a receiver that is killed loses nothing that it said yes to.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys

from aiohttp import web

FAULTS = 0.002


class Listener:
    def __init__(self, file: str) -> None:
        self.out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        draw = random.random()
        if draw < FAULTS:
            return web.Response(status=random.choice((500, 503)))
        lines = []
        events = json.loads(body)
        for event in events if isinstance(events, list) else [events]:
            digest = hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest()
            own = event["flowbatch"]
            lines.append(f"{request.path} {event['id']} {digest} {own['seq']} {own['subject']}\n")
        os.write(self.out, "".join(lines).encode())
        if draw < 2 * FAULTS and request.transport is not None:
            request.transport.abort()  # taken, and nobody knows
        return web.Response()


if __name__ == "__main__":
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/{path:.*}", Listener(sys.argv[2]).handle)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, handle_signals=False)
