"""What a job is, as plain data: everything the engine needs, nothing that only the file's author needs.

Made by `spec.compile`, stored with the job as JSON, never changed afterwards.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct, field

from flowbatch.model.container import Container, Cpu
from flowbatch.model.definition import Registration
from flowbatch.model.ids import JobId, Millis, RunId
from flowbatch.model.notify import Notify
from flowbatch.model.places import SCALE_DOWN_MS, SPOT_NOTICE_MS, EnvironmentType, Node
from flowbatch.model.queues import FairShare, TimeLimit
from flowbatch.model.resources import Resources, sum_of
from flowbatch.model.secret import SecretSource as SecretSource
from flowbatch.model.tokens import Demand, Token


class When(StrEnum):
    """The end of a needed job that satisfies the need (⊕; AWS knows success alone)."""

    SUCCESS = "success"
    FAILURE = "failure"
    DONE = "done"


class Need(Struct, frozen=True):
    """An entry of dependsOn. `each` is N_TO_N: child i waits for child i of the needed job."""

    job: JobId
    when: When = When.SUCCESS
    each: bool = False
    index: int | None = None  # of an array this one child alone (`dependsOn: [{jobId: UUID:3}]`)


class Action(StrEnum):
    RETRY = "RETRY"
    EXIT = "EXIT"


class Rule(Struct, frozen=True):
    """An entry of evaluateOnExit; a pattern is whole, or a prefix when it ends in `*` (aws-batch.md §4)."""

    action: Action
    exit_code: str | None = None  # onExitCode
    reason: str | None = None  # onReason
    status_reason: str | None = None  # onStatusReason
    memory_factor: float | None = None  # ⊕ `memory: x2`


class RetryPolicy(Struct, frozen=True):
    attempts: int = 1  # the total, 1..10
    backoff_first_ms: int = 0
    backoff_last_ms: int = 0
    rules: tuple[Rule, ...] = ()
    lost_free: int = 0  # attempts lost with the host that do not count (⊕ `lost_attempts: {free: n}`)


class FakeScript(Struct, frozen=True):
    """What the fake backend does with this job (`x-fake:` in a file); `by_index` and `by_attempt` override the rest."""

    duration_ms: int = 0
    exit_code: int = 0
    reason: str | None = None  # container.reason of the end, e.g. "OutOfMemoryError: …"
    launch_error: str | None = None  # the launch fails with this reason
    output: str = ""  # the log
    ignores_term: bool = False
    lost: bool = False  # the backend loses it
    by_attempt: dict[int, FakeScript] = field(default_factory=dict)
    by_index: dict[int, FakeScript] = field(default_factory=dict)


class JobSpec(Struct, frozen=True):
    """One job. `${{ }}` is expanded (but `${{ run.status }}` in `finally`), `Ref::` is not yet substituted."""

    key: str  # the job's name in the file; jobName
    queue: str
    command: tuple[str, ...]
    resources: Resources
    size: int | None = None  # None: a single; 0..10,000: an array
    needs: tuple[Need, ...] = ()
    sequential: bool = False
    max_running: int | None = None
    tolerate: int = 0  # children that may fail
    priority: int = 0
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, SecretSource], ...] = ()  # environment variable → source
    parameters: tuple[tuple[str, str], ...] = ()  # for Ref::
    items: tuple[str | dict[str, str], ...] = ()  # FLOWBATCH_ITEM…, one entry a child
    chunk: int = 1  # ⊕ items per child; above 1 the child gets FLOWBATCH_ITEMS_FILE
    workdir: str = ""  # absolute
    timeout_ms: int | None = None  # per attempt, from RUNNING
    stop_grace_ms: int = 30_000
    retry: RetryPolicy = RetryPolicy()
    tags: tuple[tuple[str, str], ...] = ()
    container: Container | None = None
    user: str | None = None
    fake: FakeScript | None = None
    tokens: Demand = ()  # consumable resources that each of its tasks holds while it runs
    definition: str = ""  # `name:revision` of the job definition it was made from; the name alone until it is submitted
    members: Members | None = None  # then `resources` is their sum, and what runs is theirs
    share: str | None = None  # shareIdentifier, in a queue with a fair-share policy

    @property
    def tasks(self) -> int:
        return 1 if self.size is None else self.size

    @property
    def kind(self) -> str:
        """The backend that a `local` environment chooses for it."""
        container = self.container if self.members is None else self.members.groups[0].parts[0].spec.container
        return "process" if container is None else "docker"

    @property
    def programs(self) -> list[JobSpec]:
        """All that is run for one task: itself, or what its nodes and containers run, those that are alike once."""
        if self.members is None:
            return [self]
        return [part.spec for group in self.members.groups for part in group.parts if not part.holder]

    @property
    def nodes(self) -> int | None:
        """Of a multi-node parallel job; None for every other."""
        return None if self.members is None else self.members.nodes


class Condition(StrEnum):
    """What a container's dependsOn waits for (aws-batch.md §6.6)."""

    START = "START"
    COMPLETE = "COMPLETE"  # it has ended, with whatever code
    SUCCESS = "SUCCESS"


