"""Jobs of several nodes and of several containers, in the short spelling and in AWS's (aws-batch.md §6.6, §8.1)."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from flowbatch.spec.container_schema import AwsVolumeModel, Ignored, OverridesModel, PropertiesModel
from flowbatch.spec.deferred import Lazy
from flowbatch.spec.program_schema import ProgramModel
from flowbatch.spec.scalars import shown
from flowbatch.spec.schema_parts import Strict
from flowbatch.spec.token_schema import AwsDemandsModel, Quantity
from flowbatch.spec.values import DurationMs, Listed, Name

NODES_MAX = 1000
GROUPS_MAX = 5
CONTAINERS_MAX = 10
HOST_NAMESPACE = "would share this machine's; leave it out, or give `task`, which the containers of the task share"
_RANGE = re.compile(r"([0-9]{0,4}):([0-9]{0,4})|([0-9]{1,4})", re.ASCII)

Span = tuple[int, int | None]  # both ends are included; None: to the last node


def span_of(text: str) -> Span:
    """Of targetNodes: `0:3`, `:3`, `4:`, `:`, and `3` for one node. Raises ValueError."""
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(f"{shown(text)} is no range of nodes; write 0:3, :3, 4:, or 3 for a single one")
    if found[3]:
        return int(found[3]), int(found[3])
    first, last = int(found[1] or 0), int(found[2]) if found[2] else None
    if last is not None and last < first:
        raise ValueError(f"the range {shown(text)} is empty; did you mean '{last}:{first}'?")
    return first, last


def _range(value: object) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        raise ValueError(f"a range of nodes such as '0:3' is needed, found {shown(value)}")
    span_of(text)
    return text


Range = Annotated[
    str,
    PlainValidator(_range),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]*:?[0-9]*$"}]}),
]


def _condition(value: object) -> str:
    if isinstance(value, str) and value.upper() in ("START", "COMPLETE", "SUCCESS"):
        return value.upper()
    raise ValueError(f"must be start, complete or success, found {shown(value)}")


Condition = Annotated[
    str,
    PlainValidator(
        _condition, json_schema_input_type=Literal["start", "complete", "success", "START", "COMPLETE", "SUCCESS"]
    ),
]


def _after(value: object) -> object:
    if isinstance(value, str):
        return {"container": value}
    if isinstance(value, dict):
        return value
    raise ValueError(f"a container's name or {{container: db, when: success}} is needed, found {shown(value)}")


class AfterModel(Strict):
    container: Name | None = Field(None, description="The container that this one waits for.")
    when: Condition | None = Field(None, description="start (unless given), complete, or success.")
    container_name: Name | None = Field(None, alias="containerName", description="AWS's spelling of `container`.")
    condition: Condition | None = Field(None, description="AWS's spelling of `when`.")


After = Annotated[AfterModel, BeforeValidator(_after, json_schema_input_type=str | AfterModel)]


class PartModel(ProgramModel):
    """A container of several; without an image, a process."""

    name: Name = Field(description="Its name in the task: logs and dependencies go by it.")
    essential: bool = Field(True, description="Its end stops the others, and it must exit with 0; true unless given.")
    needs: Listed[After] | None = Field(
        None, description="Containers it waits for: [db, {container: migrate, when: success}]."
    )
    start_timeout: DurationMs | None = Field(None, description="How long it waits for these; then the task fails.")
    depends_on: list[AfterModel] | None = Field(None, alias="dependsOn", description="AWS's spelling of `needs`.")
    start_timeout_s: int | None = Field(
        None, alias="startTimeout", ge=2, description="AWS's `start_timeout`, in seconds."
    )


class EcsContainerModel(PropertiesModel):
    """One of ecsProperties' containers, as RegisterJobDefinition has it."""

    LATER: ClassVar[dict[str, str]] = {
        **PropertiesModel.LATER,
        "firelensConfiguration": "log routers come with a later release",
    }

    name: Name = Field("default", description="Its name in the task.")
    essential: bool = Field(True, description="Its end stops the others, and it must exit with 0; true unless given.")
    depends_on: list[AfterModel] | None = Field(None, alias="dependsOn")
    start_timeout_s: int | None = Field(None, alias="startTimeout", ge=2)
    stop_timeout: int | None = Field(None, alias="stopTimeout", ge=1)


def _task_alone(value: object) -> object:
    if value == "host":
        raise ValueError(HOST_NAMESPACE)
    return value


TaskMode = Annotated[
    Literal["task", "none"], BeforeValidator(_task_alone, json_schema_input_type=Literal["task", "none"])
]


class TaskModel(Strict):
    """The one entry of taskProperties."""

    containers: list[EcsContainerModel] = Field(min_length=1, max_length=CONTAINERS_MAX)
    volumes: list[AwsVolumeModel] | None = None
    ipc_mode: TaskMode | None = Field(None, alias="ipcMode", description="task: the containers share it.")
    pid_mode: TaskMode | None = Field(None, alias="pidMode", description="task: the containers see one another.")
    execution_role_arn: Ignored = Field(None, alias="executionRoleArn")
    task_role_arn: Ignored = Field(None, alias="taskRoleArn")
    platform_version: Ignored = Field(None, alias="platformVersion")
    network_configuration: Ignored = Field(None, alias="networkConfiguration")
    runtime_platform: Ignored = Field(None, alias="runtimePlatform")
    ephemeral_storage: Ignored = Field(None, alias="ephemeralStorage")
    enable_execute_command: Ignored = Field(None, alias="enableExecuteCommand")


class EcsModel(Strict):
    """ecsProperties"""

    tasks: list[TaskModel] = Field(alias="taskProperties", min_length=1, max_length=1)


class GroupModel(ProgramModel):
    """Nodes that are alike. What a group does not say, it takes from the job."""

    LATER: ClassVar[dict[str, str]] = {"eksProperties": "pods come with a later release"}

    range: Range | None = Field(None, description="Its nodes: 0:3, 4: (to the last), or 0; an inner range wins.")
    containers: list[PartModel] | None = Field(
        None, min_length=1, max_length=CONTAINERS_MAX, description="Several containers on each node."
    )
    shared_ipc: bool | None = Field(None, description="The containers of a node share memory and semaphores.")
    shared_pid: bool | None = Field(None, description="They see one another's processes.")
    target_nodes: Range | None = Field(None, alias="targetNodes", description="AWS's spelling of `range`.")
    container: PropertiesModel | None = Field(None, description="AWS's containerProperties of these nodes.")
    ecs_properties: EcsModel | None = Field(None, alias="ecsProperties", description="AWS's `containers`.")
    instance_types: Ignored = Field(None, alias="instanceTypes")
    tokens: dict[Name, Quantity] | None = Field(
        None, description="Consumable resources that each of these nodes adds to the job's: {licence: 1}."
    )
    consumable_resources: AwsDemandsModel | None = Field(
        None, alias="consumableResourceProperties", description="AWS's spelling of `tokens`."
    )


def _nodes(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"count": value}
    if isinstance(value, dict):
        return value
    raise ValueError(f"a number of nodes (4) or a mapping {{count: 4, groups: […]}} is needed, found {shown(value)}")


class NodesModel(Strict):
    """A multi-node parallel job: all nodes start or none, the main one first; its end is the job's."""

    count: int = Field(ge=1, le=NODES_MAX, description="How many nodes, 1 to 1,000.")
    main: int = Field(0, ge=0, description="The node that starts first and whose end is the job's; 0 unless given.")
    groups: list[Lazy[GroupModel]] | None = Field(
        None, min_length=1, max_length=GROUPS_MAX, description="What is said of some nodes; all are alike without."
    )


Nodes = Annotated[NodesModel, BeforeValidator(_nodes, json_schema_input_type=int | NodesModel)]


class AwsNodesModel(Strict):
    """nodeProperties"""

    count: int = Field(alias="numNodes", ge=1, le=NODES_MAX)
    main: int = Field(alias="mainNode", ge=0)
    groups: list[Lazy[GroupModel]] = Field(alias="nodeRangeProperties", min_length=1, max_length=GROUPS_MAX)


class ContainerOverrideModel(OverridesModel):
    """What ecsPropertiesOverride says of one container; but for its size it keeps what its definition says (aws-batch.md §6.3)."""

    name: Name = Field(description="As the definition calls it.")


class TaskOverrideModel(Strict):
    containers: list[ContainerOverrideModel] = Field(min_length=1, max_length=CONTAINERS_MAX)


class EcsOverridesModel(Strict):
    """ecsPropertiesOverride, as SubmitJob has it."""

    tasks: list[TaskOverrideModel] = Field(alias="taskProperties", min_length=1, max_length=1)


class NodeOverrideModel(Strict):
    LATER: ClassVar[dict[str, str]] = {"eksPropertiesOverride": "pods come with a later release"}

    target_nodes: Range = Field(alias="targetNodes", description="As the definition has it, letter by letter.")
    container_overrides: OverridesModel | None = Field(None, alias="containerOverrides")
    ecs_overrides: EcsOverridesModel | None = Field(None, alias="ecsPropertiesOverride")
    consumable_resources: AwsDemandsModel | None = Field(None, alias="consumableResourcePropertiesOverride")
    instance_types: Ignored = Field(None, alias="instanceTypes")


class NodeOverridesModel(Strict):
    """nodeOverrides, as SubmitJob has them."""

    count: int | None = Field(None, alias="numNodes", ge=1, le=NODES_MAX)
    groups: list[NodeOverrideModel] | None = Field(None, alias="nodePropertyOverrides")
