"""What an event says to programs: the `detail` of aws-batch.md §11.3 for jobs, our own for the rest.

A pure function of the event, of what was pinned at submission and of VERSION: a repeat is the same to the byte. So nothing is in it
that may have changed since: `attempts` has the attempt that this event tells of and no other, `startedAt` only what the event knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flowbatch.hooks.escaping import plain
from flowbatch.model.events import EventKind, EventRow, JobFacts, LoggedEvent, kind_of
from flowbatch.model.jobspec import Action, JobSpec, title_of
from flowbatch.model.status import RunStatus, Status

VERSION: Final = 1  # of the bodies; a change of theirs is a new one
ARN: Final = "arn:aws:batch:us-east-1:000000000000"
REASON_MAX: Final = 1024  # characters
BODY_BYTES: Final = 20_000
NEEDS_MAX: Final = 20
# What goes first where a body would be too long.
DROPPED: Final = (("container", "environment"), ("container", "command"), ("parameters",), ("tags",), ("dependsOn",))

Json = dict[str, Any]
NOTHING: Final[Json] = {}
STATUS_NAMES: Final = tuple(status.name for status in Status)


def more_of(row: EventRow) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(row.detail) if row.detail is not None else {}
    return found


def arn(kind: str, name: str) -> str:
    return f"{ARN}:{kind}/{name}"


def job_id(job: JobFacts, row: EventRow) -> str:
    """AWS's: `UUID:index` of a child, `UUID#n` of a node."""
    if row.idx is None:
        return job.id
    return f"{job.id}{'#' if row.kind is EventKind.NODE else ':'}{row.idx}"


def resources(event: LoggedEvent) -> list[str]:
    if event.job is None:
        return []
    found = [arn("job", job_id(event.job, event.row))]
    if event.row.kind is EventKind.QUEUE:
        found.append(arn("job-queue", title_of(event.job.spec.queue)))
    return found


def reason_text(text: str | None) -> str | None:
    return None if text is None else plain(text, REASON_MAX)


def set_where_known(found: Json, **values: object) -> Json:
    found.update({key: value for key, value in values.items() if value is not None})
    return found


class Details:
    """Keeps what never changes of a job: thousands of events of one array share it."""

    KEPT: Final = 256

    def __init__(self) -> None:
        self._pinned: dict[str, Json] = {}

    def of(self, event: LoggedEvent) -> Json:
        row = event.row
        if row.kind is EventKind.RUN:
            return run_detail(event)
        if row.kind is EventKind.SINK:
            return {"change": kind_of(row).partition(".")[2], "reason": reason_text(row.status_reason), **more_of(row)}
        if event.job is None:
            status = Status(row.status).name
            return set_where_known({"status": status}, statusReason=reason_text(row.status_reason), index=row.idx)
        pinned, more, end = self._pinned_of(event.job), changing(event.job, row), ended(row)
        found = pinned | more
        if end:
            found["container"] = {**pinned["container"], **end}
        found["tags"] = {"resourceArn": more["jobArn"], **pinned["tags"]}
        return found

    def _pinned_of(self, job: JobFacts) -> Json:
        found = self._pinned.get(job.id)
        if found is None:
            if len(self._pinned) >= self.KEPT:
                del self._pinned[next(iter(self._pinned))]
            found = self._pinned[job.id] = pinned_detail(job)
        return found


def ended(row: EventRow) -> Json:
    """What a container's end adds."""
    if row.exit_code is None and row.reason is None:
        return NOTHING
    return set_where_known({}, exitCode=row.exit_code, reason=reason_text(row.reason))


