"""The engine's memory: mutable, owned by the Machine alone, and always what `rebuild(store.load())` would make.

An array is compact. `Job.cells` has a byte a child: its status in the low three bits, and ROW where the child has a TaskRow of
its own. Children without one rest: all of them are in the status `Job.rest`, so that submitting, releasing or cancelling
10,000 waiting children is one `bytes.translate` here and one row in the store. Counts are kept as it goes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from flowbatch.core.capacity import EnvironmentState, NodeState
from flowbatch.core.definitions import Revisions
from flowbatch.core.host import Host
from flowbatch.core.members import Crew, Layout, layout_of
from flowbatch.core.queues import QueueState
from flowbatch.core.ready import Entry
from flowbatch.core.timers import Timers
from flowbatch.core.tokens import TokenBook
from flowbatch.errors import InvalidTransition
from flowbatch.model.access import KeyRow, PolicyRow
from flowbatch.model.ending import Halt
from flowbatch.model.events import ChildEvents
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId
from flowbatch.model.jobspec import Environment, JobSpec, Queue, RunFacts, RunPlan, Stage, When
from flowbatch.model.places import is_of_run
from flowbatch.model.queues import FairShare
from flowbatch.model.resources import Resources
from flowbatch.model.rows import EnvironmentRow, HeadRow, QueueRow, UsageRow
from flowbatch.model.status import FAILED, SUCCEEDED, TRANSITIONS, RunStatus, Status

__all__ = ["ROW", "Edge", "EnvironmentState", "Job", "Live", "Odd", "Run", "State"]

ROW: Final = 8  # the child has left its job's rest: a TaskRow says how it stands
LEGAL: Final = frozenset(old * 8 + new for old, new in TRANSITIONS)


@dataclass(slots=True, eq=False)
class Run:
    no: int
    plan: RunPlan  # without its jobs
    created_at: Millis
    status: RunStatus = RunStatus.RUNNING
    stage: Stage = Stage.MAIN
    stop: Halt = Halt.NONE
    cancelled: bool = False
    generation: int = 0
    status_reason: str | None = None
    deadline_at: Millis | None = None
    finally_at: Millis | None = None
    stopped_at: Millis | None = None
    child_events: ChildEvents = ChildEvents.NONE  # of this run: what the settings say, and its own sinks
    held: bool = False  # interrupted earlier and not resumed in this life: nothing of it starts
    jobs: list[Job] = field(default_factory=list)
    open_main: int = 0  # jobs of the main stage that are not terminal
    open_finally: int = 0
    failed: int = 0  # FAILED jobs
    id: RunId = field(init=False)
    facts: RunFacts = field(init=False)

    def __post_init__(self) -> None:
        self.id = self.plan.id
        self.facts = RunFacts(self.id, self.plan.workflow, self.created_at)

    @property
    def workflow(self) -> str:
        return self.plan.workflow


class Odd(Struct):
    """What sets a task apart from a fresh one; kept only while it is needed."""

    base: int = 0  # attempts that do not count
    lost: int = 0  # free losses so far
    memory_mib: int = 0  # grown by a rule; 0: as the spec says
    not_before: Millis | None = None  # RUNNABLE: a retry waits for its backoff
    cancelled: bool = False  # by its index, while it ran


class Live(Struct, eq=False):
    """An attempt that holds capacity: STARTING or RUNNING."""

    key: AttemptKey
    job: Job
    queue: QueueState
    environment: EnvironmentState
    node: NodeState | None
    backend: str
    resources: Resources
    life: int
    changed: int  # the turn that changed it last
    status: Status = Status.STARTING
    halt: Halt = Halt.NONE
    halt_reason: str | None = None
    started_at: Millis | None = None
    stop_told: bool = False  # in this life: a stop of an earlier one may have been lost with it
    crew: Crew | None = None  # of several nodes or containers

    def grace_ms(self, spec: JobSpec) -> int:
        """Between TERM and KILL: of the job, or the notice that Spot gives."""
        spot = self.environment.spec.spot and self.halt is Halt.RECLAIM
        return self.environment.spec.notice_ms if spot else spec.stop_grace_ms


class Edge(Struct, eq=False):
    """A dependant of a job, and how it needs it."""

    job: Job
    when: When
    each: bool
    index: int | None = None  # this child of the source alone


@dataclass(slots=True, eq=False)
class Job:
    no: int
    id: JobId
    spec: JobSpec
    run: Run | None
    stage: Stage
    created_at: Millis
    status: Status = Status.SUBMITTED
    rest: Status = Status.PENDING
    rest_reason: str | None = None
    rest_at: Millis | None = None
    generation: int = 0
    cancelled: bool = False
    terminated: bool = False
    skipped: bool = False
    status_reason: str | None = None
    started_at: Millis | None = None
    stopped_at: Millis | None = None
    cells: bytearray = field(default_factory=bytearray)
    attempts: array[int] = field(default_factory=lambda: array("H"))
    counts: list[int] = field(default_factory=lambda: [0] * 7)
    odd: dict[int, Odd] = field(default_factory=dict)
    unmet: int = 0  # needs of the whole job that are not satisfied yet, the gate of `finally` included
    sources: list[tuple[Job, When]] = field(default_factory=list)  # N_TO_N
    wholes: list[tuple[Job, When]] = field(default_factory=list)
    singles: list[tuple[Job, int]] = field(default_factory=list)  # children of arrays that must succeed
    dependants: list[Edge] = field(default_factory=list)
    per_child: bool = False  # somebody waits for single children of it
    shelved: bool = False  # it has no run, and this life serves nobody: nothing of it starts
    running: int = 0  # live children
    parked: dict[Resources, list[Entry]] = field(default_factory=dict)  # held back by max_running
    judged: int = 0  # against the places of that edition (blocked.py)
    blocked: str | None = None  # why it can never start as the places are now
    told: str | None = None  # that, once an event has told of it
    tasks: int = field(init=False)
    array: bool = field(init=False)
    layout: Layout | None = field(init=False)  # of each attempt's members

    def __post_init__(self) -> None:
        self.layout = layout_of(self.spec)
        self.tasks = self.spec.tasks
        self.array = self.spec.size is not None

    @property
    def key(self) -> str:
        return self.spec.key

    @property
    def size(self) -> int | None:
        """None: a single."""
        return self.spec.size

    @property
    def held(self) -> bool:
        """Nothing of it starts in this life, or until its run is resumed."""
        return self.shelved if self.run is None else self.run.held

    def status_of(self, index: int) -> int:
        return self.cells[index] & 7

    def resources_of(self, index: int) -> Resources:
        odd = self.odd.get(index)
        if odd is None or not odd.memory_mib:
            return self.spec.resources
        return self.spec.resources._replace(memory_mib=odd.memory_mib)

    def oddity(self, index: int) -> Odd:
        odd = self.odd.get(index)
        if odd is None:
            odd = self.odd[index] = Odd()
        return odd

    def move(self, index: int, new: Status) -> None:
        """One task changes its status and leaves the rest. Raises InvalidTransition."""
        old = self.cells[index] & 7
        if old * 8 + new not in LEGAL:
            raise InvalidTransition(f"{self.spec.key}:{index} ({self.id}): {Status(old).name} → {new.name}")
        self.counts[old] -= 1
        self.counts[new] += 1
        self.cells[index] = new | ROW

    def move_resting(self, new: Status) -> int:
        """All resting children change their status together and go on resting; returns how many they are."""
        old = self.rest
        count = self.cells.count(old)
        if count and old * 8 + new not in LEGAL:
            raise InvalidTransition(f"{self.spec.key} ({self.id}): {old.name} → {new.name}, {count} resting children")
        self.cells = self.cells.translate(bytes.maketrans(bytes([old]), bytes([new])))
        self.counts[old] -= count
        self.counts[new] += count
        self.rest = new
        return count

    def resting(self) -> int:
        return self.cells.count(self.rest)

    def ended(self) -> bool:
        return self.counts[SUCCEEDED] + self.counts[FAILED] == len(self.cells)


@dataclass(slots=True, eq=False)
class State:
    life: int = 1
    same_boot_since: int = 1
    turn: int = 0
    next_run: int = 1
    next_job: int = 1
    draining: bool = False
    runs: dict[RunId, Run] = field(default_factory=dict)
    jobs: dict[JobId, Job] = field(default_factory=dict)
    live: dict[tuple[JobId, int], Live] = field(default_factory=dict)  # by TaskKey, or what equals it: key[:2]
    environments: dict[str, EnvironmentState] = field(default_factory=dict)
    queues: dict[str, QueueState] = field(default_factory=dict)
    definitions: dict[str, Revisions] = field(default_factory=dict)
    host: Host = field(default_factory=Host)
    leaving: set[str] = field(default_factory=set)  # environments and queues that are UPDATING or DELETING
    deleted_environments: dict[str, EnvironmentRow] = field(default_factory=dict)  # which the settings still declare
    deleted_queues: dict[str, QueueRow] = field(default_factory=dict)
    keys: dict[str, KeyRow] = field(default_factory=dict)
    policies: dict[str, PolicyRow] = field(default_factory=dict)
    scheduling: dict[str, FairShare] = field(default_factory=dict)  # stored scheduling policies, by name
    tokens: TokenBook = field(default_factory=TokenBook)
    timers: Timers = field(default_factory=Timers)
    reserve_at: Millis | None = None  # when somebody will have waited long enough for a reservation: a timer is set
    place_wanted: bool = False  # something became ready, or capacity came free
    enforcing: frozenset[str] = frozenset()  # backends that enforce timeouts themselves
    networking: frozenset[str] = frozenset()  # backends that give each node an address of its own
    slots: set[int] = field(default_factory=set)  # of addresses, held by live attempts of several nodes
    child_events: ChildEvents = ChildEvents.NONE
    edition: int = 1  # of environments and queues: another one may block, or free, what waits
    judged: int = 0  # the edition that everything has been judged against
    past_usage: dict[str, list[UsageRow]] = field(default_factory=dict)  # of queues that have not come yet
    past_heads: dict[str, HeadRow] = field(default_factory=dict)

    def queue_of(self, job: Job) -> QueueState:
        return self.queues[job.spec.queue]

    def add_places(self, environments: Iterable[Environment], queues: Iterable[Queue]) -> None:
        """Adds what is not there yet; what is there holds."""
        added = False
        for environment in environments:
            if environment.name not in self.environments:
                self.environments[environment.name] = EnvironmentState(spec=environment, declared=environment)
                added = True
        for queue in queues:
            if queue.name not in self.queues:
                self.add_queue(QueueState(queue, declared=queue))
                added = True
        if added:
            self.places_changed()

    def ever_fits(self, environment: EnvironmentState, shape: Resources) -> bool:
        """Whether a task of this shape could run there if nothing else did."""
        return self.host.capped(self.environments, environment.spec).ever_fits(shape)

    def drop_places(self, plan: RunPlan) -> None:
        """What belonged to a run goes with it."""
        environments = [each.name for each in plan.environments if is_of_run(each.name)]
        queues = [each.name for each in plan.queues if is_of_run(each.name)]
        for name in environments:
            self.environments.pop(name, None)
        for name in queues:
            self.queues.pop(name, None)
        if environments or queues:
            self.places_changed()

    def add_queue(self, queue: QueueState) -> None:
        """With what an earlier life has stored of it."""
        self.queues[queue.spec.name] = queue
        if queue.fair is not None:
            queue.fair.restore(self.past_usage.pop(queue.spec.name, ()))
        queue.stuck = self.past_heads.pop(queue.spec.name, None)

    def places_changed(self) -> None:
        """After every change of an environment or a queue that jobs may wait for: it may block them, or free them."""
        self.host.survey(self.environments.values())
        self.edition += 1
        self.place_wanted = True

    def places_of(self, job: Job) -> Iterator[tuple[EnvironmentState, str]]:
        """The environments that could run the job, in the order of its queue, each with the backend for it."""
        for name in self.queue_of(job).spec.environments:
            environment = self.environments.get(name)
            if environment is not None:
                backend = environment.spec.backend_of(job.spec)
                if backend is not None:
                    yield environment, backend