class After(Struct, frozen=True):
    """An entry of a container's dependsOn."""

    part: int  # by its place in the node
    condition: Condition = Condition.START


class Part(Struct, frozen=True):
    """One container of a task or of a node, or the process in its place. Of its spec, what concerns a whole job is not read."""

    name: str  # unique in its node; empty where it is alone there
    spec: JobSpec
    essential: bool = True  # its end is the end of its node
    after: tuple[After, ...] = ()
    start_timeout_ms: int | None = None  # for `after` to come true
    holder: bool = False  # does nothing but hold the network that its node's containers share; nobody sees it


class NodeGroup(Struct, frozen=True):
    """Nodes that are alike: both ends are included. A task that has several containers is one node."""

    first: int
    last: int
    parts: tuple[Part, ...]
    share_ipc: bool = False  # ipcMode: task
    share_pid: bool = False


class Members(Struct, frozen=True):
    """What an attempt consists of where it is more than one process or container (aws-batch.md §6.6, §8)."""

    groups: tuple[NodeGroup, ...]  # all nodes in order, none twice: nested ranges are resolved
    nodes: int | None = None  # of a multi-node parallel job; None: one task of several containers
    main: int = 0  # the node whose end is the job's


_MANAGED: Final = EnvironmentType.MANAGED  # looked up once: placement asks for it dozens of times a turn


