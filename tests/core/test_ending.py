"""Evidence in, verdict out."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowbatch.core.ending import EXITED, FAILED_TO_START, HOST_LOST, INTERRUPTED, OUT_OF_MEMORY, TIMED_OUT, classify
from flowbatch.model.ending import EndClass, Evidence, Halt, Verdict

NO_FILE = "CannotStartContainerError: no such file"


@pytest.mark.parametrize(
    ("evidence", "halt", "verdict"),
    [
        (Evidence(0), Halt.NONE, Verdict(EndClass.SUCCESS, 0, None, EXITED)),
        (Evidence(0, detail="truncated"), Halt.NONE, Verdict(EndClass.SUCCESS, 0, "truncated", EXITED)),
        (Evidence(3), Halt.NONE, Verdict(EndClass.APP, 3, None, EXITED)),
        (Evidence(3, detail="why"), Halt.NONE, Verdict(EndClass.APP, 3, "why", EXITED)),
        (Evidence(137), Halt.NONE, Verdict(EndClass.APP, 137, None, EXITED)),
        (Evidence(137, oom=True), Halt.NONE, Verdict(EndClass.APP, 137, OUT_OF_MEMORY, EXITED)),
        (Evidence(0, oom=True), Halt.NONE, Verdict(EndClass.SUCCESS, 0, None, EXITED)),  # a child of it was killed
        (Evidence(start_error=NO_FILE), Halt.NONE, Verdict(EndClass.START, None, NO_FILE, FAILED_TO_START)),
        (Evidence(lost=True, detail="rebooted"), Halt.NONE, Verdict(EndClass.INFRA, None, "rebooted", HOST_LOST)),
        (Evidence(0, lost=True), Halt.NONE, Verdict(EndClass.INFRA, None, None, HOST_LOST)),  # success is never guessed
        (Evidence(), Halt.NONE, Verdict(EndClass.INFRA, None, None, HOST_LOST)),
        (Evidence(143, timed_out=True), Halt.NONE, Verdict(EndClass.TIMEOUT, 143, None, TIMED_OUT)),
        (Evidence(0), Halt.TIMEOUT, Verdict(EndClass.TIMEOUT, 0, None, TIMED_OUT)),
        (Evidence(lost=True), Halt.TIMEOUT, Verdict(EndClass.TIMEOUT, None, None, TIMED_OUT)),
        (Evidence(0), Halt.TERMINATE, Verdict(EndClass.USER, 0, None, "enough")),
        (Evidence(137, oom=True), Halt.TERMINATE, Verdict(EndClass.USER, 137, None, "enough")),
        (Evidence(137, timed_out=True), Halt.TERMINATE, Verdict(EndClass.USER, 137, None, "enough")),
        (Evidence(), Halt.TERMINATE, Verdict(EndClass.USER, None, None, "enough")),
        (Evidence(143), Halt.INTERRUPT, Verdict(EndClass.INTERRUPTED, 143, None, INTERRUPTED)),
        (Evidence(), Halt.INTERRUPT, Verdict(EndClass.INTERRUPTED, None, None, INTERRUPTED)),
        (Evidence(start_error=NO_FILE), Halt.INTERRUPT, Verdict(EndClass.INTERRUPTED, None, None, INTERRUPTED)),
        (Evidence(0), Halt.INTERRUPT, Verdict(EndClass.SUCCESS, 0, None, EXITED)),  # it was done before it was stopped
        (Evidence(143, timed_out=True), Halt.INTERRUPT, Verdict(EndClass.TIMEOUT, 143, None, TIMED_OUT)),
    ],
)
def test_classify(evidence: Evidence, halt: Halt, verdict: Verdict) -> None:
    assert classify(evidence, halt, "enough") == verdict


@pytest.mark.parametrize("evidence", [Evidence(0), Evidence(3), Evidence(143, timed_out=True)])
def test_a_capped_log_is_said_of_any_end(evidence: Evidence) -> None:
    verdict = classify(evidence, Halt.NONE, None)
    assert not verdict.truncated
    assert classify(replace(evidence, truncated=True), Halt.NONE, None) == replace(verdict, truncated=True)


def test_a_termination_without_a_reason() -> None:
    assert classify(Evidence(143), Halt.TERMINATE, None).status_reason == "Terminated"
