"""Every test below needs the Engine: `-m 'not docker'` leaves them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docker.engine import Raw, ensure_engine

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and "pure" not in item.path.name:
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def raw() -> Raw:
    return ensure_engine()
