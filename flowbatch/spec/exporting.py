"""A workflow as calls of AWS Batch: RegisterJobDefinition and SubmitJob, in an order in which each finds what it needs.

A definition of its own for each job says all that the job runs with, so that a submission holds what belongs to the job alone: its
queue, its array, its dependencies, its tags. Ids exist only once a job is submitted; `dependsOn` therefore names the submission
that it waits for as `${job:NAME}`, and whoever makes the calls puts its jobId there. What cannot be said there is left out, and told.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, field

from flowbatch.model.ids import JobId
from flowbatch.model.jobspec import JobPlan, JobSpec, Stage, When
from flowbatch.model.resources import vcpus_exact
from flowbatch.spec import parameters
from flowbatch.spec.parity import differences
from flowbatch.spec.registering import Body, body_of, definition_name, demand_object

if TYPE_CHECKING:
    from flowbatch.spec.compile import Plan
    from flowbatch.spec.needs import Draft
    from flowbatch.spec.places import Surroundings

MEMORY_MIB: Final = 2048  # of what asks for none
TIMEOUT_S_MIN: Final = 60
PART_KEYS: Final = ("name", "essential", "dependsOn")
_DIGITS: Final = re.compile(r"([0-9]+)ms")


class Export(Struct):
    """`calls` in their order: (operation, name, request)."""

    workflow: str
    calls: list[tuple[str, str, Body]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)  # the lines that AWS Batch treats otherwise all the same

    def document(self) -> Body:
        return {
            "workflow": self.workflow,
            "about": "Calls of AWS Batch, in this order. ${job:NAME} stands for the jobId that the submission NAME gave.",
            "notes": self.notes,
            "differences": self.differences,
            "calls": [{"operation": o, "name": name, "request": request} for o, name, request in self.calls],
        }


def export(plan: Plan, around: Surroundings, *, image: str | None = None) -> Export:
    """`image`: of jobs that have none. Raises ValueError, with their names, where some would be left without."""
    made = Export(plan.run.workflow, differences=[str(each) for each in differences(plan)])
    drafts = {draft.key: draft for draft in plan.drafts}
    bare = [job.spec.key for job in plan.run.jobs if job.spec.container is None and job.spec.members is None]
    if bare and image is None:
        raise ValueError(
            f"no `image` in {', '.join(bare)}, and AWS Batch runs containers alone; --image names one for them"
        )
    for token in plan.run.tokens:
        request: Body = {
            "consumableResourceName": token.name,
            "totalQuantity": token.total,
            "resourceType": token.kind.name,
        }
        made.calls.append(("CreateConsumableResource", token.name, request))
    keys = {job.id: job.spec.key for job in plan.run.jobs}
    left_out: set[str] = set()
    for job in in_order(plan.run.jobs):
        why = impossible(job, keys, left_out)
        if why is not None:
            left_out.add(job.spec.key)
            made.notes.append(f"{job.spec.key} is left out: {why}")
            continue
        name = definition_name(plan.run.workflow, job.spec.key)
        policy = next((queue.policy for queue in plan.queues if queue.name == job.spec.queue), None)
        made.calls.append(
            ("RegisterJobDefinition", name, registration(name, job.spec, drafts[job.spec.key], around, image, made))
        )
        made.calls.append(("SubmitJob", job.spec.key, submission(name, job.spec, keys, fair=policy is not None)))
    return made


def in_order(jobs: Iterable[JobPlan]) -> list[JobPlan]:
    """Needs before those who need them; else as the file has them."""
    waiting = list(jobs)
    own = {job.id for job in waiting}
    done: set[str] = set()
    found: list[JobPlan] = []
    while waiting:
        ready = [job for job in waiting if all(need.job in done for need in job.spec.needs if need.job in own)]
        done.update(job.id for job in ready)
        found += ready
        waiting = [job for job in waiting if job.id not in done]
    return found


def impossible(job: JobPlan, keys: Mapping[JobId, str], left_out: set[str]) -> str | None:
    spec = job.spec
    if job.stage is Stage.FINALLY:
        return "AWS Batch has no jobs that always run last"
    if spec.size is not None and spec.size < 2:
        return f"AWS Batch has arrays of 2 to 10,000 children, and this one has {spec.size}"
    for need in spec.needs:
        if need.when is not When.SUCCESS:
            return f"it waits for the {need.when.value} of {keys.get(need.job, need.job)}, and AWS Batch knows success alone"
        if need.job not in keys:
            return f"it waits for job {need.job} of this state folder"
        if keys[need.job] in left_out:
            return f"it waits for {keys[need.job]}"
    return None


def submission(name: str, spec: JobSpec, keys: Mapping[JobId, str], *, fair: bool) -> Body:
    request: Body = {"jobName": spec.key, "jobQueue": spec.queue, "jobDefinition": name}
    if spec.size is not None:
        request["arrayProperties"] = {"size": spec.size}
    needs: list[Body] = [
        {"jobId": f"${{job:{keys[need.job]}}}", **({"type": "N_TO_N"} if need.each else {})} for need in spec.needs
    ]
    if spec.sequential:
        needs.append({"type": "SEQUENTIAL"})
    if needs:
        request["dependsOn"] = needs
    if fair and spec.share is not None:
        request["shareIdentifier"] = spec.share
    if spec.tags:
        request["tags"] = dict(spec.tags)
    return request


# --- a definition


def registration(name: str, spec: JobSpec, draft: Draft, around: Surroundings, image: str | None, made: Export) -> Body:
    body = body_of(draft.layer, around)
    request: Body = {"jobDefinitionName": name, "type": body["type"]}
    for key in ("parameters", "retryStrategy", "timeout", "schedulingPriority", "propagateTags"):
        if key in body:
            request[key] = body[key]
    if "retryStrategy" in request:
        request["retryStrategy"] = retry(dict(request["retryStrategy"]))
    if "timeout" in request:
        request["timeout"] = {"attemptDurationSeconds": whole_seconds(request["timeout"]["attemptDurationSeconds"])}
    variables = {name: value for name, value in spec.env if name.startswith(parameters.VARIABLE)}
    if "nodeProperties" in body:
        request["nodeProperties"] = nodes(body["nodeProperties"], variables, image, made, spec.key)
    elif "containers" in body:
        request["ecsProperties"] = task(body, variables, image, made, spec.key)
    else:
        request["containerProperties"] = program(body, variables, image, made, spec.key)
    if spec.tokens:
        request["consumableResourceProperties"] = demand_object(spec.tokens)
    return request


def program(body: Body, variables: dict[str, str], image: str | None, made: Export, key: str) -> Body:
    """containerProperties, or `container` of a node range. `variables`: of the run's parameters, which it gets where it reads them."""
    box = dict(body.get("containerProperties") or body.get("container") or {})
    if "image" not in box:
        box["image"] = image
    given = {each["name"]: each["value"] for each in box.get("environment", [])}
    text = "\0".join([*map(str, box.get("command", [])), *map(str, given.values())])
    merged = {**{name: value for name, value in variables.items() if name in text}, **given}
    if merged:
        box["environment"] = [{"name": name, "value": value} for name, value in merged.items()]
    box["resourceRequirements"] = resources(box.get("resourceRequirements", []), made, key)
    log = box.get("logConfiguration")
    if isinstance(log, dict) and log.get("logDriver") == "local":
        box["logConfiguration"] = {"logDriver": "json-file"}
    for secret in box.get("secrets", []):
        made.notes.append(f"{key}: the secret {secret['valueFrom']} needs the ARN of one in AWS as its valueFrom")
    return box


