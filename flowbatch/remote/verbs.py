"""The verbs of the engine's socket, asked of a server over its native API: the same arguments, the same answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowbatch.errors import InputError
from flowbatch.model.definition import revision_id
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
        case "create_queue" | "create_environment":
            return channel.post(f"{verb.partition('_')[2]}s", body=arguments)
        case "update_queue" | "delete_queue" | "update_environment" | "delete_environment":
            action, _, kind = verb.partition("_")
            steps = (f"{kind}s", arguments[kind], *(["delete"] if action == "delete" else []))
            return channel.post(*steps, body=without(arguments, kind))
        case "add_node" | "drain_node" | "remove_node":
            action = verb.partition("_")[0]
            steps = ("environments", arguments["environment"], "nodes", arguments["node"])
            more = () if action == "add" else (action,)
            return channel.post(*steps, *more, body=without(arguments, "environment", "node"))
        case "scheduling_policies":
            return channel.get("scheduling-policies")["scheduling_policies"]
        case "create_scheduling_policy":
            return channel.post("scheduling-policies", body=arguments)
        case "update_scheduling_policy" | "delete_scheduling_policy":
            name = arguments["scheduling_policy"]
            more = ("delete",) if verb.startswith("delete") else ()
            return channel.post("scheduling-policies", name, *more, body=without(arguments, "scheduling_policy"))
        case "create_token":
            return channel.post("tokens", body=arguments)
        case "update_token":
            return channel.post("tokens", arguments["name"], body=without(arguments, "name"))
        case "delete_token":
            return channel.post("tokens", arguments["name"], "delete", body={})
        case "deregister_definition":
            which = revision_id(arguments["name"], arguments["revision"])
            return channel.post("definitions", which, "deregister", body={})
        case "redeliver" | "revive_dead":
            return channel.post("deliveries", "redeliver", body=dict(arguments))
        case _:
            raise InputError(f"a server of --server takes no {verb!r}; do it where its state folder is")


def without(arguments: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """What is in the path is not in the body."""
    return {key: value for key, value in arguments.items() if key not in names}
