"""What the files of a watched folder may: their runs are calls of the folder's principal, judged by the policies that judge a key's
(security.md §5) and recorded as those are.

A run is allowed when every call that it comes to is: SubmitJob of each job, RegisterJobDefinition of each definition that it brings,
with the containers as they would run; the tags, environments and queues that it makes; and secretsmanager:GetSecretValue of each secret.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from flowbatch.errors import FlowbatchError, InputError
from flowbatch.http.calls import Principal, context_of_request, context_of_tags
from flowbatch.http.effective import Context, contexts_of_body, contexts_of_spec
from flowbatch.http.policies import Decision, Target, authorize
from flowbatch.model.access import AuditRow
from flowbatch.model.ids import Millis

if TYPE_CHECKING:
    from flowbatch.http.arns import Account
    from flowbatch.http.service import Service
    from flowbatch.model.jobspec import JobSpec
    from flowbatch.spec.compile import Plan

SUBMIT: Final = "flowbatch:SubmitRun"  # in the record; what is asked for are the calls that it comes to
ERROR_MAX: Final = 1024
USUAL: Final[tuple[tuple[str, Sequence[str]], ...]] = (
    ("batch:image", ()),
    ("batch:user", ()),
    ("batch:privileged", ("false",)),
    ("batch:logdriver", ("awslogs",)),
)

Ask = tuple[str, tuple[Target, ...]]  # an action, and all that it touches


class NotAllowed(InputError):
    """Says what the principal is not authorised to do."""

    def __init__(self, said: str, decision: Decision) -> None:
        super().__init__(said)
        self.decision = decision


class FolderWarden:
    """`principal`: as it is now, with the policies as they are now."""

    def __init__(self, service: Service, principal: Callable[[], Principal]) -> None:
        self._service = service
        self._principal = principal

    def allow(self, plan: Plan, name: str, content: bytes) -> AuditRow:
        """The record of the run, for the transaction that makes it. Raises NotAllowed."""
        principal = self._principal()
        deciding: Decision | None = None
        for action, targets in asks(self._service, principal, plan):
            decision = authorize(principal.policies, action, targets)
            if not decision.allowed:
                because = decision.because.replace("allows it", f"allows the {action} action")
                raise NotAllowed(
                    f"User: {principal.arn} is not authorized to perform: {action} on resource: {decision.resource} {because}; "
                    "the folder's principal and policies are in flowbatch.yaml (`serve: folders:`)",
                    decision,
                )
            deciding = deciding or decision
        assert deciding is not None, "a run has a job"
        run = plan.run
        params = {"file": name, "workflow": run.workflow, "run": run.id, "jobs": len(run.jobs)}
        return self._row(principal, workflow_arn(self._service.account, run.workflow), content, params, deciding)

    def refused(self, name: str, content: bytes, error: FlowbatchError) -> AuditRow:
        """The record of a file that is not taken."""
        principal = self._principal()
        decision = error.decision if isinstance(error, NotAllowed) else None
        code = "AccessDenied" if decision is not None else type(error).__name__
        row = self._row(principal, "*" if decision is None else decision.resource, content, {"file": name}, decision)
        return row._replace(error=f"{code}: {error}"[:ERROR_MAX])

    def _row(
        self, principal: Principal, resource: str, content: bytes, params: dict[str, Any], decision: Decision | None
    ) -> AuditRow:
        return AuditRow(
            Millis(self._service.now()),
            principal.arn,
            None,
            None,
            "flowbatch folder",
            SUBMIT,
            resource,
            decision is not None and decision.allowed,
            None if decision is None else decision.statement,
            str(uuid.uuid4()),
            json.dumps(params),
            hashlib.sha256(content).hexdigest(),
        )


def workflow_arn(account: Account, name: str) -> str:
    return f"arn:{account.partition}:flowbatch:{account.region}:{account.number}:workflow/{name}"


def secret_arn(account: Account, name: str) -> str:
    return f"arn:{account.partition}:secretsmanager:{account.region}:{account.number}:secret:{name}"


def asks(service: Service, principal: Principal, plan: Plan) -> Iterator[Ask]:
    """Every call that the run comes to."""
    arn, run = service.account.arn, plan.run

    def target(where: str, *contexts: Context) -> Target:
        known: dict[str, Sequence[str]] = {"aws:username": (principal.name,)}
        for each in contexts:
            known.update(each)
        return Target(where, known)

    for environment in run.environments:
        yield "batch:CreateComputeEnvironment", (target(arn("compute-environment", environment.name)),)
    own_queues = {queue.name for queue in run.queues}
    for name in sorted(own_queues):
        yield "batch:CreateJobQueue", (target(arn("job-queue", name)),)
    for made in run.definitions:
        tags = context_of_request(dict(made.tags))
        where = arn("job-definition", made.name)
        for context in contexts_of_body(from_json(made.body)):
            yield "batch:RegisterJobDefinition", (target(where, tags, context),)
        if made.tags:
            yield "batch:TagResource", (target(where, tags),)
    own = {job.id for job in run.jobs}
    for needed in sorted({need.job for job in run.jobs for need in job.spec.needs} - own):
        tags = context_of_tags(service.tags("job", needed, dict)) if principal.tagged else {}
        yield "batch:DescribeJobs", (target(arn("job", needed), tags),)  # who may not see a job cannot wait for it
    for job in run.jobs:
        yield from asks_of_job(service, principal, job.spec, target)
    for secret in plan.secrets:
        yield "secretsmanager:GetSecretValue", (target(secret_arn(service.account, secret)),)


def asks_of_job(service: Service, principal: Principal, spec: JobSpec, target: Callable[..., Target]) -> Iterator[Ask]:
    arn, tags = service.account.arn, dict(spec.tags)
    name, colon, revision = spec.definition.partition(":")
    stored = service.stored(name, int(revision)) if colon else None
    said: Context = dict(context_of_request(tags))
    if spec.share is not None:
        said["batch:shareidentifier"] = (spec.share,)
    of_definition: Context = {}
    if stored is not None and principal.tagged:
        made_with = dict(stored.tags)
        of_definition = context_of_tags(service.tags("job-definition", stored.id, lambda: made_with))
    of_queue = context_of_tags(service.tags("job-queue", spec.queue, dict)) if principal.tagged else {}
    queue, definition = arn("job-queue", spec.queue), arn("job-definition", spec.definition)
    known = [] if stored is None else [plain(each) for each in contexts_of_body(service.body(stored))]
    for context in contexts_of_spec(spec):
        yield (
            "batch:SubmitJob",
            (target(queue, said, context, of_queue), target(definition, said, context, of_definition)),
        )
        if plain(context) not in known:
            # What a file says over a definition would otherwise be a way round what its principal may register.
            yield "batch:RegisterJobDefinition", (target(arn("job-definition", name), context),)
    if tags:
        yield "batch:TagResource", (target(arn("job", "*"), context_of_request(tags)),)


def plain(context: Context) -> tuple[Sequence[str], ...]:
    """What of it a job may say over its definition, with what holds where nothing is said."""
    return tuple(context.get(key, usual) for key, usual in USUAL)
