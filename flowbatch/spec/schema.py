"""The workflow file as pydantic models: every key, its type, and the text an editor shows for it.

A layer is what `defaults`, `definitions` and `jobs` have in common; which keys make sense where is in `LAYERS`. AWS's
spellings stand beside the short ones and mean the same; both at once in one mapping are refused later (layers.py).
"""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from flowbatch.spec.container_schema import LogModel, OverridesModel, PropertiesModel
from flowbatch.spec.container_values import (
    DeviceText,
    Image,
    Limits,
    Network,
    Shm,
    Swap,
    TmpfsText,
    UlimitName,
    User,
    Volume,
)
from flowbatch.spec.scalars import shown
from flowbatch.spec.schema_parts import (
    Array,
    AwsArrayModel,
    FakeModel,
    LostModel,
    Needs,
    PairModel,
    ResourceModel,
    RetryModel,
    SecretPairModel,
    Strict,
    Timeout,
)
from flowbatch.spec.values import (
    Command,
    DurationMs,
    EnvName,
    Listed,
    Name,
    Number,
    Plain,
    Script,
    SizeMib,
    Text,
    VcpusMilli,
)

Priority = Annotated[int, Field(ge=0, le=9999)]


def _secrets(value: object) -> object:
    """AWS's list of {name, valueFrom} says the same as the mapping VARIABLE: name."""
    if not isinstance(value, list):
        return value
    secrets: dict[str, object] = {}
    for item in value:
        name = item.get("name") if isinstance(item, dict) and set(item) == {"name", "valueFrom"} else None
        if not isinstance(name, str):
            raise ValueError("each item is {name: VARIABLE, valueFrom: name of a secret}")
        if name in secrets:
            raise ValueError(f"{name!r} is given twice")
        secrets[name] = item["valueFrom"]
    return secrets


Secrets = Annotated[
    dict[EnvName, Name],
    BeforeValidator(_secrets, json_schema_input_type=dict[EnvName, Name] | list[SecretPairModel]),
]


class LayerModel(Strict):
    """A job, or what is merged under one."""

    LATER: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("containers", "ecsProperties"), "jobs of several containers come with a later release"),
        "eksProperties": "pods come with a later release",
        **dict.fromkeys(("nodes", "nodeProperties", "nodeOverrides"), "multi-node jobs come with a later release"),
        **dict.fromkeys(("share", "shareIdentifier"), "fair-share scheduling comes with a later release"),
        **dict.fromkeys(
            ("tokens", "consumableResourceProperties", "consumableResourcePropertiesOverride"),
            "consumable resources come with a later release",
        ),
    }  # fmt: skip

    uses: str | None = Field(None, description="The definition this job is made from.")
    queue: Name | None = Field(None, description="The queue it waits in; `default` unless given.")
    array: Array | None = Field(None, description="Makes it an array job: a size, or where its children come from.")
    needs: Needs | None = Field(None, description="What it waits for: a job, several, or {each: array} index by index.")
    vcpus: VcpusMilli | None = Field(None, description="vCPUs it reserves; 1 unless given, fractions allowed.")
    memory: SizeMib | None = Field(None, description="Memory it reserves and may use: MiB, or 3GiB. Omitted: no limit.")
    gpus: int | None = Field(None, ge=0, le=1024, description="GPUs it reserves.")
    command: Command | None = Field(None, description="The program and its arguments, run as they stand.")
    script: Script | None = Field(None, description="Lines for /bin/sh -ec, instead of `command`.")
    parameters: dict[Name, Text] | None = Field(None, description="Values for Ref::name in `command`.")
    env: dict[EnvName, Text] | None = Field(None, description="Environment variables.")
    secrets: Secrets | None = Field(
        None, description="Environment variables whose values are secrets: {VARIABLE: name of a secret}."
    )
    user: User | None = Field(None, description="Run as this user; a process needs root for it.")
    workdir: str | None = Field(
        None, min_length=1, description="The folder it runs in; the workflow's own, or the image's, unless given."
    )
    attempts: int | None = Field(None, ge=1, le=10, description="The total number of attempts, 1 to 10.")
    retry: RetryModel | None = Field(None, description="Attempts, backoff and rules, instead of `attempts`.")
    timeout: Timeout | None = Field(None, description="How long an attempt may run: 20m. Never retried.")
    priority: Priority | None = Field(None, description="Before the order of submission, within its queue: 0 to 9999.")
    tags: dict[str, Text] | None = Field(None, max_length=50, description="Words of your own, kept with the job.")
    stop_grace: DurationMs | None = Field(None, description="Between TERM and KILL; 30s unless given.")
    lost_attempts: LostModel | None = Field(None, description="Attempts lost with the host that do not count.")
    chunk: int | None = Field(None, ge=1, description="So many items per child of its array.")
    image: Image | None = Field(None, description="Runs it as a container of this image, else it is a process.")
    pull: Literal["missing", "always", "never"] | None = Field(
        None, description="When the image is pulled: missing (unless given), always, never."
    )
    volumes: list[Volume] | None = Field(
        None, description="Mounts: ./folder:/path, /folder:/path:ro, or a volume of the run as name:/path."
    )
    tmpfs: Listed[TmpfsText] | None = Field(None, description="Memory mounted as a folder: /scratch:size=64MiB,noexec.")
    shm: Shm | None = Field(None, description="The size of /dev/shm: MiB, or 1GiB.")
    swap: Swap | None = Field(None, description="Swap beyond `memory`: MiB, or 1GiB; none unless given.")
    ulimits: dict[UlimitName, Limits] | None = Field(
        None, description="Limits of its processes: {nofile: 1024, core: 0:-1, nproc: {soft: 10, hard: 20}}."
    )
    devices: list[DeviceText] | None = Field(
        None, description="Devices of this machine: /dev/fuse, /dev/sdb:/dev/disk:r."
    )
    readonly: bool | None = Field(None, description="Its root file system cannot be written.")
    network: Network | None = Field(None, description="bridge (unless given), none, or host.")
    privileged: bool | None = Field(None, description="As root on this machine; needs to be allowed.")
    init: bool | None = Field(None, description="A small init as its first process; true unless given.")
    cpu: Literal["shares", "quota"] | None = Field(
        None, description="vCPUs as a weight (shares) or a cap (quota); the environment's unless given."
    )
    log: LogModel | None = Field(
        None, description="The log driver and its options; flowbatch's own store unless given."
    )
    propagate_tags: bool | None = Field(
        None, alias="propagateTags", description="The job's tags become labels of its container."
    )
    fake: FakeModel | None = Field(
        None, alias="x-fake", description="A script for the fake backend (--dry-run, tests)."
    )

    job_name: str | None = Field(None, alias="jobName", description="AWS's name of the job: the same as its key.")
    job_definition: str | None = Field(None, alias="jobDefinition", description="AWS's spelling of `uses`.")
    job_queue: Name | None = Field(None, alias="jobQueue", description="AWS's spelling of `queue`.")
    array_properties: AwsArrayModel | None = Field(None, alias="arrayProperties", description="AWS's `array`.")
    depends_on: Needs | None = Field(None, alias="dependsOn", description="AWS's spelling of `needs`.")
    environment: list[PairModel] | None = Field(None, description="AWS's spelling of `env`: [{name, value}].")
    resource_requirements: list[ResourceModel] | None = Field(
        None, alias="resourceRequirements", description="AWS's vcpus, memory, gpus: [{type: MEMORY, value: '2048'}]."
    )
    container_overrides: OverridesModel | None = Field(None, alias="containerOverrides", description="As in SubmitJob.")
    container_properties: PropertiesModel | None = Field(
        None, alias="containerProperties", description="As in RegisterJobDefinition."
    )
    retry_strategy: RetryModel | None = Field(None, alias="retryStrategy", description="AWS's spelling of `retry`.")
    scheduling_priority: Priority | None = Field(None, alias="schedulingPriority", description="AWS's `priority`.")
    scheduling_priority_override: Priority | None = Field(
        None, alias="schedulingPriorityOverride", description="AWS's `priority`, as in SubmitJob."
    )
    stop_timeout: int | None = Field(None, alias="stopTimeout", ge=1, description="AWS's `stop_grace`, in seconds.")
    platform_capabilities: list[Literal["EC2", "FARGATE"]] | None = Field(
        None, alias="platformCapabilities", description="AWS's; FARGATE means `cpu: quota`."
    )
    type: Literal["container"] | None = Field(None, description="AWS's type of a definition.")


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


def _backend(value: object) -> str:
    if value not in ("local", "process", "docker", "fake"):
        raise ValueError(f"must be local, process, docker or fake, found {shown(value)}")
    return str(value)


def _state(value: object) -> bool:
    if isinstance(value, str) and value.upper() in ("ENABLED", "DISABLED"):
        return value.upper() == "ENABLED"
    raise ValueError(f"must be enabled or disabled, found {shown(value)}")