def changing(job: JobFacts, row: EventRow) -> Json:
    """What an event says of its job that others say otherwise."""
    more = more_of(row) if row.detail is not None else NOTHING
    identity, status = job_id(job, row), row.status
    found: Json = {"jobId": identity, "jobArn": f"{ARN}:job/{identity}", "status": STATUS_NAMES[status]}
    why = reason_text(row.status_reason)
    if why is not None:
        found["statusReason"] = why
    if status == Status.RUNNING:
        found["startedAt"] = row.at
    elif "started_at" in more:
        found["startedAt"] = more["started_at"]
    if status >= Status.SUCCEEDED:
        found["stoppedAt"] = row.at
    found["attempts"] = []
    if row.attempt is not None:
        found["attempt"] = row.attempt
        if row.attempt and (status >= Status.SUCCEEDED or (status == Status.RUNNABLE and why is not None)):
            attempt: Json = {"container": ended(row), "stoppedAt": row.at}
            found["attempts"].append(attempt if why is None else {**attempt, "statusReason": why})
    if job.spec.size is not None:
        found["arrayProperties"] = array_properties(job.spec.size, row, more)
    if row.kind is EventKind.NODE:
        found["nodeProperties"] = {"nodeIndex": row.idx}
    return found


def array_properties(size: int, row: EventRow, more: Mapping[str, Any]) -> Json:
    if row.kind is EventKind.CHILD:
        return {"size": 0, "index": row.idx}
    counts = more.get("children")
    return {"size": size, "statusSummary": counts} if counts is not None else {"size": size}


def run_detail(event: LoggedEvent) -> Json:
    row = event.row
    found: Json = {"status": RunStatus(row.status).name}
    if event.run is not None:
        found |= {"runId": event.run.id, "workflow": event.run.workflow, "createdAt": event.run.created_at}
    set_where_known(found, statusReason=reason_text(row.status_reason), jobs=more_of(row).get("jobs"))
    if row.status != RunStatus.RUNNING:
        found["stoppedAt"] = row.at
    return found


def pinned_detail(job: JobFacts) -> Json:
    spec = job.spec
    found: Json = {
        "jobName": spec.key,
        "jobQueue": arn("job-queue", title_of(spec.queue)),
        "createdAt": job.created_at,
        "retryStrategy": {"attempts": spec.retry.attempts, "evaluateOnExit": [rule(spec, each) for each in range(len(spec.retry.rules))]},
        "dependsOn": [
            {"jobId": need.job, "type": "N_TO_N"} if need.each else {"jobId": need.job} for need in spec.needs[:NEEDS_MAX]
        ],
        "jobDefinition": arn("job-definition", spec.definition or spec.key),
        "parameters": dict(spec.parameters),
        "container": container(spec),
        "propagateTags": False,
        "tags": dict(spec.tags),
        "platformCapabilities": [],
    }  # fmt: skip
    if spec.timeout_ms is not None:
        found["timeout"] = {"attemptDurationSeconds": max(spec.timeout_ms // 1000, 1)}
    if spec.priority:
        found["schedulingPriority"] = spec.priority
    return found


def rule(spec: JobSpec, number: int) -> Json:
    each = spec.retry.rules[number]
    return set_where_known(
        {"action": Action(each.action).value},
        onExitCode=each.exit_code, onReason=each.reason, onStatusReason=each.status_reason,
    )  # fmt: skip


def container(spec: JobSpec) -> Json:
    """Secrets by name alone."""
    asked = [{"value": f"{spec.resources.vcpus_milli / 1000:g}", "type": "VCPU"}]
    if spec.resources.memory_mib:
        asked.append({"value": str(spec.resources.memory_mib), "type": "MEMORY"})
    if spec.resources.gpus:
        asked.append({"value": str(spec.resources.gpus), "type": "GPU"})
    found: Json = {
        "command": list(spec.command),
        "environment": [{"name": name, "value": value} for name, value in spec.env],
        "resourceRequirements": asked,
        "secrets": [{"name": name} for name, _ in spec.secrets],
        "volumes": [], "mountPoints": [], "ulimits": [], "networkInterfaces": [],
    }  # fmt: skip
    if spec.container is not None:
        found["image"] = spec.container.image
    return found


def shortened(detail: Json, encoded_bytes: int) -> Json:
    """Less of it where it would be too long; says so."""
    found = {**detail, "container": dict(detail["container"])} if "container" in detail else dict(detail)
    found["truncated"] = True
    over = encoded_bytes - BODY_BYTES + 32
    for path in DROPPED:
        holder = found
        for step in path[:-1]:
            holder = holder.get(step, {})
        value = holder.get(path[-1])
        if value and over > 0:
            over -= len(json.dumps(value, ensure_ascii=False).encode())
            holder[path[-1]] = type(value)()
    return found