def task(body: Body, variables: dict[str, str], image: str | None, made: Export, key: str) -> Body:
    """ecsProperties: volumes are the task's, what mounts them the containers'."""
    parts: list[Body] = []
    volumes: dict[str, Body] = {}
    for part in body["containers"]:
        box = program(part, variables, image, made, key)
        for volume in box.pop("volumes", []):
            known = volumes.setdefault(volume["name"], volume)
            if known != volume:  # two containers number their folders alike
                name = f"{part['name']}-{volume['name']}"
                for point in box["mountPoints"]:
                    if point["sourceVolume"] == volume["name"]:
                        point["sourceVolume"] = name
                volumes[name] = {**volume, "name": name}
        parts.append({**{name: part[name] for name in PART_KEYS if name in part}, **box})
    whole: Body = {"containers": parts}
    if volumes:
        whole["volumes"] = list(volumes.values())
    for flag, mode in (("shared_ipc", "ipcMode"), ("shared_pid", "pidMode")):
        if body.get(flag):
            whole[mode] = "task"
    return {"taskProperties": [whole]}


def nodes(body: Body, variables: dict[str, str], image: str | None, made: Export, key: str) -> Body:
    ranges: list[Body] = []
    for group in body["nodeRangeProperties"]:
        each: Body = {"targetNodes": group["targetNodes"]}
        if "containers" in group:
            each["ecsProperties"] = task(group, variables, image, made, key)
        else:
            each["container"] = program(group, variables, image, made, key)
        ranges.append(each)
    return {**body, "nodeRangeProperties": ranges}


