"""Plans as JSON: stored once with their run or job, read back at the start of a life.

Every field is written, defaults too: a plan is pinned, and a later version's defaults must not change it. Readers raise ValueError
where a text is not what they read.
"""

from __future__ import annotations

from msgspec import json
from msgspec.structs import replace

from flowbatch.model.jobspec import Environment, JobPlan, Queue, RunPlan
from flowbatch.model.queues import FairShare


def place_json(place: Environment | Queue) -> str:
    return json.encode(place).decode()


def environment(text: str) -> Environment:
    return json.decode(text, type=Environment)


def queue(text: str) -> Queue:
    return json.decode(text, type=Queue)


def policy_json(policy: FairShare) -> str:
    return json.encode(policy).decode()


def policy(text: str) -> FairShare:
    return json.decode(text, type=FairShare)


def job_json(plan: JobPlan) -> str:
    return json.encode(plan).decode()


def job_plan(text: str) -> JobPlan:
    return json.decode(text, type=JobPlan)


def run_json(plan: RunPlan) -> str:
    """Without its jobs, which have rows of their own, and its source, which has a column."""
    return json.encode(replace(plan, jobs=(), source="")).decode()


def run_plan(text: str) -> RunPlan:
    return json.decode(text, type=RunPlan)
