"""flowbatch's own log: the first line of it is often written when something is wrong already."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from flowbatch import logs


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    yield io.StringIO()
    logs.configure()


def test_a_line_holds_the_event_and_its_facts(out: io.StringIO) -> None:
    logs.configure(level="info", stream=out, json=True)
    logs.Logger("flowbatch.engine").error("store_full", error="no room", tries=3)
    line = json.loads(out.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "store_full",
        "error": "no room",
        "tries": 3,
        "logger": "flowbatch.engine",
        "level": "error",
    }


def test_lines_below_the_level_are_dropped(out: io.StringIO) -> None:
    logs.configure(stream=out)
    logs.Logger("here").info("nothing_to_see")
    assert out.getvalue() == ""
    logs.Logger("here").warning("look_here", name="x")
    assert "look_here" in out.getvalue()
    assert "name=x" in out.getvalue()
