"""The verbs of the engine's socket, asked of a server over its native API: the same arguments, the same answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowbatch.errors import InputError
from flowbatch.remote.channel import Channel, NotThere


def ask(channel: Channel, verb: str, arguments: Mapping[str, Any]) -> object:
    """Raises InputError where the server refuses, or has no such verb."""
    match verb:
        case "ping":
            channel.get("queues")
            return {"serving": True, "held": []}
        case "cancel" | "terminate" | "retry":
            return channel.post(verb, body={key: value for key, value in arguments.items() if value is not None})
        case "resume":
            return None  # a server holds nothing back
        case "why":
            return channel.get("jobs", arguments["job"], "why", index=arguments.get("index"))["why"]
        case "watch_log":
            return None  # who follows a log over the API is known to read it
        case "queues":
            return channel.get("queues")["queues"]
        case "queue":
            try:
                return channel.get("queues", arguments["queue"])
            except NotThere:
                return None
        case "environments":
            return channel.get("environments")
        case "redeliver" | "revive_dead":
            return channel.post("deliveries", "redeliver", body=dict(arguments))
        case _:
            raise InputError(f"a server of --server takes no {verb!r}; do it where its state folder is")
