"""What AWS Batch would treat otherwise: each line of a workflow file, and what AWS does instead.

Two looks: at the keys that are written (a table by model and field), and at what a job comes to once all is merged. What the file
does not say, and AWS does likewise, is not told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from flowbatch.model.jobspec import JobSpec
from flowbatch.model.resources import vcpus_exact
from flowbatch.model.tokens import TokenKind
from flowbatch.spec.container_schema import AwsLogModel, LogModel
from flowbatch.spec.environment_schema import EnvironmentModel
from flowbatch.spec.positions import Path, in_order
from flowbatch.spec.program_schema import ProgramModel
from flowbatch.spec.queue_schema import QueueModel
from flowbatch.spec.schema import LayerModel, VolumeModel, WorkflowModel
from flowbatch.spec.schema_parts import ArrayModel, NeedModel, RetryModel, RuleModel
from flowbatch.spec.token_schema import TokenModel

if TYPE_CHECKING:
    from flowbatch.errors import Problem
    from flowbatch.spec.compile import Plan

Rule = Callable[[Any], str | None]  # of a value that is written; None: AWS does the same

TIMEOUT_MIN_MS: Final = 60_000
ARRAY_SIZES: Final = (2, 10_000)
_OURS: Final = re.compile(r"FLOWBATCH_[A-Z_]+")
_PATTERN: Final = re.compile(r"[A-Za-z0-9.:\s]*\*?", re.ASCII)
_LOCAL: Final = "the paths are those of the instance that the job happens to run on"


def always(text: str) -> Rule:
    return lambda _: text


def where(test: Callable[[Any], bool], text: str) -> Rule:
    return lambda value: text if test(value) else None


def timeout(ms: int) -> str | None:
    if ms < TIMEOUT_MIN_MS:
        return f"AWS Batch refuses a timeout below 60 s; this is {ms / 1000:g} s"
    return None if ms % 1000 == 0 else "AWS Batch has timeouts of whole seconds"


def whole_vcpus(milli: int) -> str | None:
    if milli % 1000 == 0:
        return None
    least = math.ceil(milli / 1000)
    return f"AWS Batch has whole vCPUs on EC2 (on Fargate 0.25 and 0.5 too), not {vcpus_exact(milli)}; it would take {least}"


def pattern(text: str) -> str | None:
    if _PATTERN.fullmatch(text):
        return None
    return "AWS Batch takes letters, digits, dots, colons and blanks in this pattern alone, and refuses others"


def variables(value: object) -> str | None:
    """Of commands and the values of variables."""
    if isinstance(value, str):
        found = sorted(set(_OURS.findall(value)))
    elif isinstance(value, list):
        found = sorted({name for each in value if isinstance(each, str) for name in _OURS.findall(each)})
    else:
        return None
    return f"AWS Batch sets no {', '.join(found)}" if found else None


def env(value: dict[str, str]) -> str | None:
    return variables(list(value.values()))


def volumes(mounts: list[Any]) -> str | None:
    if any(mount.volume for mount in mounts):
        return (
            "a named volume in AWS Batch is one of the instance: jobs on other instances do not see it (use EFS); "
            + _LOCAL
        )
    return f"in AWS Batch {_LOCAL}"


RULES: Final[dict[tuple[type[BaseModel], str], Rule]] = {
    (ProgramModel, "vcpus"): whole_vcpus,
    (ProgramModel, "memory"): where(lambda mib: mib < 4, "AWS Batch takes 4 MiB at least"),
    (ProgramModel, "command"): variables,
    (ProgramModel, "script"): variables,
    (ProgramModel, "env"): env,
    (ProgramModel, "workdir"): always("AWS Batch starts in the image's own folder (WORKDIR)"),
    (ProgramModel, "pull"): always("AWS Batch pulls each time and falls back to what is there"),
    (ProgramModel, "network"): always("AWS Batch runs jobs on EC2 in the instance's own network, on Fargate in one of the task's own"),
    (ProgramModel, "cpu"): always("in AWS Batch a vCPU is a weight on EC2 and a cap on Fargate, as the environment is"),
    (ProgramModel, "stop_grace"): always("AWS Batch waits 30 s between SIGTERM and SIGKILL"),
    (ProgramModel, "volumes"): volumes,
    (ProgramModel, "secrets"): always("AWS Batch takes secrets from Secrets Manager or the Parameter Store: valueFrom is an ARN"),
    (ProgramModel, "fake"): always("AWS Batch has no such backend"),
    (LayerModel, "timeout"): timeout,
    (LayerModel, "lost_attempts"): always("in AWS Batch an attempt lost with its host counts as any other"),
    (LayerModel, "chunk"): always("in AWS Batch a child has its index alone"),
    (ArrayModel, "size"): where(
        lambda size: not ARRAY_SIZES[0] <= size <= ARRAY_SIZES[1], "AWS Batch refuses arrays but of 2 to 10,000 children"
    ),
    **{
        (ArrayModel, source): always("in AWS Batch a child has its index alone, and the array a size")
        for source in ("lines", "glob", "items", "matrix", "chunk")
    },
    (ArrayModel, "max_running"): always("AWS Batch starts as many children as its environments hold"),
    (ArrayModel, "tolerate"): always("in AWS Batch an array FAILED when one child did"),
    (NeedModel, "when"): where(
        lambda when: when != "success", "AWS Batch knows no dependency but on success: the job would fail with what it needs"
    ),
    (RetryModel, "backoff"): always("AWS Batch retries at once"),
    (RuleModel, "memory"): always("AWS Batch retries with the same memory"),
    **{(RuleModel, name): pattern for name in ("reason", "status", "on_reason", "on_status_reason")},
    (LogModel, "driver"): where(lambda name: name == "local", "AWS Batch has no log driver `local`"),
    (AwsLogModel, "driver"): where(lambda name: name == "local", "AWS Batch has no log driver `local`"),
    (EnvironmentModel, "backend"): where(lambda name: name in ("process", "fake"), "AWS Batch runs containers alone"),
    (EnvironmentModel, "vcpus"): whole_vcpus,
    (EnvironmentModel, "max_vcpus"): whole_vcpus,
    (EnvironmentModel, "memory"): always("AWS Batch limits an environment by its vCPUs alone"),
    (EnvironmentModel, "gpus"): always("AWS Batch limits an environment by its vCPUs alone"),
    (EnvironmentModel, "cpu"): where(lambda cpu: cpu == "quota", "in AWS Batch a vCPU is a cap on Fargate alone"),
    (QueueModel, "max_running"): always("AWS Batch has no such limit; consumable resources (`tokens`) do the same"),
    (QueueModel, "environments"): where(lambda names: len(names) > 3, "AWS Batch takes 3 environments a queue"),
    (VolumeModel, "keep"): always("AWS Batch keeps no volume of a job but on a file system of its own (EFS)"),
    (TokenModel, "total"): always("AWS Batch's consumable resources are the account's, not a run's"),
    (WorkflowModel, "deadline"): always("AWS Batch has timeouts of attempts alone"),
    (WorkflowModel, "finally_"): always("AWS Batch has no jobs that always run last"),
    (WorkflowModel, "schedule"): always("AWS Batch has no schedules; EventBridge has"),
    (WorkflowModel, "start"): always("AWS Batch knows no files"),
}  # fmt: skip


def differences(plan: Plan) -> list[Problem]:
    """In the order of the file; each with the line that it is about."""
    assert plan.written is not None
    model, positions = plan.written
    found = [positions.problem(path, text, at_key=True) for path, text in written(model, ())]
    for job in plan.run.jobs:
        path = (job.stage.value if job.stage.value == "finally" else "jobs", job.spec.key)
        found += [positions.problem(path, text, at_key=True) for text in of_job(job.spec, plan)]
    return in_order(found)


def written(model: BaseModel, path: Path) -> Iterator[tuple[Path, str]]:
    for name in model.model_fields_set:
        value = getattr(model, name)
        at = (*path, type(model).model_fields[name].alias or name)
        if value is None:
            continue
        rule = next((RULES[base, name] for base in type(model).__mro__ if (base, name) in RULES), None)
        text = None if rule is None else rule(value)
        if text is not None:
            yield at, text
        yield from inside(value, at)


def inside(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, BaseModel):
        yield from written(value, path)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from inside(each, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from inside(each, (*path, index))


def of_job(spec: JobSpec, plan: Plan) -> Iterator[str]:
    """Of the whole of it, wherever its parts were written."""
    if not spec.key[0].isalnum():
        yield "the name of a job begins with a letter or a digit in AWS Batch"
    if any(program.container is None for program in spec.programs):
        yield "has no `image`, and AWS Batch runs containers alone"
    if any(not program.resources.memory_mib for program in spec.programs):
        yield "has no `memory`, which AWS Batch requires"
    queue = next((each for each in plan.queues if each.name == spec.queue), None)
    if spec.priority and queue is not None and queue.policy is None:
        yield "`priority` orders nothing in a FIFO queue of AWS Batch: the order of submission does"
    if spec.items and spec.size is not None and spec.size < ARRAY_SIZES[0]:  # a size that is written is told of there
        yield f"AWS Batch refuses an array of {spec.size}: 2 to 10,000 children"
    own = {token.name: token for token in plan.run.tokens}
    for name, _ in spec.tokens:
        token = own.get(name)
        if token is not None and token.kind is TokenKind.NON_REPLENISHABLE:
            yield f"tokens {name} would be used up by every run in AWS Batch, not anew by each"


def summary(count: int) -> str:
    if not count:
        return "AWS Batch would do the same with every line."
    return f"{count} line{'s' if count > 1 else ''} that AWS Batch would treat otherwise."