class Environment(Struct, frozen=True):
    """A compute environment. `capacity` is its maximum; of an UNMANAGED one it is nothing, and its nodes say what there is."""

    name: str  # unique in the engine
    backend: str  # local | process | docker | fake
    capacity: Resources
    enabled: bool = True
    title: str = ""  # AWS_BATCH_CE_NAME; the name where empty
    cpu: Cpu = Cpu.SHARES  # of containers that do not say themselves
    type: EnvironmentType = EnvironmentType.MANAGED
    spot: bool = False
    notice_ms: int = SPOT_NOTICE_MS  # of a Spot environment: between TERM and KILL when capacity is taken back
    min_vcpus_milli: int = 0  # kept for it, also while it is idle or DISABLED
    scale_down_ms: int = SCALE_DOWN_MS  # how long desiredvCpus stays after demand has fallen
    nodes: tuple[Node, ...] = ()
    share_vcpus_milli: int | None = (
        None  # unmanagedvCpus: what a computeReservation is a part of, instead of the nodes' sum
    )
    aws: str = ""  # what AWS's API was told beside all that, as JSON: shown there again, and nothing else comes of it

    @property
    def managed(self) -> bool:
        return self.type is _MANAGED

    def backend_of(self, spec: JobSpec) -> str | None:
        """The backend that would run the job here, or None where it cannot run."""
        if spec.members is not None and spec.members.nodes is not None and (self.spot or not self.managed):
            return None  # aws-batch.md §8.1
        if self.backend == "fake":
            return "fake"
        if self.backend == "local" or self.backend == spec.kind:
            return spec.kind
        return None

    def backend_at(self, spec: JobSpec, node: Node | None) -> str:
        """The backend that runs a job which is here; other jobs may have become welcome meanwhile."""
        kind = "fake" if self.backend == "fake" else spec.kind
        return kind if node is None else node.backend(kind)

    def engines(self) -> tuple[str, ...]:
        """The backends of its containers: of this machine, or of each node."""
        return ("docker",) if self.managed else tuple(node.backend("docker") for node in self.nodes)

    def runs_elsewhere(self) -> str | None:
        """Why its nodes are more than its backend can reach: processes run on this machine alone. None where they are not."""
        far = next((node for node in self.nodes if not node.here), None)
        if far is None or self.backend in ("docker", "fake"):
            return None
        return f"node {far.name} is elsewhere ({far.endpoint}), and only containers run there: the environment must have `backend: docker`"

    def rooms(self) -> tuple[Resources, ...]:
        """The largest amounts that one task may have here: the whole, or each node's."""
        return (self.capacity,) if self.managed else tuple(node.capacity for node in self.nodes)

    def total(self) -> Resources:
        return self.capacity if self.type is _MANAGED else sum_of(self.rooms())

    def largest(self) -> Resources:
        """The most of each kind that one task may have here, if not all at once."""
        rooms = self.rooms()
        return Resources(*(max((room[at] for room in rooms), default=0) for at in range(3)))

    def ever_fits(self, shape: Resources) -> bool:
        return any(shape.fits(room) for room in self.rooms())


class Queue(Struct, frozen=True):
    """A job queue. A higher priority is looked at first; environments are tried in order. One that is not enabled takes no
    submissions; what it has goes on to its end (aws-batch.md §9.1)."""

    name: str
    priority: int = 1
    environments: tuple[str, ...] = ("default",)
    enabled: bool = True
    max_running: int | None = None
    title: str = ""  # AWS_BATCH_JQ_NAME; the name where empty
    policy: FairShare | None = None  # None: FIFO
    limits: tuple[TimeLimit, ...] = ()
    policy_name: str = ""  # the stored scheduling policy that `policy` is a copy of; empty: its own, or FIFO
    orders: tuple[int, ...] = ()  # `order` of each environment, where AWS's API was told any


def title_of(name: str) -> str:
    """What people call an environment or a queue: of one that belongs to a run (`1a2b3c4d/farm`), what its file calls it."""
    return name.rpartition("/")[2]


class Stage(StrEnum):
    MAIN = "main"
    FINALLY = "finally"


class JobPlan(Struct, frozen=True):
    """A job about to be submitted. The id is made at the edge."""

    id: JobId
    spec: JobSpec
    stage: Stage = Stage.MAIN


class RunPlan(Struct, frozen=True):
    """A run about to be submitted: the workflow file, resolved. Needs name jobs of this plan (any order, no cycle)."""

    id: RunId
    workflow: str
    jobs: tuple[JobPlan, ...]
    file: str = ""  # absolute path of the workflow file
    source: str = ""  # its text, pinned with the run
    params: tuple[tuple[str, str | int | float | bool], ...] = ()
    deadline_ms: int | None = None  # wall time from the run's creation
    environments: tuple[Environment, ...] = ()  # the file's own
    queues: tuple[Queue, ...] = ()
    tokens: tuple[Token, ...] = ()  # the file's own, under names that are the run's
    definitions: tuple[Registration, ...] = ()  # the file's own, registered with the run; of a stored plan none
    origin: str = ""  # the file of a server's library that made it
    notify: tuple[Notify, ...] = ()  # sinks of this run alone


class RunFacts(Struct, frozen=True):
    """What a task may know of its run."""

    id: RunId
    workflow: str
    created_at: Millis