def resources(given: list[Any], made: Export, key: str) -> list[Body]:
    """VCPU and MEMORY are required; vCPUs are whole ones."""
    amounts = {each["type"]: each["value"] for each in given}
    milli = round(float(amounts.pop("VCPU", "1")) * 1000)
    whole = max(1, math.ceil(milli / 1000))
    if milli != whole * 1000:
        made.notes.append(f"{key}: {vcpus_exact(milli)} vCPU became {whole}, for AWS Batch has whole ones on EC2")
    memory = int(amounts.pop("MEMORY", "0"))
    if not memory:
        made.notes.append(f"{key}: it has no `memory`; {MEMORY_MIB} MiB were taken")
        memory = MEMORY_MIB
    found: list[Body] = [{"type": "VCPU", "value": str(whole)}, {"type": "MEMORY", "value": str(max(4, memory))}]
    return found + [{"type": kind, "value": value} for kind, value in amounts.items() if value != "0"]


def retry(body: Body) -> Body:
    """Without backoff and growing memory."""
    body.pop("backoff", None)
    if "evaluateOnExit" in body:
        rules = body["evaluateOnExit"]
        body["evaluateOnExit"] = [{name: value for name, value in rule.items() if name != "memory"} for rule in rules]
    return body


def whole_seconds(value: int | str) -> int:
    found = _DIGITS.fullmatch(value) if isinstance(value, str) else None
    seconds = math.ceil(int(found[1]) / 1000) if found is not None else int(value)
    return max(TIMEOUT_S_MIN, seconds)


# --- a script


_VERBS: Final = {
    "RegisterJobDefinition": "register-job-definition",
    "SubmitJob": "submit-job",
    "CreateConsumableResource": "create-consumable-resource",
}


def script(made: Export) -> str:
    """For `aws`: ids are kept in variables of the shell as they come."""
    lines = [
        "#!/bin/sh",
        f"# {made.workflow}: job definitions and jobs for AWS Batch",
        *(f"# {n}" for n in made.notes),
        "set -eu",
        "",
    ]
    numbers = {name: number for number, (operation, name, _) in enumerate(made.calls) if operation == "SubmitJob"}
    for operation, name, request in made.calls:
        command = f"aws batch {_VERBS[operation]} --cli-input-json "
        if operation != "SubmitJob":
            lines.append(command + quoted(request))
            continue
        base = {key: value for key, value in request.items() if key != "dependsOn"}
        text = quoted(base)
        if "dependsOn" in request:
            needs = compact(request["dependsOn"])
            for needed, number in numbers.items():  # names hold nothing that a shell would read
                needs = needs.replace(f'"${{job:{needed}}}"', f'"\'"$job_{number}"\'"')
            text = shlex.quote(compact(base)[:-1] + ',"dependsOn":') + f"'{needs}}}'"
        lines.append(f"job_{numbers[name]}=$({command}{text} --query jobId --output text)")
        lines.append(f'echo {shlex.quote(name)} "$job_{numbers[name]}"')
    return "\n".join(lines) + "\n"


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def quoted(request: Body) -> str:
    return shlex.quote(compact(request))
