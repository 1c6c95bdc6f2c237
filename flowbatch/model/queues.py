"""What a job queue says beside its priority: how shares divide it, why a job is blocked, and for how long it may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

WEIGHT_ONE: Final = 10_000  # weightFactor 1.0: weights are in ten-thousandths, as 0.0001 is the least there is
DECAY_MS_MAX: Final = 604_800_000
RESERVATION_MAX: Final = 99
IDENTIFIER: Final = "[A-Za-z0-9]{1,255}"  # shareIdentifier


class FairShare(Struct, frozen=True):
    """fairsharePolicy (aws-batch.md §9.4). A share that no entry names has weight 1.0."""

    decay_ms: int = 0  # shareDecaySeconds; below ten minutes it means ten minutes
    reservation: int = 0  # computeReservation, per cent
    weights: tuple[tuple[str, int], ...] = ()  # identifier, or prefix with a `*`, → weightFactor in ten-thousandths


# aws-batch.md §9.6, word for word: what stands before the dash is the `reason` of a time limit.
INSUFFICIENT_CAPACITY: Final = (
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for instance type "
    "[flowbatch.local]"
)
MAX_RESOURCE: Final = (
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue cannot meet the CPU "
    "requirement of the job."
)
JOB_REQUIREMENT: Final = (
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is higher than that can "
    "be met by the CE(s) attached to the job queue."
)
INVALID: Final = "ACTION_REQUIRED - CE(s) associated with the job queue are invalid."
UNDETERMINED: Final = "UNDETERMINED - Batch job is blocked, root cause is undetermined."
BLOCKED: Final = frozenset({INSUFFICIENT_CAPACITY, MAX_RESOURCE, JOB_REQUIREMENT, INVALID, UNDETERMINED})


def reason_code(blocked: str) -> str:
    """`MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT` of the whole sentence."""
    return blocked.partition(" - ")[0]


LIMITABLE: Final = tuple(reason_code(each) for each in (INSUFFICIENT_CAPACITY, MAX_RESOURCE, JOB_REQUIREMENT))


class TimeLimit(Struct, frozen=True):
    """An entry of jobStateTimeLimitActions (aws-batch.md §9.5): state RUNNABLE and action CANCEL are all there is."""

    reason: str  # one of LIMITABLE
    max_ms: int  # 600..86,400 s


def policy_object(policy: FairShare | None) -> dict[str, object] | None:
    """As JSON shows it: weights as people write them."""
    if policy is None:
        return None
    return {
        "share_decay_ms": policy.decay_ms,
        "compute_reservation": policy.reservation,
        "shares": {name: weight / WEIGHT_ONE for name, weight in policy.weights},
    }


def limit_objects(limits: Iterable[TimeLimit]) -> list[dict[str, object]]:
    return [{"reason": limit.reason, "max_time_ms": limit.max_ms} for limit in limits]
