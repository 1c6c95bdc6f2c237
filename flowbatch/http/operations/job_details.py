"""A stored job as AWS's JobDetail and JobSummary (aws-batch.md §1, §2, §14.5, appendix B)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from flowbatch.model.ids import AttemptKey, Millis
from flowbatch.model.jobspec import JobSpec
from flowbatch.model.resources import Resources, vcpus_exact
from flowbatch.model.status import Status
from flowbatch.spec.registering import retry_strategy
from flowbatch.store.results import AttemptView

if TYPE_CHECKING:
    from flowbatch.http.service import Service
    from flowbatch.store.pages import Listed
    from flowbatch.store.results import Described, JobView, TaskView

Json = dict[str, Any]

LISTS: Final = ("volumes", "mountPoints", "ulimits", "secrets")
STREAM_NAME_MAX: Final = 200
STATUS_NAMES: Final = tuple(status.name for status in Status)


def stream_name(definition: str, key: AttemptKey, container: str = "default") -> str:
    """Where CloudWatch Logs has the attempt's output: the last part is the attempt itself."""
    return f"{definition.partition(':')[0][:STREAM_NAME_MAX]}/{container}/{key.id}"


def task_arn(service: Service, key: AttemptKey, environment: str | None) -> str:
    account, digest = service.account, hashlib.md5(key.id.encode(), usedforsecurity=False).hexdigest()
    return f"arn:{account.partition}:ecs:{account.region}:{account.number}:task/{environment or 'default'}/{digest}"


def summary_of(counts: Mapping[Status, int]) -> dict[str, int]:
    return {status.name: counts.get(status, 0) for status in Status}


def detail(service: Service, seen: Described, index: int | None) -> Json:
    """Of a single, an array's parent, or the child `index` of one."""
    job = seen.job
    spec = service.spec(job)
    row = job.row
    account = service.account
    shown = job.id if index is None else f"{job.id}:{index}"
    tags = dict(spec.tags) if seen.tags is None else seen.tags
    found: Json = {
        "jobArn": account.arn("job", shown),
        "jobName": job.name,
        "jobId": shown,
        "jobQueue": account.arn("job-queue", spec.queue),
        "status": row.status.name,
        "attempts": [],
        "createdAt": row.created_at,
        "retryStrategy": {"evaluateOnExit": [], **retry_strategy(spec.retry)},
        "dependsOn": depends_on(spec),
        "jobDefinition": account.arn("job-definition", spec.definition) if spec.definition else "",
        "parameters": dict(spec.parameters),
        "tags": tags if index is None else {},
        "propagateTags": bool(spec.container is not None and spec.container.labels),
        "platformCapabilities": [],
        "isCancelled": row.cancelled,
        "isTerminated": row.terminated,
    }
    add_containers(service, found, spec)
    if spec.share is not None:
        found["shareIdentifier"] = spec.share
    if spec.tokens:
        arn = account.arn
        found["consumableResourceProperties"] = {
            "consumableResourceList": [
                {"consumableResource": arn("consumable-resource", name), "quantity": quantity}
                for name, quantity in spec.tokens
            ]
        }
    if spec.timeout_ms is not None:
        found["timeout"] = {"attemptDurationSeconds": spec.timeout_ms // 1000}
    if spec.priority:
        found["schedulingPriority"] = spec.priority
    if job.size is not None and index is None:
        found["arrayProperties"] = {
            "size": job.size,
            "statusSummary": summary_of(job.counts),
            "statusSummaryLastUpdatedAt": row.stopped_at or service.now(),
        }
        put(found, statusReason=row.status_reason, startedAt=row.started_at, stoppedAt=row.stopped_at)
        return found
    if index is not None:
        found["arrayProperties"] = {"index": index, "statusSummary": {}}
    add_task(service, found, job, spec, seen.task, seen.attempts)
    return found


def add_containers(service: Service, found: Json, spec: JobSpec) -> None:
    """`container`; of a multi-node job its nodeProperties instead, by which clients tell it (aws-batch.md §8.2)."""
    body = body_of(service, spec)
    if spec.members is not None and spec.members.nodes is not None:
        properties = body.get("nodeProperties")
        found["nodeProperties"] = {
            "nodeRangeProperties": [],
            **(properties if isinstance(properties, Mapping) else {}),
            "numNodes": spec.members.nodes,
            "mainNode": spec.members.main,
        }
        return
    found["container"] = container(service, spec, body)
    if spec.members is not None and isinstance(body.get("ecsProperties"), Mapping):
        found["ecsProperties"] = task_properties(body["ecsProperties"], spec)


def task_properties(stored: Mapping[str, Any], spec: JobSpec) -> Json:
    """ecsProperties of the definition, with what the submission laid over each container."""
    assert spec.members is not None
    parts = {part.name: part.spec for part in spec.members.groups[0].parts}
    tasks = []
    for task in stored.get("taskProperties", ()):
        boxes = []
        for each in task.get("containers", ()):
            made = parts.get(each.get("name", "default"))
            box = dict(each)
            if made is not None:
                box["command"] = list(made.command)
                box["environment"] = [{"name": key, "value": value} for key, value in made.env]
                box["resourceRequirements"] = requirements(made.resources)
            boxes.append(box)
        tasks.append({**task, "containers": boxes})
    return {**stored, "taskProperties": tasks}


def node(service: Service, seen: Described, number: int) -> Json | None:
    """DescribeJobs of `UUID#3`; None where there is no such node."""
    job = seen.job
    spec = service.spec(job)
    parts = [each for each in service.reader.members(job) if each.node == number]
    if spec.members is None or spec.members.nodes is None or not parts:
        return None
    found = detail(service, seen, None)
    shown = f"{job.id}#{number}"
    first = parts[0]
    group = next(each for each in spec.members.groups if each.first <= number <= each.last)
    box = container_of_part(group.parts[0].spec)
    put(box, exitCode=first.exit_code, reason=first.reason)
    if first.started_at is not None:
        box["logStreamName"] = stream_name(spec.definition or spec.key, first.key)
    for key in ("nodeProperties", "startedAt", "stoppedAt", "statusReason", "tags"):
        found.pop(key, None)
    found |= {
        "jobId": shown,
        "jobArn": service.account.arn("job", shown),
        "status": first.status.name,
        "nodeDetails": {"nodeIndex": number, "isMainNode": first.main},
        "container": box,
        "attempts": node_attempts(service, seen, spec, number),
    }
    put(found, startedAt=first.started_at, stoppedAt=first.stopped_at, statusReason=first.status_reason)
    return found


def node_attempts(service: Service, seen: Described, spec: JobSpec, number: int) -> list[Json]:
    """Those that have ended, of one node, by its first container."""
    found = []
    for tried in range(1, seen.task.attempts + 1):
        each = next(each for each in service.reader.members(seen.job, 0, tried) if each.node == number)
        if each.stopped_at is not None:
            view = AttemptView(
                each.key, seen.task.environment, each.started_at, each.stopped_at, each.exit_code, each.reason,
                each.status_reason, each.truncated,
            )  # fmt: skip
            found.append(attempt(service, spec, view))
    return found


def node_summaries(service: Service, job: JobView) -> list[Json]:
    """ListJobs of a multi-node job: one entry a node, in their order."""
    spec = service.spec(job)
    found: dict[int, Json] = {}
    for each in service.reader.members(job):
        if each.node is None or each.node in found or spec.members is None:
            continue
        shown = f"{job.id}#{each.node}"
        entry: Json = {
            "jobArn": service.account.arn("job", shown),
            "jobId": shown,
            "jobName": job.name,
            "createdAt": job.row.created_at,
            "status": each.status.name,
            "nodeProperties": {"isMainNode": each.main, "numNodes": spec.members.nodes, "nodeIndex": each.node},
        }
        put(entry, startedAt=each.started_at, stoppedAt=each.stopped_at, statusReason=each.status_reason)
        found[each.node] = entry
    return list(found.values())


def container_of_part(spec: JobSpec) -> Json:
    box: Json = {
        "command": list(spec.command),
        "environment": [{"name": key, "value": value} for key, value in spec.env],
        "resourceRequirements": requirements(spec.resources),
        "networkInterfaces": [],
        **{key: [] for key in LISTS},
    }
    if spec.container is not None:
        box["image"] = spec.container.image
    return box


def add_task(
    service: Service, found: Json, job: JobView, spec: JobSpec, task: TaskView, attempts: Sequence[AttemptView]
) -> None:
    found["status"] = task.status.name
    found["attempts"] = [attempt(service, spec, each) for each in attempts if each.stopped_at is not None]
    last = attempts[-1] if attempts else None
    reason = task.status_reason or (job.row.status_reason if task.index is None else None)
    put(found, statusReason=reason, startedAt=task.started_at, stoppedAt=task.stopped_at)
    box = found.get("container")
    if last is not None and box is not None:
        put(box, exitCode=last.exit_code, reason=last.reason)
        box["taskArn"] = task_arn(service, last.key, last.environment)
        box["containerInstanceArn"] = instance_arn(service, last.environment)
        if last.started_at is not None:
            box["logStreamName"] = stream_name(spec.definition or spec.key, last.key)


def instance_arn(service: Service, environment: str | None) -> str:
    account, place = service.account, environment or "default"
    digest = hashlib.md5(place.encode(), usedforsecurity=False).hexdigest()
    return f"arn:{account.partition}:ecs:{account.region}:{account.number}:container-instance/{place}/{digest}"


def attempt(service: Service, spec: JobSpec, each: AttemptView) -> Json:
    box: Json = {
        "containerInstanceArn": instance_arn(service, each.environment),
        "taskArn": task_arn(service, each.key, each.environment),
        "networkInterfaces": [],
    }
    put(box, exitCode=each.exit_code, reason=each.reason)
    if each.started_at is not None:
        box["logStreamName"] = stream_name(spec.definition or spec.key, each.key)
    found: Json = {"container": box, "taskProperties": []}
    put(found, startedAt=each.started_at, stoppedAt=each.stopped_at, statusReason=each.status_reason)
    return found


def body_of(service: Service, spec: JobSpec) -> Mapping[str, Any]:
    """Of the definition that the job was made from."""
    name, _, revision = spec.definition.partition(":")
    row = service.stored(name, int(revision)) if revision.isdigit() else None
    return {} if row is None else service.body(row)


def container(service: Service, spec: JobSpec, body: Mapping[str, Any]) -> Json:
    """The definition's, with what the submission laid over it; `command` before the substitution of parameters."""
    stored = body.get("containerProperties")
    box: Json = dict(stored) if isinstance(stored, Mapping) else {}
    for key in ("vcpus", "memory"):
        box.pop(key, None)
    if spec.container is not None:
        box["image"] = spec.container.image
    box["command"] = list(spec.command)
    box["environment"] = [{"name": key, "value": value} for key, value in spec.env]
    box["resourceRequirements"] = requirements(spec.resources)
    box["networkInterfaces"] = []
    for key in LISTS:
        box.setdefault(key, [])
    return box


def requirements(resources: Resources) -> list[Json]:
    found = [{"type": "VCPU", "value": vcpus_exact(resources.vcpus_milli)}]
    if resources.memory_mib:
        found.append({"type": "MEMORY", "value": str(resources.memory_mib)})
    if resources.gpus:
        found.append({"type": "GPU", "value": str(resources.gpus)})
    return found


def depends_on(spec: JobSpec) -> list[Json]:
    found: list[Json] = []
    for need in spec.needs:
        entry: Json = {"jobId": need.job if need.index is None else f"{need.job}:{need.index}"}
        if need.each:
            entry["type"] = "N_TO_N"
        found.append(entry)
    if spec.sequential:
        found.append({"type": "SEQUENTIAL"})
    return found


def summaries(service: Service, listed: Iterable[Listed], counts: Mapping[int, Mapping[Status, int]]) -> list[Json]:
    """A page of ListJobs: up to a thousand, so that nothing is done twice for each."""
    job_arn, definition_arn = service.account.arn("job", ""), service.account.arn("job-definition", "")
    return [summary(service, each, counts, job_arn, definition_arn) for each in listed]


def summary(
    service: Service, each: Listed, counts: Mapping[int, Mapping[Status, int]], job_arn: str, definition_arn: str
) -> Json:
    """The ARNs are beginnings."""
    found: Json = {
        "jobArn": job_arn + each.id,
        "jobId": each.id,
        "jobName": each.name,
        "createdAt": each.created_at,
        "status": STATUS_NAMES[each.status],
    }
    if each.definition:
        found["jobDefinition"] = definition_arn + each.definition
    if each.share:
        found["shareIdentifier"] = each.share
    reason = each.task_reason or each.status_reason or each.rest_reason
    if reason is not None:
        found["statusReason"] = reason
    if each.started_at is not None:
        found["startedAt"] = each.started_at
    if each.stopped_at is not None:
        found["stoppedAt"] = each.stopped_at
    if each.cancelled:
        found["isCancelled"] = True
    if each.terminated:
        found["isTerminated"] = True
    if each.exit_code is not None or each.reason is not None:
        box: Json = {}
        put(box, exitCode=each.exit_code, reason=each.reason)
        found["container"] = box
    if each.size is not None:
        found["arrayProperties"] = {
            "size": each.size,
            "statusSummary": summary_of(counts[each.no]),
            "statusSummaryLastUpdatedAt": each.stopped_at or service.now(),
        }
    return found


def child_summary(service: Service, job: JobView, definition: str, task: TaskView) -> Json:
    found: Json = {
        "jobArn": service.account.arn("job", task.id),
        "jobId": task.id,
        "jobName": job.name,
        "createdAt": task.created_at,
        "status": task.status.name,
        "arrayProperties": {"index": task.index},
        "jobDefinition": service.account.arn("job-definition", definition),
    }
    put(found, statusReason=task.status_reason, startedAt=task.started_at, stoppedAt=task.stopped_at)
    box: Json = {}
    put(box, exitCode=task.exit_code, reason=task.reason)
    if box:
        found["container"] = box
    return found


def put(found: Json, **values: str | int | Millis | None) -> None:
    """What is not known is left out."""
    found.update({key: value for key, value in values.items() if value is not None})