def _managed(value: object) -> str:
    if isinstance(value, str) and value.upper() == "MANAGED":
        return "managed"
    raise ValueError("not yet: only managed environments exist; leave it out")


def _not_spot(value: object) -> bool:
    if value is False:
        return False
    raise ValueError("not yet: there is no spot capacity; leave it out")


Backend = Annotated[str, PlainValidator(_backend, json_schema_input_type=Literal["local", "process", "docker", "fake"])]
State = Annotated[
    bool, PlainValidator(_state, json_schema_input_type=Literal["enabled", "disabled", "ENABLED", "DISABLED"])
]


class EnvironmentModel(Strict):
    """A compute environment: where jobs run, and how much of it there is."""

    LATER: ClassVar[dict[str, str]] = {
        "min_vcpus": "environments of a changing size come with a later release",
        "nodes": "environments of several nodes come with a later release",
    }

    backend: Backend = Field("local", description="local (each job by its kind), process, docker, or fake.")
    vcpus: VcpusMilli | None = Field(None, description="vCPUs it offers; this machine's unless given.")
    max_vcpus: VcpusMilli | None = Field(None, description="The long spelling of `vcpus`.")
    memory: SizeMib | None = Field(None, description="Memory it offers; 85 % of this machine's unless given.")
    gpus: int | None = Field(None, ge=0, le=1024, description="GPUs it offers; none unless given.")
    cpu: Literal["shares", "quota"] = Field(
        "shares", description="vCPUs of containers as a weight, as AWS has it on EC2, or as a cap, as on Fargate."
    )
    state: State | None = Field(None, description="disabled: nothing new starts here.")
    type: Annotated[str, PlainValidator(_managed, json_schema_input_type=Literal["managed"])] | None = None
    spot: Annotated[bool, PlainValidator(_not_spot, json_schema_input_type=Literal[False])] | None = None


class QueueModel(Strict):
    """A job queue over environments, which are tried in order."""

    LATER: ClassVar[dict[str, str]] = {
        "policy": "fair-share scheduling comes with a later release",
        "limits": "limits of a queue come with a later release",
    }

    priority: int = Field(1, ge=0, le=1_000_000, description="A higher one is served first.")
    environments: Listed[Name] | None = Field(None, description="Tried in this order; all of the file's unless given.")
    state: State | None = Field(None, description="disabled: nothing of it starts.")
    max_running: int | None = Field(None, ge=1, description="At most so many attempts of it run at once.")


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

    LATER: ClassVar[dict[str, str]] = {
        "notify": "notifications come with a later release",
    }

    flowbatch: Literal[1] = Field(1, description="The version of this format.")
    name: Name | None = Field(None, description="The workflow's name; the file's unless given.")
    params: dict[Name, ParamModel] | None = Field(None, description="What can be set with -p name=value.")
    deadline: DurationMs | None = Field(None, description="Wall time from the run's creation; then it is terminated.")
    schedule: ScheduleModel | None = Field(
        None, description="When `serve` runs it; without one, when the file changes."
    )
    start: Literal["manual"] | None = Field(None, description="`serve` runs it only when it is asked to.")
    environments: dict[Name, EnvironmentModel] | None = Field(None, description="Compute environments.")
    queues: dict[Name, QueueModel] | None = Field(None, description="Job queues.")
    secrets: dict[Name, SecretModel] | None = Field(None, description="Where secret values come from.")
    volumes: dict[Name, VolumeModel | None] | None = Field(
        None, description="Named volumes of which there is more to say: {frames: {keep: true}}."
    )
    definitions: dict[Name, LayerModel] | None = Field(None, description="Job definitions, for `uses`.")
    defaults: LayerModel | None = Field(None, description="Merged under every job.")
    jobs: dict[Name, LayerModel] = Field(description="The jobs, by name.")
    finally_: dict[Name, LayerModel] | None = Field(
        None, alias="finally", description="Jobs that always run, last. ${{ run.status }} is known here."
    )


JOB_ONLY: Final = frozenset(
    {"uses", "jobDefinition", "array", "arrayProperties", "needs", "dependsOn", "chunk", "jobName"}
)
DEFINITION_LACKS: Final = JOB_ONLY | {"queue", "jobQueue", "containerOverrides", "schedulingPriorityOverride"}
DEFAULTS_LACK: Final = JOB_ONLY | {"containerProperties", "type"}
JOB_LACKS: Final = frozenset({"type"})
