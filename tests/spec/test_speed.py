"""Guards with room for a busy machine; the figures that are promised are measured by the bench."""

from __future__ import annotations

import time

import pytest

from tests.spec.building import compiled, problems

LONG = "jobs:\n" + "".join(
    f"  job{n}:\n    needs: [job{max(0, n - 1) if n else 'x'}]\n    script: echo {n}\n    vcpus: 1\n    env: {{A: '{n}'}}\n"
    for n in range(1, 2000)
).replace("needs: [job0]", "priority: 1")


def seconds(text: str) -> float:
    begun = time.process_time()
    compiled(text)
    return time.process_time() - begun


@pytest.mark.slow
def test_ten_thousand_lines() -> None:
    assert LONG.count("\n") >= 9_990
    assert min(seconds(LONG) for _ in range(3)) < 2.0


@pytest.mark.slow
def test_a_hundred_arrays_cost_nothing_per_child() -> None:
    text = "jobs:\n" + "".join(f"  a{n}: {{array: 10000, script: x}}\n" for n in range(100))
    assert min(seconds(text) for _ in range(3)) < 0.1


@pytest.mark.slow
def test_ten_thousand_wrong_lines() -> None:
    begun = time.process_time()
    assert problems(LONG.replace("script", "scrip").replace("job1", "jub1"))
    assert time.process_time() - begun < 2.0
