"""For all tests: no property fails because the machine was busy, and what CI finds is found again."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("flowbatch", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("flowbatch")
