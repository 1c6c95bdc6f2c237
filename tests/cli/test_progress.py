"""What a terminal shows of a run at work."""

from __future__ import annotations

from flowbatch.cli.progress import Pace


def test_what_runs_has_been_at_it_since_the_last_end() -> None:
    """Two at a time, three seconds each: of four, two are done after 3 s; just before the end nothing is left, not as much again."""
    pace = Pace()
    assert pace.left_ms(2, 2, 0, 3_000) == 3_000
    assert pace.left_ms(2, 2, 0, 5_800) == 200
    assert pace.left_ms(2, 2, 0, 7_000) < 0
    assert pace.left_ms(3, 1, 0, 7_500) == 2_500
