"""SubmitJob (aws-batch.md §3, §6.3, §14)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from msgspec.structs import replace
from pydantic import Field

from flowbatch.http.calls import Answer, Call, context_of_request
from flowbatch.http.effective import contexts_of_spec
from flowbatch.http.failures import ClientFailure
from flowbatch.http.files import secret_arn
from flowbatch.http.operations.identifiers import job_name
from flowbatch.http.operations.shapes import JobName, Shape, Tags, read
from flowbatch.http.policies import Target
from flowbatch.http.signature import signature_in
from flowbatch.model.definition import DefinitionRow
from flowbatch.model.ids import JobId, uuid_text
from flowbatch.model.jobspec import JobPlan, JobSpec, Need
from flowbatch.model.queues import IDENTIFIER
from flowbatch.model.rows import EndedJob
from flowbatch.model.stimuli import SubmitJob
from flowbatch.spec.strict import job_objection
from flowbatch.spec.submitting import SUBMIT_SIZE_MAX, SubmissionRefused

DEPENDENCIES_MAX: Final = 20
ARRAY_MAX: Final = 10_000
LOOKS_MAX: Final = 5  # at the store, for needed jobs that end meanwhile


class Dependency(Shape):
    jobId: str | None = None
    type: Literal["N_TO_N", "SEQUENTIAL"] | None = None


class Pair(Shape):
    name: Annotated[str, Field(min_length=1)]
    value: str = ""


class Resource(Shape):
    type: Literal["VCPU", "MEMORY", "GPU"]
    value: str


class Overrides(Shape):
    command: list[Annotated[str, Field(min_length=1)]] | None = None
    environment: list[Pair] | None = None
    resourceRequirements: list[Resource] | None = None
    vcpus: int | None = None
    memory: int | None = None
    instanceType: str | None = None


class ArrayProperties(Shape):
    size: int | None = None


class Timeout(Shape):
    attemptDurationSeconds: int | None = None


class SubmitJobInput(Shape):
    """What the layers of a definition check for themselves is any object here."""

    jobName: JobName
    jobQueue: Annotated[str, Field(min_length=1)]
    jobDefinition: Annotated[str, Field(min_length=1)]
    shareIdentifier: Annotated[str, Field(pattern=f"^{IDENTIFIER}$")] | None = None
    schedulingPriorityOverride: Annotated[int, Field(ge=0, le=9999)] | None = None
    arrayProperties: ArrayProperties | None = None
    dependsOn: list[Dependency] | None = None
    parameters: dict[str, str] | None = None
    containerOverrides: Overrides | None = None
    nodeOverrides: dict[str, Any] | None = None
    retryStrategy: dict[str, Any] | None = None
    propagateTags: bool | None = None
    timeout: Timeout | None = None
    tags: Tags | None = None
    eksPropertiesOverride: dict[str, Any] | None = None
    ecsPropertiesOverride: dict[str, Any] | None = None
    consumableResourcePropertiesOverride: dict[str, Any] | None = None


NOT_HERE: Final = {
    "eksPropertiesOverride": "the job definition has no eksProperties: leave eksPropertiesOverride out",
}


async def submit_job(call: Call) -> Answer:
    given = read(SubmitJobInput, call.given)
    service = call.service
    queue = service.account.name_of("job-queue", given.jobQueue)
    row = service.revision(given.jobDefinition)
    spec = effective(call, given, row, queue)
    allow(call, given, row, spec, queue)
    if not service.active(row):
        raise ClientFailure(f"Job definition {row.id} is INACTIVE: it was deregistered")
    for name, said in NOT_HERE.items():
        if getattr(given, name):
            raise ClientFailure(said)
    needs, sequential = needs_of(call, given)
    size = None if given.arrayProperties is None else given.arrayProperties.size
    spec = replace(
        spec, key=given.jobName, queue=queue, size=size, needs=needs, sequential=sequential, share=given.shareIdentifier
    )
    judge(service.limits.strict, spec)
    if len(service.state.jobs) >= service.limits.jobs_open:
        raise ClientFailure(f"{service.limits.jobs_open} jobs are open: none is taken before some have ended")
    job = job_id(call)
    await service.submitting.enter(job)  # the same request may be sent again while the first is on its way
    try:
        if job not in service.state.jobs and not service.reader.has_job(job):
            await submit(call, JobPlan(job, spec))
    finally:
        service.submitting.leave(job)
    return {"jobArn": service.account.arn("job", job), "jobName": given.jobName, "jobId": job}


def effective(call: Call, given: SubmitJobInput, row: DefinitionRow, queue: str) -> JobSpec:
    """With the overrides: what is authorised is what would run."""
    reserved = [
        pair.name
        for pair in (given.containerOverrides.environment or () if given.containerOverrides is not None else ())
        if pair.name.startswith("AWS_BATCH")
    ]
    if reserved:
        raise ClientFailure(
            f"containerOverrides.environment: {reserved[0]}: names that begin with AWS_BATCH are reserved"
        )
    service = call.service
    try:
        return service.effective(row, call.given, queue, call.principal.name)
    except SubmissionRefused as error:
        raise ClientFailure(str(error)) from None


def allow(call: Call, given: SubmitJobInput, row: DefinitionRow, spec: JobSpec, queue: str) -> None:
    """On the queue and on the definition, whose revision is known before anybody is asked (security.md §1). Raises AccessDenied."""
    account, tags = call.service.account, given.tags or {}
    said: dict[str, Sequence[str]] = dict(context_of_request(tags))
    if given.shareIdentifier is not None:
        said["batch:shareidentifier"] = (given.shareIdentifier,)
    targets: list[Target] = []
    for container in contexts_of_spec(spec):
        context = {**said, **container}
        of_queue = call.target(account.arn("job-queue", queue), {**context, **call.tags_of("job-queue", queue, dict)})
        revision = {**context, **call.tags_of("job-definition", row.id, lambda: dict(row.tags))}
        of_definition = call.target(account.arn("job-definition", row.id), revision)
        targets += [of_queue, of_definition]
    with_revision = ":" in given.jobDefinition.rpartition("/")[2]
    if with_revision or not call.tries(*targets):
        if not with_revision:
            targets[1::2] = [as_named(call, each, row) for each in targets[1::2]]
        call.allow(*targets)
    for name in call.service.secrets_of(row):
        call.also("secretsmanager:GetSecretValue", call.target(secret_arn(account, name)))
    if tags:
        call.also("batch:TagResource", call.target(account.arn("job", "*"), context_of_request(tags)))


def as_named(call: Call, revision: Target, row: DefinitionRow) -> Target:
    """Who left the revision out may be allowed by the definition's name, as in AWS; what denies the revision still does."""
    decision = call.principal.may(call.action, (revision,))
    if decision.allowed or decision.statement is not None:
        return revision
    name = Target(call.service.account.arn("job-definition", row.name), revision.context)
    return name if call.allows(name) else revision


