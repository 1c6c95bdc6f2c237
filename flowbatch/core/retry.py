"""Again, or give up? AWS Batch's retryStrategy (aws-batch.md §4), with backoff, growing memory and free losses.

Rules are looked at in order and the first match wins; no match means retry, until the attempts are used up. Timeouts,
cancelled and terminated jobs are never retried. An attempt that was interrupted, or lost with the host while free losses
are left, does not count.
"""

from __future__ import annotations

from msgspec import Struct

from flowbatch.model.ending import EndClass, Verdict
from flowbatch.model.jobspec import Action, RetryPolicy, Rule


class Again(Struct, frozen=True):
    delay_ms: int = 0
    memory_factor: float = 1.0
    counts: bool = True  # False: the attempt is not charged
    free_loss: bool = False


class GiveUp(Struct, frozen=True):
    pass


Decision = Again | GiveUp
GIVE_UP = GiveUp()


def decide(policy: RetryPolicy, verdict: Verdict, tries: int, losses: int) -> Decision:
    """`tries`: attempts charged so far, this one included. `losses`: free losses used before this one."""
    match verdict.end:
        case EndClass.SUCCESS | EndClass.USER | EndClass.TIMEOUT:
            return GIVE_UP
        case EndClass.INTERRUPTED:
            return Again(counts=False)
        case EndClass.INFRA if losses < policy.lost_free:
            return Again(counts=False, free_loss=True)
        case _:
            pass
    if tries >= policy.attempts:
        return GIVE_UP
    rule = next((rule for rule in policy.rules if matches(rule, verdict)), None)
    if rule is not None and rule.action is Action.EXIT:
        return GIVE_UP
    factor = rule.memory_factor if rule is not None and rule.memory_factor is not None else 1.0
    return Again(delay_ms=backoff_ms(policy, tries), memory_factor=factor)


def backoff_ms(policy: RetryPolicy, tries: int) -> int:
    """Doubles from the first to the last."""
    return min(policy.backoff_first_ms << min(tries - 1, 30), policy.backoff_last_ms)


def matches(rule: Rule, verdict: Verdict) -> bool:
    """All given conditions must match. A missing value is matched by a bare `*` alone."""
    exit_code = None if verdict.exit_code is None else str(verdict.exit_code)
    return (
        fits(rule.exit_code, exit_code)
        and fits(rule.reason, verdict.reason)
        and fits(rule.status_reason, verdict.status_reason)
    )


def fits(pattern: str | None, value: str | None) -> bool:
    """AWS's patterns: the whole text, or a prefix when the last character is `*`. Case matters."""
    if pattern is None or pattern == "*":
        return True
    if value is None:
        return False
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern
