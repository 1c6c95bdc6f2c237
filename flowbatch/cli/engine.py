"""A change by a verb of the engine: asked of the one that holds the folder, or made as one for the moment it takes."""

from __future__ import annotations

from typing import Any

import anyio

from flowbatch.cli.context import Place


def ask_or_open(place: Place, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Raises InputError where the engine refuses."""
    from flowbatch import logs

    logs.configure()
    if place.folder.holder() is not None:
        value = place.ask(verb, **arguments)
    else:
        value = anyio.run(open_and_ask, place, verb, arguments)
    assert isinstance(value, dict)
    return value


async def open_and_ask(place: Place, verb: str, arguments: dict[str, Any]) -> object:
    """What earlier lives left open is adopted, and nothing of it starts."""
    from flowbatch.app import open_app

    async with open_app(place.folder, place.settings, hold_open_runs=True) as app:
        return await app.verbs.call(verb, arguments)
