from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.backends import conformance
from tests.backends.conformance import World
from tests.docker.engine import Raw
from tests.docker.world import docker_world

# Its timeouts are the core's timers, which hold across a restart since the start is durable (`enforces_timeout` is False).
NOT_ITS_OWN = (conformance.a_timeout_is_enforced, conformance.a_timeout_kills_after_the_grace)
CASES = [case for case in conformance.CASES if case not in NOT_ITS_OWN]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_conformance(case: Callable[[World], Awaitable[None]], tmp_path: Path, raw: Raw) -> None:
    async with docker_world(tmp_path, raw) as world:
        await case(world)
