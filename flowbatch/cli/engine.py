"""A change by a verb of the engine: asked of the one that holds the folder, or made as one for the moment it takes."""

from __future__ import annotations

from typing import Any

import anyio

from flowbatch.cli.context import Place


def ask_or_open(place: Place, verb: str, arguments: dict[str, Any], *, settle: bool = False) -> dict[str, Any]:
    """Raises InputError where the engine refuses. `settle`: what the change stops is waited for, where no engine runs."""
    from flowbatch import logs

    logs.configure()
    value = place.ask(verb, **arguments) if place.held else anyio.run(open_and_ask, place, verb, arguments, settle)
    assert isinstance(value, dict)
    return value


async def open_and_ask(place: Place, verb: str, arguments: dict[str, Any], settle: bool = False) -> object:
    """What earlier lives left open is adopted, and nothing of it starts."""
    from flowbatch.app import open_app

    async with open_app(place.folder, place.settings, hold_open_runs=True) as app:
        if not settle:
            return await app.verbs.call(verb, arguments)
        await app.engine.recovered.wait()  # what ended while nobody looked has ended so, not by this
        value = await app.verbs.call(verb, arguments)
        state, over = app.engine.machine.state, anyio.Event()

        def look(_: object) -> None:
            if not any(live.halt for live in state.live.values()):
                over.set()

        app.engine.observe(look)
        look(None)
        await over.wait()
        return value
