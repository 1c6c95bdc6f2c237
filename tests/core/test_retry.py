"""Again, or give up: aws-batch.md §4."""

from __future__ import annotations

import pytest

from flowbatch.core.ending import EXITED, FAILED_TO_START, HOST_LOST, OUT_OF_MEMORY
from flowbatch.core.retry import GIVE_UP, Again, Decision, backoff_ms, decide, fits
from flowbatch.model.ending import EndClass, Verdict
from flowbatch.model.jobspec import Action, RetryPolicy, Rule

APP = Verdict(EndClass.APP, 1, None, EXITED)
OOM = Verdict(EndClass.APP, 137, OUT_OF_MEMORY, EXITED)
START = Verdict(EndClass.START, None, "CannotPullContainerError: no such image", FAILED_TO_START)
LOST = Verdict(EndClass.INFRA, None, None, HOST_LOST)
EXIT, RETRY = Action.EXIT, Action.RETRY


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        (None, None, True),
        ("*", None, True),  # the documented catch-all: ordinary exits have no reason
        ("*", "x", True),
        ("Host EC2*", "Host EC2 (flowbatch) terminated.", True),
        ("Host EC2*", None, False),
        ("host ec2*", "Host EC2 (flowbatch) terminated.", False),
        ("1*", "137", True),
        ("1", "137", False),
        ("137", "137", True),
        ("1*7", "137", False),  # no glob: a star is special at the end alone
        ("1*7", "1*7", True),
        ("", "", True),
    ],
)
def test_patterns_are_whole_or_a_prefix(pattern: str | None, value: str | None, matches: bool) -> None:
    assert fits(pattern, value) == matches


@pytest.mark.parametrize("end", [EndClass.SUCCESS, EndClass.USER, EndClass.TIMEOUT])
def test_what_is_never_retried(end: EndClass) -> None:
    assert decide(RetryPolicy(10), Verdict(end, 1, None, ""), 1, 0) == GIVE_UP


@pytest.mark.parametrize(
    ("rules", "verdict", "again"),
    [
        ((), APP, True),
        ((Rule(EXIT, reason="*"),), APP, False),
        ((Rule(RETRY, status_reason="Host EC2*"), Rule(EXIT, reason="*")), LOST, True),
        ((Rule(RETRY, status_reason="Host EC2*"), Rule(EXIT, reason="*")), APP, False),
        ((Rule(EXIT, exit_code="2"),), APP, True),  # no match means retry
        ((Rule(EXIT, exit_code="1"), Rule(RETRY, exit_code="1")), APP, False),  # the first match wins
        ((Rule(EXIT, exit_code="1", reason="Out*"),), APP, True),  # all conditions of a rule
        ((Rule(EXIT, exit_code="*"),), START, False),  # a missing code is matched by a bare star
        ((Rule(EXIT, exit_code="1*"),), START, True),
        ((Rule(EXIT, reason="CannotPull*"),), START, False),
        ((Rule(EXIT, status_reason="Task failed to start"),), START, False),
    ],
)
def test_rules(rules: tuple[Rule, ...], verdict: Verdict, again: bool) -> None:
    assert (decide(RetryPolicy(3, rules=rules), verdict, 1, 0) != GIVE_UP) == again


@pytest.mark.parametrize(
    ("attempts", "tries", "decision"), [(1, 1, GIVE_UP), (2, 1, Again()), (2, 2, GIVE_UP), (2, 3, GIVE_UP)]
)
def test_attempts_are_a_total(attempts: int, tries: int, decision: Decision) -> None:
    assert decide(RetryPolicy(attempts, rules=(Rule(RETRY, reason="*"),)), APP, tries, 0) == decision


def test_an_interruption_is_free_whatever_the_rules_say() -> None:
    policy = RetryPolicy(1, 10, 10, (Rule(EXIT, reason="*"),))
    assert decide(policy, Verdict(EndClass.INTERRUPTED, 143, None, ""), 1, 0) == Again(counts=False)


@pytest.mark.parametrize(
    ("losses", "decision"),
    [(0, Again(counts=False, free_loss=True)), (1, Again(counts=False, free_loss=True)), (2, GIVE_UP)],
)
def test_free_losses(losses: int, decision: Decision) -> None:
    assert decide(RetryPolicy(1, lost_free=2), LOST, 1, losses) == decision


def test_a_rule_may_grow_the_memory() -> None:
    policy = RetryPolicy(3, 100, 400, (Rule(RETRY, reason="OutOfMemory*", memory_factor=2.0),))
    assert decide(policy, OOM, 2, 0) == Again(delay_ms=200, memory_factor=2.0)
    assert decide(policy, APP, 2, 0) == Again(delay_ms=200)


def test_backoff_doubles_from_the_first_to_the_last() -> None:
    policy = RetryPolicy(10, 10_000, 300_000)
    assert [backoff_ms(policy, tries) // 1000 for tries in range(1, 9)] == [10, 20, 40, 80, 160, 300, 300, 300]
    assert backoff_ms(RetryPolicy(), 5) == 0
    assert backoff_ms(policy, 5_000) == 300_000
