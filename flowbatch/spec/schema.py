"""The workflow file as pydantic models: every key, its type, and the text an editor shows for it.

A layer is what `defaults`, `definitions` and `jobs` have in common; which keys make sense where is in `LAYERS`. AWS's
spellings stand beside the short ones and mean the same; both at once in one mapping are refused later (layers.py).
"""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from flowbatch.spec.container_schema import OverridesModel
from flowbatch.spec.deferred import Lazy
from flowbatch.spec.environment_schema import EnvironmentModel
from flowbatch.spec.member_schema import (
    CONTAINERS_MAX,
    AwsNodesModel,
    EcsModel,
    EcsOverridesModel,
    NodeOverridesModel,
    Nodes,
    PartModel,
)
from flowbatch.spec.notify_schema import NotifyModel
from flowbatch.spec.program_schema import ProgramModel
from flowbatch.spec.queue_schema import QueueModel, ShareName
from flowbatch.spec.schema_parts import (
    Array,
    AwsArrayModel,
    LostModel,
    Needs,
    RetryModel,
    Strict,
    Timeout,
)
from flowbatch.spec.token_schema import AwsDemandsModel, Quantity, Tokens
from flowbatch.spec.values import (
    Command,
    DurationMs,
    Name,
    Number,
    Plain,
    Text,
)

Priority = Annotated[int, Field(ge=0, le=9999)]


class LayerModel(ProgramModel):
    """A job, or what is merged under one."""

    LATER: ClassVar[dict[str, str]] = {
        "eksProperties": "pods come with a later release",
    }  # fmt: skip
    REFUSED: ClassVar[dict[str, str]] = {
        **{
            key: f"{key!r} belongs into `array`: {{size: 10, {key}: …}}"
            for key in ("max_running", "sequential", "tolerate")
        },
        **{
            key: f"{key!r} is a source of children, and belongs into `array`: {{{key}: …}}"
            for key in ("size", "lines", "glob", "items", "matrix")
        },
        **{
            key: f"{key!r} belongs into `retry`: {{attempts: 3, {key}: …}}"
            for key in ("backoff", "rules", "evaluateOnExit")
        },
    }

    uses: str | None = Field(None, description="The definition this job is made from.")
    queue: Name | None = Field(None, description="The queue it waits in; `default` unless given.")
    array: Array | None = Field(None, description="Makes it an array job: a size, or where its children come from.")
    needs: Needs | None = Field(None, description="What it waits for: a job, several, or {each: array} index by index.")
    parameters: dict[Name, Text] | None = Field(None, description="Values for Ref::name in `command`.")
    attempts: int | None = Field(None, ge=1, le=10, description="The total number of attempts, 1 to 10.")
    retry: Lazy[RetryModel] | None = Field(None, description="Attempts, backoff and rules, instead of `attempts`.")
    timeout: Timeout | None = Field(None, description="How long an attempt may run: 20m. Never retried.")
    share: ShareName | None = Field(
        None, description="Whose it is, in a queue that a policy divides: letters and digits."
    )
    priority: Priority | None = Field(None, description="Before the order of submission, within its queue: 0 to 9999.")
    tags: dict[str, Text] | None = Field(None, max_length=50, description="Words of your own, kept with the job.")
    lost_attempts: Lazy[LostModel] | None = Field(None, description="Attempts lost with the host that do not count.")
    chunk: int | None = Field(None, ge=1, description="So many items per child of its array.")
    propagate_tags: bool | None = Field(
        None, alias="propagateTags", description="The job's tags become labels of its container."
    )
    tokens: dict[Name, Quantity] | None = Field(
        None, description="Consumable resources that each of its tasks holds while it runs: {licence: 1}."
    )
    nodes: Nodes | None = Field(None, description="A multi-node parallel job: how many, the main one, groups of them.")
    containers: list[Lazy[PartModel]] | None = Field(
        None, min_length=1, max_length=CONTAINERS_MAX, description="Several containers in each task, with one network."
    )
    shared_ipc: bool | None = Field(None, description="Its containers share memory and semaphores.")
    shared_pid: bool | None = Field(None, description="Its containers see one another's processes.")

    node_properties: Lazy[AwsNodesModel] | None = Field(None, alias="nodeProperties", description="AWS's `nodes`.")
    node_overrides: Lazy[NodeOverridesModel] | None = Field(None, alias="nodeOverrides", description="As in SubmitJob.")
    ecs_properties: Lazy[EcsModel] | None = Field(None, alias="ecsProperties", description="AWS's `containers`.")
    ecs_overrides: Lazy[EcsOverridesModel] | None = Field(
        None, alias="ecsPropertiesOverride", description="Of single containers of its definition, as in SubmitJob."
    )
    job_name: str | None = Field(None, alias="jobName", description="AWS's name of the job: the same as its key.")
    job_definition: str | None = Field(None, alias="jobDefinition", description="AWS's spelling of `uses`.")
    job_queue: Name | None = Field(None, alias="jobQueue", description="AWS's spelling of `queue`.")
    array_properties: Lazy[AwsArrayModel] | None = Field(None, alias="arrayProperties", description="AWS's `array`.")
    depends_on: Needs | None = Field(None, alias="dependsOn", description="AWS's spelling of `needs`.")
    container_overrides: Lazy[OverridesModel] | None = Field(
        None, alias="containerOverrides", description="As in SubmitJob."
    )
    consumable_resources: Lazy[AwsDemandsModel] | None = Field(
        None, alias="consumableResourceProperties", description="AWS's spelling of `tokens`."
    )
    consumable_resources_override: Lazy[AwsDemandsModel] | None = Field(
        None, alias="consumableResourcePropertiesOverride", description="AWS's `tokens`, as in SubmitJob."
    )
    retry_strategy: Lazy[RetryModel] | None = Field(
        None, alias="retryStrategy", description="AWS's spelling of `retry`."
    )
    share_identifier: ShareName | None = Field(None, alias="shareIdentifier", description="AWS's spelling of `share`.")
    scheduling_priority: Priority | None = Field(None, alias="schedulingPriority", description="AWS's `priority`.")
    scheduling_priority_override: Priority | None = Field(
        None, alias="schedulingPriorityOverride", description="AWS's `priority`, as in SubmitJob."
    )
    platform_capabilities: list[Literal["EC2", "FARGATE"]] | None = Field(
        None, alias="platformCapabilities", description="AWS's; FARGATE means `cpu: quota`."
    )
    type: Literal["container", "multinode"] | None = Field(None, description="AWS's type of a definition.")


