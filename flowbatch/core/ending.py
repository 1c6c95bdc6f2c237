"""How an attempt ended: one pure function over the backend's evidence and our own record of having stopped it.

Sources: aws-batch.md §1.2 and §5 for the words, docker-engine.md §5 for the order of the questions. What cannot be known is
said to be lost; success is never guessed.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from flowbatch.model.ending import EndClass, Evidence, Halt, Verdict

EXITED: Final = "Essential container in task exited"
FAILED_TO_START: Final = "Task failed to start"
TIMED_OUT: Final = "Job attempt duration exceeded timeout"
OUT_OF_MEMORY: Final = "OutOfMemoryError: Container killed due to memory usage"
HOST_LOST: Final = "Host EC2 (flowbatch) terminated."
INTERRUPTED: Final = "Interrupted; does not count as an attempt"
TERMINATED: Final = "Terminated"
SUCCESS: Final = Verdict(EndClass.SUCCESS, 0, None, EXITED)


def classify(evidence: Evidence, halt: Halt, halt_reason: str | None) -> Verdict:
    """What is recorded of an end: why it came, and whether its log is whole."""
    verdict = judged(evidence, halt, halt_reason)
    return replace(verdict, truncated=True) if evidence.truncated else verdict


def judged(evidence: Evidence, halt: Halt, halt_reason: str | None) -> Verdict:
    """`halt` is the stop that we had recorded for the attempt before its end was seen.

    A stop on record decides, whatever the exit code: a program that answers SIGTERM with exit 0 was terminated all the
    same. An interruption and a reclaim let success stand, since they want nothing but that the work stops: so does AWS, where
    what ends well within the notice has ended well. The exit code of what a reclaim cut short is not on record (§1.2).
    """
    code = evidence.exit_code
    if halt is Halt.TERMINATE:
        return Verdict(EndClass.USER, code, None, halt_reason or TERMINATED)
    if halt is Halt.TIMEOUT or evidence.timed_out:
        return Verdict(EndClass.TIMEOUT, code, None, TIMED_OUT)
    if halt is Halt.RECLAIM and code != 0 and evidence.start_error is None:
        return Verdict(EndClass.INFRA, None, None, halt_reason or HOST_LOST)
    if halt is Halt.INTERRUPT and code != 0:
        return Verdict(EndClass.INTERRUPTED, code, None, INTERRUPTED)
    if evidence.start_error is not None:
        return Verdict(EndClass.START, code, evidence.start_error, FAILED_TO_START)
    if evidence.lost or code is None:
        return Verdict(EndClass.INFRA, None, evidence.detail, HOST_LOST)
    if code == 0:
        return SUCCESS if evidence.detail is None else Verdict(EndClass.SUCCESS, 0, evidence.detail, EXITED)
    if evidence.oom:
        return Verdict(EndClass.APP, code, OUT_OF_MEMORY, EXITED)
    return Verdict(EndClass.APP, code, evidence.detail, EXITED)
