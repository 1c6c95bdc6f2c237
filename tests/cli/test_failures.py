"""What is shown of a failed task's log."""

from __future__ import annotations

from flowbatch.cli.failures import LINE_MAX, excerpt


def test_of_a_progress_bar_its_last_picture() -> None:
    bar = "".join(f"\rprogress {percent}% |####      |" for percent in range(3000))
    assert excerpt(bar) == excerpt(bar + "\r") == "progress 2999% |####      |"


def test_a_line_without_end_is_cut_and_says_how_long_it_is() -> None:
    assert excerpt("x" * 80_000) == "x" * LINE_MAX + "… (80,000 characters)"
    assert excerpt("x" * LINE_MAX) == "x" * LINE_MAX
