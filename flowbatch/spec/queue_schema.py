"""Queues of a workflow file or of the settings, with AWS's spellings beside the short ones."""

import math
import re
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from flowbatch.model.queues import DECAY_MS_MAX, IDENTIFIER, LIMITABLE, RESERVATION_MAX, WEIGHT_ONE
from flowbatch.spec.quantities import duration_ms
from flowbatch.spec.scalars import shown
from flowbatch.spec.schema_parts import Strict
from flowbatch.spec.values import DurationMs, Listed, Name, name_of

ENVIRONMENTS_MAX: Final = 3  # computeEnvironmentOrder (aws-batch.md §9.1)
LIMIT_MS: Final = (600_000, 86_400_000)  # maxTimeSeconds, least and most (§9.5)
_SHARE: Final = re.compile(IDENTIFIER, re.ASCII)
_ENTRY: Final = re.compile(r"[A-Za-z0-9]{0,254}\*", re.ASCII)


def _state(value: object) -> bool:
    if isinstance(value, str) and value.upper() in ("ENABLED", "DISABLED"):
        return value.upper() == "ENABLED"
    raise ValueError(f"must be enabled or disabled, found {shown(value)}")


def _share(value: object) -> str:
    if not isinstance(value, str) or not _SHARE.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a share; shares have 1 to 255 letters and digits, nothing else")
    return value


def _entry(value: object) -> str:
    if isinstance(value, str) and (_SHARE.fullmatch(value) or _ENTRY.fullmatch(value)):
        return value
    raise ValueError(f"{shown(value)} is not a share; 1 to 255 letters and digits, with a `*` at the end for any rest")


def _weight(value: object) -> int:
    """In ten-thousandths."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"a weight is a number, found {shown(value)}")
    weight = round(Decimal(repr(value)) * WEIGHT_ONE)
    if not 1 <= weight <= 9_999_999:
        raise ValueError(
            f"a weight lies between 0.0001 and 999.9999, found {shown(value)}; 1 is normal, lower gets more"
        )
    return weight


def _decay(value: object) -> int:
    """0 is allowed, and means the shortest window."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 0:
        return 0
    milliseconds = duration_ms(value)
    if milliseconds > DECAY_MS_MAX:
        raise ValueError(f"at most 7 days (168h) can be looked back, found {shown(value)}")
    return milliseconds


def _max_time(value: object) -> int:
    milliseconds = duration_ms(value)
    if not LIMIT_MS[0] <= milliseconds <= LIMIT_MS[1]:
        raise ValueError(f"a limit lies between 10m and 24h, found {shown(value)}")
    return milliseconds


def _reason(value: object) -> str:
    if value not in LIMITABLE:
        raise ValueError(f"must be one of {', '.join(LIMITABLE)}; found {shown(value)}")
    return str(value)


State = Annotated[
    bool, PlainValidator(_state, json_schema_input_type=Literal["enabled", "disabled", "ENABLED", "DISABLED"])
]
ShareName = Annotated[
    str, PlainValidator(_share), WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9]{1,255}$"})
]
ShareEntry = Annotated[
    str, PlainValidator(_entry), WithJsonSchema({"type": "string", "pattern": r"^[A-Za-z0-9]{0,254}[A-Za-z0-9*]$"})
]
Weight = Annotated[
    int, PlainValidator(_weight), WithJsonSchema({"type": "number", "minimum": 0.0001, "maximum": 999.9999})
]
Decay = Annotated[int, PlainValidator(_decay, json_schema_input_type=DurationMs | Literal[0])]
MaxTime = Annotated[int, PlainValidator(_max_time, json_schema_input_type=DurationMs)]
Reason = Annotated[str, PlainValidator(_reason), WithJsonSchema({"type": "string", "enum": list(LIMITABLE)})]


class AwsShareModel(Strict):
    """An entry of shareDistribution."""

    share_identifier: ShareEntry = Field(alias="shareIdentifier", description="A share, or a prefix with a `*`.")
    weight_factor: Weight = Field(WEIGHT_ONE, alias="weightFactor", description="1 unless given; lower gets more.")


class FairShareModel(Strict):
    """How shares divide a queue; {} divides it evenly."""

    share_decay: Decay | None = Field(None, description="How long usage counts, up to 168h; ten minutes unless given.")
    compute_reservation: int | None = Field(
        None, ge=0, le=RESERVATION_MAX, description="Per cent of the vCPUs kept for shares that are not active yet."
    )
    shares: dict[ShareEntry, Weight] | None = Field(
        None, description="Weights, 1 for who is not named; lower gets more: {alice: 1, 'team*': 0.5}."
    )

    share_decay_seconds: int | None = Field(
        None, alias="shareDecaySeconds", ge=0, le=DECAY_MS_MAX // 1000, description="AWS's `share_decay`."
    )
    aws_reservation: int | None = Field(
        None, alias="computeReservation", ge=0, le=RESERVATION_MAX, description="AWS's `compute_reservation`."
    )
    share_distribution: list[AwsShareModel] | None = Field(
        None,
        alias="shareDistribution",
        max_length=500,
        description="AWS's `shares`: [{shareIdentifier, weightFactor}].",
    )


class LimitModel(Strict):
    """What becomes of a job that is blocked at the head of its queue."""

    reason: Reason = Field(description="Why it is blocked.")
    max_time: MaxTime | None = Field(None, description="How long it may be: 10m to 24h.")
    action: Literal["CANCEL"] = Field("CANCEL", description="CANCEL, which is all there is.")
    state: Literal["RUNNABLE"] = Field("RUNNABLE", description="RUNNABLE, which is all there is.")

    max_time_seconds: int | None = Field(
        None, alias="maxTimeSeconds", ge=LIMIT_MS[0] // 1000, le=LIMIT_MS[1] // 1000, description="AWS's `max_time`."
    )


def _environment(value: object) -> str:
    """A name, or AWS's ARN of it."""
    if isinstance(value, str) and value.startswith("arn:") and ":compute-environment/" in value:
        value = value.rpartition("/")[2]
    return name_of(value)


class OrderModel(Strict):
    """An entry of computeEnvironmentOrder."""

    order: int = Field(ge=0, description="The lowest is tried first.")
    environment: Annotated[str, PlainValidator(_environment, json_schema_input_type=str)] = Field(
        alias="computeEnvironment", description="An environment, by its name or its ARN."
    )


class QueueModel(Strict):
    """A job queue over environments, which are tried in order."""

    priority: int = Field(1, ge=0, le=1_000_000, description="A higher one is served first.")
    environments: Listed[Name] | None = Field(
        None, description="Up to three, tried in this order; all of the file's unless given."
    )
    state: State | None = Field(None, description="disabled: it takes no jobs; those it has go on to their end.")
    max_running: int | None = Field(None, ge=1, description="At most so many attempts of it run at once.")
    policy: FairShareModel | None = Field(
        None, description="Divides it among shares: each job then gives its `share`. Without it, jobs go by age."
    )
    limits: list[LimitModel] | None = Field(
        None, description="Cancels jobs that are blocked at its head: [{reason: …, max_time: 30m}]."
    )

    environment_order: list[OrderModel] | None = Field(
        None,
        alias="computeEnvironmentOrder",
        description="AWS's spelling of `environments`: [{order: 1, computeEnvironment: farm}].",
    )
    fairshare_policy: FairShareModel | None = Field(None, alias="fairsharePolicy", description="AWS's `policy`.")
    time_limits: list[LimitModel] | None = Field(
        None, alias="jobStateTimeLimitActions", description="AWS's spelling of `limits`."
    )
