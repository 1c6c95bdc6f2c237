"""From a queue as it is written to the queue that the engine knows, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flowbatch.model.jobspec import Queue
from flowbatch.model.queues import FairShare, TimeLimit
from flowbatch.spec.findings import Findings
from flowbatch.spec.positions import Path
from flowbatch.spec.queue_schema import ENVIRONMENTS_MAX, FairShareModel, LimitModel, OrderModel, QueueModel

_TWICE: Final = (
    ("share_decay", "share_decay_seconds", "shareDecaySeconds"),
    ("compute_reservation", "aws_reservation", "computeReservation"),
    ("shares", "share_distribution", "shareDistribution"),
)


def queue_of(name: str, model: QueueModel, environments: Iterable[str]) -> Queue:
    """`environments` are all there are, for a queue that names none."""
    named = model.environments
    if named is None and model.environment_order is not None:
        named = [each.environment for each in sorted(model.environment_order, key=lambda each: each.order)]
    policy = model.policy if model.policy is not None else model.fairshare_policy
    return Queue(
        name=name,
        priority=model.priority,
        environments=tuple(dict.fromkeys(environments if named is None else named)),
        enabled=model.state is not False,
        max_running=model.max_running,
        title=name,
        policy=None if policy is None else policy_of(policy),
        limits=tuple(map(limit_of, model.limits if model.limits is not None else model.time_limits or ())),
    )


def policy_of(model: FairShareModel) -> FairShare:
    decay_ms = model.share_decay
    if decay_ms is None:
        decay_ms = (model.share_decay_seconds or 0) * 1000
    reservation = model.compute_reservation if model.compute_reservation is not None else model.aws_reservation
    weights = tuple((model.shares or {}).items())
    if model.shares is None:
        weights = tuple((each.share_identifier, each.weight_factor) for each in model.share_distribution or ())
    return FairShare(decay_ms, reservation or 0, weights)


def limit_of(model: LimitModel) -> TimeLimit:
    max_ms = model.max_time if model.max_time is not None else (model.max_time_seconds or 0) * 1000
    return TimeLimit(model.reason, max_ms)


def judge_queue(name: str, queue: QueueModel, known: Iterable[str], findings: Findings) -> None:
    """`known` are the names of environments that it may give."""
    path: Path = ("queues", name)
    names = list(known)
    if queue.environments is not None:
        judge_environments(queue.environments, (*path, "environments"), (), names, findings)
    if queue.environment_order is not None:
        judge_order(queue.environment_order, (*path, "computeEnvironmentOrder"), names, findings)
    for first, second, alias in (
        ("environments", "environment_order", "computeEnvironmentOrder"),
        ("policy", "fairshare_policy", "fairsharePolicy"),
        ("limits", "time_limits", "jobStateTimeLimitActions"),
    ):
        if getattr(queue, first) is not None and getattr(queue, second) is not None:
            findings.problem((*path, alias), f"says the same as {first!r}; give one of them", at_key=True)
    for model, key in ((queue.policy, "policy"), (queue.fairshare_policy, "fairsharePolicy")):
        if model is not None:
            judge_policy(model, (*path, key), findings)
    judge_limits(queue.limits or (), (*path, "limits"), findings)
    judge_limits(queue.time_limits or (), (*path, "jobStateTimeLimitActions"), findings)


def judge_environments(given: list[str], path: Path, within: Path, known: list[str], findings: Findings) -> None:
    """`within` an entry, where its name stands."""
    if not given:
        findings.problem(path, "is empty; name an environment, or leave the key out to use all")
    for index, environment in enumerate(given):
        if environment not in known:
            findings.unknown((*path, index, *within), "environment", environment, known)
    if len(given) > ENVIRONMENTS_MAX:
        findings.problem(
            (*path, ENVIRONMENTS_MAX),
            f"a queue has at most {ENVIRONMENTS_MAX} environments, tried in order, and this one has {len(given)}",
        )


def judge_order(order: list[OrderModel], path: Path, known: list[str], findings: Findings) -> None:
    judge_environments([each.environment for each in order], path, ("computeEnvironment",), known, findings)
    places: dict[int, int] = {}
    for index, each in enumerate(order):
        first = places.setdefault(each.order, index)
        if first != index:
            findings.problem(
                (*path, index, "order"), f"{each.order} is the place of {order[first].environment} already"
            )


def judge_policy(model: FairShareModel, path: Path, findings: Findings) -> None:
    for first, second, alias in _TWICE:
        if getattr(model, first) is not None and getattr(model, second) is not None:
            findings.problem((*path, alias), f"says the same as {first!r}; give one of them", at_key=True)
    entries: list[tuple[str, Path]] = [(entry, (*path, "shares", entry)) for entry in model.shares or ()]
    for index, each in enumerate(model.share_distribution or ()):
        entries.append((each.share_identifier, (*path, "shareDistribution", index, "shareIdentifier")))
    for at, (entry, where) in enumerate(entries):
        for other, _ in entries[:at]:
            if overlap(entry, other):
                text = f"{entry} and {other} overlap: a share would have two weights; AWS refuses this too"
                findings.problem(where, text, at_key=where[-2] == "shares")
                break


def overlap(one: str, other: str) -> bool:
    """Some share would be meant by both."""
    head, its_head = one.rstrip("*"), other.rstrip("*")
    if one.endswith("*") and other.endswith("*"):
        return head.startswith(its_head) or its_head.startswith(head)
    if one.endswith("*"):
        return other.startswith(head)
    return one.startswith(its_head) if other.endswith("*") else one == other


def judge_limits(limits: Iterable[LimitModel], path: Path, findings: Findings) -> None:
    seen: set[str] = set()
    for index, limit in enumerate(limits):
        at: Path = (*path, index)
        if (limit.max_time is None) == (limit.max_time_seconds is None):
            given = (
                "twice: give one of `max_time` and `maxTimeSeconds`" if limit.max_time else "not given: max_time: 30m"
            )
            findings.problem(at, f"how long it may be is {given}")
        if limit.reason in seen:
            findings.problem((*at, "reason"), f"{limit.reason} has a limit already")
        seen.add(limit.reason)
