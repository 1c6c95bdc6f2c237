from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own FLOWBATCH_STATE must not be what a test looks at."""
    for name in [name for name in os.environ if name.startswith("FLOWBATCH_")]:
        monkeypatch.delenv(name)