class ParamModel(Strict):
    type: Literal["string", "integer", "number", "boolean"] = Field("string", description="string unless given.")
    min: Number | None = Field(None, description="The least that a number may be.")
    max: Number | None = Field(None, description="The most that a number may be.")
    pattern: str | None = Field(
        None, max_length=512, description="A regular expression that the whole text must match."
    )
    enum: list[Plain] | None = Field(None, min_length=1, description="The only values allowed.")
    default: Plain | None = Field(None, description="Taken where no value is given.")
    description: str | None = Field(None, description="What it is for.")


class SecretModel(Strict):
    """Where the value comes from, exactly one of three; it is never stored."""

    env: Annotated[str, Field(min_length=1)] | None = Field(None, description="An environment variable of flowbatch.")
    file: Annotated[str, Field(min_length=1)] | None = Field(None, description="A file; its last line end is dropped.")
    command: Command | None = Field(None, description="A program whose output is the value.")


def _cron(value: str) -> str:
    from flowbatch.spec.cron import expression  # imported for the few files that have a schedule

    return expression(value)


def _zone(value: str) -> str:
    from flowbatch.spec.cron import zone

    return zone(value)


class ScheduleModel(Strict):
    """When `serve` runs the workflow; `run` runs it at once, whatever this says."""

    cron: Annotated[str, AfterValidator(_cron)] = Field(
        description="Five fields (minute hour day-of-month month day-of-week) or @hourly, @daily, @weekly, @monthly, @yearly."
    )
    tz: Annotated[str, AfterValidator(_zone)] = Field(
        "UTC", description="The time zone that it is meant in: Europe/Prague."
    )
    missed: Literal["skip", "latest", "all"] = Field(
        "latest", description="Which of the times that passed while no server ran are made up for."
    )
    overlap: Literal["skip", "queue", "allow"] = Field(
        "skip", description="What becomes of a time at which the run before is still going on."
    )


class VolumeModel(Strict):
    """A named volume, shared by the jobs of a run; most need no entry here."""

    keep: bool = Field(False, description="It outlives its run.")


class WorkflowModel(Strict):
    """A workflow: jobs, what they need, and where they run."""

    flowbatch: Literal[1] = Field(1, description="The version of this format.")
    name: Name | None = Field(None, description="The workflow's name; the file's unless given.")
    params: dict[Name, Lazy[ParamModel]] | None = Field(None, description="What can be set with -p name=value.")
    deadline: DurationMs | None = Field(None, description="Wall time from the run's creation; then it is terminated.")
    schedule: Lazy[ScheduleModel] | None = Field(
        None, description="When `serve` runs it; without one, when the file changes."
    )
    start: Literal["manual"] | None = Field(None, description="`serve` runs it only when it is asked to.")
    environments: dict[Name, Lazy[EnvironmentModel]] | None = Field(None, description="Compute environments.")
    queues: dict[Name, Lazy[QueueModel]] | None = Field(None, description="Job queues.")
    secrets: dict[Name, Lazy[SecretModel]] | None = Field(None, description="Where secret values come from.")
    tokens: Tokens | None = Field(
        None,
        description="Consumable resources of this run alone: {links: 4, budget: {total: 100, type: non_replenishable}}.",
    )
    volumes: dict[Name, VolumeModel | None] | None = Field(
        None, description="Named volumes of which there is more to say: {frames: {keep: true}}."
    )
    definitions: dict[Name, LayerModel] | None = Field(None, description="Job definitions, for `uses`.")
    notify: list[Lazy[NotifyModel]] | None = Field(None, max_length=64, description="Where events of its runs go.")
    defaults: LayerModel | None = Field(None, description="Merged under every job.")
    jobs: dict[Name, LayerModel] = Field(description="The jobs, by name.")
    finally_: dict[Name, LayerModel] | None = Field(
        None, alias="finally", description="Jobs that always run, last. ${{ run.status }} is known here."
    )


JOB_ONLY: Final = frozenset(
    {"uses", "jobDefinition", "array", "arrayProperties", "needs", "dependsOn", "chunk", "jobName"}
)
DEFINITION_LACKS: Final = JOB_ONLY | {
    "nodeOverrides",
    "ecsPropertiesOverride",
    "queue",
    "jobQueue",
    "containerOverrides",
    "schedulingPriorityOverride",
    "consumableResourcePropertiesOverride",
}
DEFAULTS_LACK: Final = JOB_ONLY | {
    "containerProperties", "containers", "ecsProperties", "ecsPropertiesOverride", "nodeOverrides",
    "nodeProperties", "nodes", "type",
}  # fmt: skip
JOB_LACKS: Final = frozenset({"type"})