def needs_of(call: Call, given: SubmitJobInput) -> tuple[tuple[Need, ...], bool]:
    """And whether the array is sequential. Raises ClientFailure (aws-batch.md §3.1)."""
    entries = given.dependsOn or []
    if len(entries) > DEPENDENCIES_MAX and call.service.limits.strict:
        raise ClientFailure(f"Job cannot have more than {DEPENDENCIES_MAX} dependencies")
    needs: dict[tuple[str, int | None], Need] = {}
    sequential = False
    array = given.arrayProperties is not None and given.arrayProperties.size is not None
    for at, entry in enumerate(entries):
        place = f"dependsOn[{at}]"
        if entry.type == "SEQUENTIAL":
            if entry.jobId is not None:
                raise ClientFailure(
                    f"{place}: SEQUENTIAL is about the array itself: leave jobId out, or leave type out"
                )
            if not array:
                raise ClientFailure(f"{place}: SEQUENTIAL needs an array job: give arrayProperties")
            sequential = True
            continue
        if entry.jobId is None:
            raise ClientFailure(f"{place}: jobId is needed")
        name = job_name(call.service.account, entry.jobId)
        if name.node is not None:
            raise ClientFailure(f"{place}: a node of a job cannot be needed; name the job")
        each = entry.type == "N_TO_N"
        if each and (not array or name.index is not None):
            raise ClientFailure(f"{place}: N_TO_N needs two array jobs of the same size")
        needs[name.job, name.index] = Need(name.job, each=each, index=name.index)
    return tuple(needs.values()), sequential


def judge(strict: bool, spec: JobSpec) -> None:
    if spec.size is not None and not (2 if strict else 0) <= spec.size <= ARRAY_MAX:
        raise ClientFailure(f"Array size must be between {2 if strict else 0} and {ARRAY_MAX}, and {spec.size} is not")
    objection = job_objection(spec) if strict else None
    if objection is not None:
        raise ClientFailure(objection)


def job_id(call: Call) -> JobId:
    """Of a repeated request the same one: by the SDK's invocation, else by the signature (semantics.md 38). It outlives us."""
    headers = call.request.headers
    said = headers.get("amz-sdk-invocation-id") or signature_in(headers)
    if not said:
        return JobId(uuid_text(os.urandom(16)))
    seed = f"job|{call.principal.key_id}|{said}|{call.request.digest}"
    keyed = call.service.keyed.copy()
    keyed.update(seed.encode())
    return JobId(uuid_text(keyed.digest()[:16]))


async def submit(call: Call, plan: JobPlan) -> None:
    """Raises ClientFailure. Needed jobs that are not open are looked for in the store; nobody learns of one that is not theirs."""
    ended: dict[str, EndedJob] = {}
    for need in plan.spec.needs:
        if not visible(call, need.job):
            raise ClientFailure(f"Job {need.job} not found")
    for _ in range(LOOKS_MAX):
        known = tuple(ended.values())
        value = await call.ask(lambda ticket: SubmitJob(ticket, plan, known))  # noqa: B023 (asked before the next round)
        if "absent" not in value:
            return
        for absent in value["absent"]:
            found = call.service.reader.ended_job(absent)
            if found is None and JobId(absent) not in call.service.state.jobs:
                raise ClientFailure(f"Job {absent} not found")
            if found is not None:
                ended[absent] = found
    raise ClientFailure("The needed jobs changed too often; try again")


def visible(call: Call, job: JobId) -> bool:
    tags = call.tags_of("job", job, lambda: job_tags(call, job))
    return call.allows(call.target(call.service.account.arn("job", job), tags), "batch:DescribeJobs")


def job_tags(call: Call, job: JobId) -> dict[str, str]:
    held = call.service.state.jobs.get(job)
    if held is not None:
        return dict(held.spec.tags)
    stored = call.service.reader.job(job)
    return {} if stored is None else dict(call.service.spec(stored).tags)


__all__ = ["SUBMIT_SIZE_MAX", "submit_job"]
