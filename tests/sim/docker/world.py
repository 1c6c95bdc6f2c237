"""A world: from a seed its tasks and what goes wrong; an engine of ours in small that launches, dies and recovers; and the laws.

The laws, each with its clause in reliability.md §7: a task begins at most once an attempt, and no container twice (I1); an exit code on
record is the one that came to be, and what is lost was really taken (I5); every attempt ends, soon after the faults do (I8); in the end
nothing of ours is left and nobody else's is touched (I7); the log has what the Engine kept, once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio

from flowbatch.backends.docker.backend import DockerBackend
from flowbatch.backends.docker.ends import KILLS, UNSEEN
from flowbatch.backends.docker.instance import instance_of
from flowbatch.backends.docker.names import container_name
from flowbatch.model.container import Container
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.ids import AttemptKey, JobId, log_name
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Exited, LaunchFailed, Observation, Started
from flowbatch.ports import Fact, LaunchOrder
from tests.sim.docker.engine import Box, FakeEngine, Script
from tests.sim.docker.loop import LoopClock, play
from tests.sim.docker.wire import LATEST_S, Wire, WireApi

JOB: Final = JobId("5eed0000-0000-4000-8000-000000000000")
FAULTS_S: Final = 240.0  # within which everything goes wrong that will
PATIENCE_S: Final = 1200.0  # the longest task, outage and rounds, and something
CENSUS_S: Final = 30.0
GRACE_MS: Final = 5_000
WRONG_PULLS: Final = (
    "toomanyrequests: You have reached your pull rate limit",
    "net/http: TLS handshake timeout",
    "failed to register layer: no space left on device",
)


@dataclass(slots=True, eq=False)
class Row:
    """What is durable of an attempt."""

    key: AttemptKey
    order: LaunchOrder
    status: str = "waiting"  # starting | running | ended
    halted: bool = False
    boot: int = 0
    end: Evidence | None = None
    failed: bool = False  # its launch
    by_census: bool = False  # absent, and so lost
    changed: float = 0.0


@dataclass
class World:
    seed: int
    folder: Path
    trace: Callable[[str], None] | None = None
    rows: dict[AttemptKey, Row] = field(default_factory=dict)
    faults: int = 0

    def play(self) -> None:
        """Raises AssertionError where a law is broken."""
        play(self._live)

    # --- what will be

    async def _live(self) -> None:
        self.rng = random.Random(self.seed)
        self.clock = LoopClock()
        self.ends_at = anyio.current_time() + PATIENCE_S
        self.engine = FakeEngine(self.rng, anyio.current_time, self._at)
        self.engine.live_restore = self.rng.random() < 0.4
        self.engine.near = self.seed % 2 == 0
        self.rough = self.rng.choice((0.0, 0.02, 0.1, 0.25))
        self.wire = Wire(self.engine, self.rng, self.rough)
        self.instance = instance_of(self.folder / "docker")
        self.taken: set[str] = set()  # ids of containers removed by hand
        self.lives = 0
        for idx in range(self.rng.choice((1, 4, 9, 16))):
            self._plan(idx)
        self._plan_faults()
        async with anyio.create_task_group() as tasks:
            self.tasks = tasks
            await self._lives()
            tasks.cancel_scope.cancel()
        self._look_at_end()

    def _at(self, seconds: float, function: Callable[..., object], *arguments: object) -> None:
        async def later() -> None:
            await anyio.sleep(seconds)
            function(*arguments)

        self.tasks.start_soon(later)

    def _plan(self, idx: int) -> None:
        rng = self.rng
        key = AttemptKey(JOB, idx, 1)
        name = container_name(self.instance, key)
        script = Script(
            code=rng.choice((0, 0, 0, 1, 7, 137, 143)),
            duration_s=rng.choice((0.0, 0.01, 0.01, 1.0, 5.0, 40.0, 150.0)),
            start_error=rng.choice((126, 127, 128)) if rng.random() < 0.1 else None,
            oom=rng.random() < 0.1,
            deaf=rng.random() < 0.3,
            lines=rng.choice((0, 1, 5)),
        )
        self.engine.scripts[name] = script
        image = "here:1" if rng.random() < 0.7 else rng.choice(("far:1", "farther:1", "nowhere:1"))
        self.engine.images.add("here:1")
        self.engine.pulls = {image: rng.sample(WRONG_PULLS, rng.choice((0, 1, 2))) for image in ("far:1", "farther:1")}
        self.engine.pulls["nowhere:1"] = ["manifest for nowhere:1 not found: manifest unknown"] * 50
        order = order_of(key, self.folder, image)
        self.rows[key] = Row(key, order)

    def _plan_faults(self) -> None:
        rng = self.rng
        self.plan: list[tuple[float, str]] = []
        kinds = ("term", "kill", "hang", "crash", "crash", "take", "stop", "stop", "full", "stale", "reboot")
        for _ in range(rng.choice((0, 1, 2, 3, 5))):
            self.plan.append((rng.random() * FAULTS_S, rng.choice(kinds)))
        if rng.random() < 0.2:
            foreign = rng.choice(list(self.rows))
            name = container_name(self.instance, foreign)
            self.engine.boxes["foreign"] = Box("foreign", name, {}, Script(), status="running", started=1.0)
        self.foreign = self.engine.boxes.get("foreign")
        self.plan.sort()

    # --- lives

    async def _lives(self) -> None:
        for when, kind in self.plan:
            self._at(when, self._fault, kind)
        for row in self.rows.values():
            self._at(self.rng.random() * 60, self._want, row)
        while not self._over():
            self.lives += 1
            self.wire = Wire(self.engine, self.rng, self.rough)
            self.died = anyio.Event()
            await self._life()
            self.faults += self.wire.faults
            if self.died.is_set():
                self.wire.dead = True
                await anyio.sleep(self.rng.random() * 10)

    async def _life(self) -> None:
        self.backend = DockerBackend(
            self.folder / "docker", self.folder / "logs", self.clock, log_cap_bytes=1 << 20,
            api=lambda: WireApi(self.wire),
        )  # fmt: skip
        self.answered: dict[AttemptKey, list[Fact]] = {}
        self.launched: set[AttemptKey] = set()
        self.inbox: list[Fact] = []
        self.recovered = False
        life, wire = self.lives, self.wire
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda *, task_status: self.backend.run(self._report(life), task_status=task_status))
            self.backend.need()
            tasks.start_soon(self._keep_census)
            tasks.start_soon(self._keep_looking)
            await self.died.wait()
            if not self._over():
                wire.dead = True
                wire.cut()
            tasks.cancel_scope.cancel()

    async def _keep_looking(self) -> None:
        """Ends the life when all is done, and says so when that takes too long."""
        while not self._over():
            assert anyio.current_time() < self.ends_at, (
                f"still open: {[row for row in self.rows.values() if row.end is None]}"
            )
            await anyio.sleep(1)
        latest = LATEST_S if self.rough else 0.0
        await anyio.sleep(latest + CENSUS_S * 2)  # what came late is found by a census
        for row in self.rows.values():
            self.backend.forget([row.key])
        await self.backend.tidy()
        await anyio.sleep(CENSUS_S)
        self.died.set()

    async def _keep_census(self) -> None:
        while True:
            asked = anyio.current_time()
            census = await self.backend.census()
            self._reconcile({each.key: each for each in census}, asked)
            self.recovered = True
            await anyio.sleep(CENSUS_S)

    def _reconcile(self, census: dict[AttemptKey, Observation], asked: float) -> None:
        """core/recovery in small (design.md §9)."""
        for row in self.rows.values():
            seen = census.get(row.key)
            if row.status == "ended":
                if seen is not None:
                    self.backend.forget([row.key])
            elif row.changed > asked or row.status == "waiting":
                continue
            elif seen is None and row.key in self.launched:
                assert row.status == "running", f"{row.key.id}: launched in this life, and its census knows nothing"
                self._end(row, Evidence(lost=True), by_census=True)
            elif seen is None and row.status == "starting" and not self.recovered and row.boot == self.engine.boot:
                self._launch(row)
            elif seen is None:
                self._end(row, Evidence(lost=True), by_census=True)
            elif seen.evidence is not None:
                self._end(row, seen.evidence)
            elif seen.started_at is not None:
                row.status = "running"
                if row.halted:
                    self.backend.stop(row.key, GRACE_MS, Halt.TERMINATE)

    def _want(self, row: Row) -> None:
        """Its attempt is durable; the backend hears of it now, or in the next life."""
        if self.died.is_set() or not self.recovered:
            self._at(1, self._want, row)
            return
        row.status, row.boot, row.changed = "starting", self.engine.boot, anyio.current_time()
        self._launch(row)

    def _launch(self, row: Row) -> None:
        self.launched.add(row.key)
        self.backend.launch([row.order])
        if row.halted:
            self.backend.stop(row.key, GRACE_MS, Halt.TERMINATE)

    def _report(self, life: int) -> Callable[[Sequence[Fact]], None]:
        def report(facts: Sequence[Fact]) -> None:
            for fact in facts:
                self._note(f"{fact}")
                told = self.answered.setdefault(fact.key, [])
                told.append(fact)
                kinds = [type(each) for each in told]
                assert kinds in ([LaunchFailed], [Started], [Started, Exited], [Exited]), f"{fact.key.id}: {told}"
            self.inbox += facts
            self._at(self.rng.choice((0.0, 0.05)), self._commit, life)  # which takes its time

        return report

    def _commit(self, life: int) -> None:
        if life != self.lives or self.died.is_set():
            return  # lost with the engine
        facts, self.inbox = self.inbox, []
        for fact in facts:
            row = self.rows[fact.key]
            if row.status == "ended":
                continue
            row.changed = anyio.current_time()
            if isinstance(fact, Started):
                row.status = "running"
            else:
                row.failed = isinstance(fact, LaunchFailed)
                self._end(row, fact.evidence)

    def _end(self, row: Row, evidence: Evidence, *, by_census: bool = False) -> None:
        row.status, row.end, row.by_census, row.changed = "ended", evidence, by_census, anyio.current_time()
        self._look_at_row(row)
        self.backend.forget([row.key])

    def _over(self) -> bool:
        return all(row.status == "ended" for row in self.rows.values())

    def _note(self, text: str) -> None:
        if self.trace is not None:
            self.trace(f"{anyio.current_time() - self.ends_at + PATIENCE_S:8.2f}  {text}")

    # --- faults

    def _fault(self, kind: str) -> None:
        rng, engine, wire = self.rng, self.engine, self.wire
        if self._over():
            return
        self._note(f"--- {kind}")
        self.faults += 1
        match kind:
            case "term" | "kill" if engine.up and not wire.hung:
                engine.go_down(kill=kind == "kill")
                wire.cut()
                self._at(rng.choice((0.5, 5.0, 25.0)), self._back)
            case "hang" if engine.up and not wire.hung:
                wire.hang()
                self._at(rng.choice((1.0, 10.0, 60.0)), wire.go_on)
            case "crash":
                self.died.set()
            case "reboot" if engine.up and not wire.hung:
                engine.crash_machine()
                wire.cut()
                self.died.set()
                self._at(rng.random() * 5, self._back)
            case "take":
                for box in engine.running()[:2]:
                    row = self._row_of(box)
                    if row is not None and row.status == "running":  # one whose start is not durable is launched again
                        self.taken.add(box.id)
                        engine.force_away(box)
            case "stop":
                row = rng.choice(list(self.rows.values()))
                if row.status in ("starting", "running") and not row.halted:
                    row.halted = True
                    if self.recovered and not self.died.is_set():
                        self.backend.stop(row.key, GRACE_MS, Halt.TERMINATE)
            case "full":
                engine.full = engine.stale = True
                self._at(rng.choice((5.0, 40.0)), self._room)
            case "stale":
                engine.stale = True

    def _back(self) -> None:
        if not self.engine.up:
            self.engine.come_up()

    def _room(self) -> None:
        self.engine.full = False

    def _row_of(self, box: Box) -> Row | None:
        return next((row for row in self.rows.values() if container_name(self.instance, row.key) == box.name), None)

    # --- laws

    def _boxes_of(self, row: Row) -> list[Box]:
        name = container_name(self.instance, row.key)
        return [
            box
            for box in (*self.engine.boxes.values(), *self.engine.gone)
            if box.name == name and box is not self.foreign
        ]

    def _look_at_row(self, row: Row) -> None:
        evidence = row.end
        assert evidence is not None
        name, boxes = row.key.id, self._boxes_of(row)
        begun = [box for box in boxes if box.starts]
        # What was in the daemon's socket when the engine was killed may come after all has been looked at (docker-engine.md §2).
        haunted = container_name(self.instance, row.key) in self.engine.haunted
        assert len(begun) <= 1 or haunted, f"{name}: {len(begun)} containers of it began"
        assert all(box.starts == 1 for box in begun), f"{name}: a container began twice"
        if row.failed and not begun:
            self._look_at_refusal(row, boxes)
            return
        if evidence == UNSEEN:
            assert self.rough, f"{name}: nothing was late, and it went unseen"
            assert begun, f"{name}: it never began, and went unseen"
            return
        assert not row.failed, f"{name}: its launch failed, says the backend, but it began: {evidence}"
        if not begun:
            assert evidence.lost or evidence.start_error, f"{name}: it never began, and ended with {evidence}"
            if evidence.lost:
                assert row.boot != self.engine.boot, f"{name}: lost, and it never was"
            return
        box = begun[-1]
        script = self.engine.scripts[box.name]
        assert box.status == "exited", f"{name}: it runs, and {evidence}"
        if evidence.lost:
            own_code = box.ended_by == "itself" and box.code in KILLS  # which nobody could tell from a kill
            taken = box.id in self.taken or box.ended_by in ("daemon", "host")
            assert taken or own_code or haunted, f"{name}: lost, but {box.ended_by} ended it with {box.code}"
            return
        assert evidence.exit_code == box.code, f"{name}: {evidence.exit_code} on record, it was {box.code}"
        # Of versions that say 0 (D18) a second restart, before anybody has looked, hides the first.
        hidden = box.code == 0 and box.finished is not None and box.finished < self.engine.booted
        assert box.ended_by != "host" or hidden, f"{name}: the machine took it, and {evidence}"
        assert box.ended_by != "daemon" or row.halted, f"{name}: the daemon took it, and {evidence}"
        assert box.ended_by != "somebody" or row.halted, f"{name}: it was removed by hand, and {evidence}"
        if box.code and box.ended_by == "itself":
            assert evidence.oom == script.oom, f"{name}: {evidence}"

    def _look_at_refusal(self, row: Row, boxes: list[Box]) -> None:
        """Nothing of its name may be there that could still begin; and no job fails because the Engine does not answer."""
        evidence, name = row.end, row.key.id
        assert evidence is not None
        left = [box for box in boxes if box.id in self.engine.boxes and box.status == "created" and not box.error]
        assert not left or self.rough, f"{name}: its launch failed, and it could begin yet"
        script = self.engine.scripts[container_name(self.instance, row.key)]
        if evidence.start_error is None:
            assert row.halted, f"{name}: nobody stopped it, and it was not started"
        elif evidence.exit_code is not None:
            assert evidence.exit_code == script.start_error, f"{name}: {evidence}"
        elif "not flowbatch's" in evidence.start_error:
            assert self.foreign is not None, f"{name}: {evidence}"
        else:
            image = row.order.container.image if row.order.container is not None else ""
            absent = image == "nowhere:1" and "manifest unknown" in evidence.start_error
            tired = self.rough >= 0.1 and evidence.start_error.startswith("CannotCreate")  # it failed time and again
            assert absent or tired, f"{name}: {evidence}"

    def _look_at_end(self) -> None:
        assert self.engine.forced == 0, "something was removed by force"
        left = [box for box in self.engine.boxes.values() if box is not self.foreign]
        assert not left, f"left behind: {left}"
        if self.foreign is not None:
            assert self.engine.boxes.get("foreign") is self.foreign, "a container of others was removed"
            assert self.foreign.ended_by != "us", "a container of others was stopped"
        for row in self.rows.values():
            self._look_at_log(row)

    def _look_at_log(self, row: Row) -> None:
        if container_name(self.instance, row.key) in self.engine.haunted:
            return  # it may have run once more, where nobody follows it
        path = Path(row.order.log)
        found = [line.split(" ", 2)[2] for line in path.read_text().splitlines()] if path.exists() else []
        said = [text for box in self._boxes_of(row) for _, text in box.said]
        if row.end is not None and row.end.lost:
            assert found == said[: len(found)], f"{row.key.id}: its log has {found}, it said {said}"
        else:
            assert found == said, f"{row.key.id}: its log has {found}, it said {said}"


def order_of(key: AttemptKey, folder: Path, image: str) -> LaunchOrder:
    return LaunchOrder(
        key, ("do",), {}, "/", Resources(), str(folder / "logs" / log_name(key.id)), 1 << 20, None, GRACE_MS,
        container=Container(image, network="none"),
    )  # fmt: skip
