from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """A new one each time."""

    def made() -> Iterator[Path]:
        for number in count():
            path = tmp_path / str(number)
            path.mkdir()
            yield path

    return made()
