"""For the simulator's tests: nothing is collected while worlds are played. It took a fifth of the time, and finds next to nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()
    gc.collect()
