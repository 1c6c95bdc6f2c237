from __future__ import annotations

import importlib
import os

import pytest


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own FLOWBATCH_STATE must not be what a test looks at."""
    for name in [name for name in os.environ if name.startswith("FLOWBATCH_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def modules_loaded() -> None:
    """Verbs import what they need when they run; here the first test of a session would pay for all."""
    importlib.import_module("flowbatch.app")
    importlib.import_module("flowbatch.spec.compile")
