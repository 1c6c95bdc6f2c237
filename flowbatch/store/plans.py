"""Plans as JSON: stored once with their run or job, read back at the start of a life.

Every field is written, defaults too: a plan is pinned, and a later version's defaults must not change it. Writing goes by
what the dataclasses hold and needs no schema; the adapters that read are built on first use, which a new run never comes
to (they cost more than its whole commit).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from pydantic_core import to_json

from flowbatch.model.jobspec import Environment, JobPlan, Queue, RunPlan
from flowbatch.model.queues import FairShare

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@cache
def job_adapter() -> TypeAdapter[JobPlan]:
    from pydantic import TypeAdapter

    return TypeAdapter(JobPlan)


@cache
def run_adapter() -> TypeAdapter[RunPlan]:
    from pydantic import TypeAdapter

    return TypeAdapter(RunPlan)


@cache
def environment_adapter() -> TypeAdapter[Environment]:
    from pydantic import TypeAdapter

    return TypeAdapter(Environment)


@cache
def queue_adapter() -> TypeAdapter[Queue]:
    from pydantic import TypeAdapter

    return TypeAdapter(Queue)


def place_json(place: Environment | Queue) -> str:
    return to_json(place).decode()


def environment(text: str) -> Environment:
    return environment_adapter().validate_json(text)


def queue(text: str) -> Queue:
    return queue_adapter().validate_json(text)


@cache
def policy_adapter() -> TypeAdapter[FairShare]:
    from pydantic import TypeAdapter

    return TypeAdapter(FairShare)


def policy_json(policy: FairShare) -> str:
    return to_json(policy).decode()


def policy(text: str) -> FairShare:
    return policy_adapter().validate_json(text)


def job_json(plan: JobPlan) -> str:
    return to_json(plan).decode()


def job_plan(text: str) -> JobPlan:
    return job_adapter().validate_json(text)


def run_json(plan: RunPlan) -> str:
    """Without its jobs, which have rows of their own, and its source, which has a column."""
    return to_json(replace(plan, jobs=(), source="")).decode()


def run_plan(text: str) -> RunPlan:
    return run_adapter().validate_json(text)
