from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

MEMORY: Final = Path("/dev/shm")
ROOM_BYTES: Final = 1 << 28  # many times what one test writes


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Iterator[Path]]:
    """A new one each time. In memory where there is room: these engines die without their machine, so nothing here looks at what a
    disk has kept, and each of their thousands of commits would wait for it (tests/store/test_power_loss.py looks at that)."""

    def made(parent: Path) -> Iterator[Path]:
        for number in count():
            path = parent / str(number)
            path.mkdir()
            yield path

    with TemporaryDirectory(prefix="flowbatch-test-", dir=MEMORY if has_room(MEMORY) else tmp_path) as parent:
        yield made(Path(parent))


def has_room(folder: Path) -> bool:
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return False
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize >= ROOM_BYTES
