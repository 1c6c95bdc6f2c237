"""The composition root: the only place where concrete classes meet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from flowbatch.backends.fake import FakeBackend
from flowbatch.backends.process import ProcessBackend
from flowbatch.clock import SystemClock
from flowbatch.core.machine import Machine
from flowbatch.core.recovery import rebuild
from flowbatch.core.state import Run
from flowbatch.engine import control
from flowbatch.engine.loop import Engine
from flowbatch.engine.orders import OrderDesk
from flowbatch.engine.verbs import Verbs
from flowbatch.folder import StateFolder, short_socket_path
from flowbatch.model.ids import RunId
from flowbatch.model.jobspec import Environment, Queue, RunPlan
from flowbatch.model.stimuli import Configure
from flowbatch.ports import Backend, Clock
from flowbatch.settings import Settings
from flowbatch.store.writer import SqliteStore

__all__ = ["App", "boot_id", "open_app", "pinned"]


@dataclass(frozen=True, slots=True)
class App:
    """A running engine, and the ways to it."""

    folder: StateFolder
    settings: Settings
    engine: Engine
    verbs: Verbs
    opened: Mapping[RunId, Run]  # what earlier lives left open; it may have ended meanwhile, while nobody looked


@asynccontextmanager
async def open_app(
    folder: StateFolder,
    settings: Settings,
    *,
    clock: Clock | None = None,
    hold_open_runs: bool = False,
    fake_only: bool = False,
) -> AsyncIterator[App]:
    """Holds the folder, opens the store, recovers, and runs the engine while the body runs.

    `hold_open_runs`: what earlier lives left open is adopted where it runs, but nothing of it starts until a Resume.
    `fake_only`: no process is ever started; every environment is taken for a fake one (`--dry-run`).
    Raises FolderHeld, StoreError; leaves running tasks alone when the body ends.
    """
    clock = clock or SystemClock()
    with folder.hold():
        store = await SqliteStore.open(folder.database, boot_id=boot_id(), pid=os.getpid(), now=clock.now())
        try:
            backends = make_backends(folder, settings, clock, fake_only=fake_only)
            enforcing = frozenset(name for name, backend in backends.items() if backend.caps.enforces_timeout)
            loaded = await store.load()
            state = rebuild(loaded, enforcing=enforcing, child_events=settings.child_events)
            for run in state.runs.values():
                run.held = hold_open_runs
            opened = dict(state.runs)
            desk = OrderDesk(folder.path, log_cap_bytes=settings.log_cap_bytes)
            engine = Engine(Machine(state), store, backends, desk, clock)
            engine.post(Configure(settings.environments, settings.queues))
            verbs = Verbs(engine)
            async with anyio.create_task_group() as tasks:
                await tasks.start(engine.run, name="engine")
                with short_socket_path(folder.socket) as socket:
                    await tasks.start(control.serve, socket, verbs, name="control socket")
                yield App(folder, settings, engine, verbs, opened)
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(10):  # the last commit may be in its fsync
                await store.close()
            folder.socket.unlink(missing_ok=True)


def make_backends(
    folder: StateFolder, settings: Settings, clock: Clock, *, fake_only: bool = False
) -> Mapping[str, Backend]:
    fake = FakeBackend(clock)
    if fake_only:
        return {"fake": fake}
    base_env = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWBATCH_", "AWS_BATCH_"))}
    return {"process": ProcessBackend(folder.supervisor, base_env), "fake": fake}


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def pinned(plan: RunPlan, environments: tuple[Environment, ...], queues: tuple[Queue, ...]) -> RunPlan:
    """The plan with every place that it can run in: a later life finds them, whatever its settings say.

    What the file itself declares belongs to this run alone and is named so (`1a2b3c4d/farm`, shown by its title): neither the
    settings nor another file may change its limits.
    """
    own_places = {place.name: f"{plan.id[:8]}/{place.name}" for place in plan.environments}
    own_queues = {queue.name: f"{plan.id[:8]}/{queue.name}" for queue in plan.queues}
    places = {
        place.name: replace(place, name=own_places.get(place.name, place.name), title=place.title or place.name)
        for place in (*environments, *plan.environments)
    }
    known = {queue.name: queue for queue in (*queues, *plan.queues)}
    used = [queue for name, queue in known.items() if name in {job.spec.queue for job in plan.jobs}]
    kept = tuple(
        replace(
            queue,
            name=own_queues.get(queue.name, queue.name),
            environments=tuple(own_places.get(name, name) for name in queue.environments),
            title=queue.title or queue.name,
        )
        for queue in used
    )
    jobs = tuple(
        replace(job, spec=replace(job.spec, queue=own_queues[job.spec.queue])) if job.spec.queue in own_queues else job
        for job in plan.jobs
    )
    names = {name for queue in used for name in queue.environments}
    return replace(
        plan, jobs=jobs, queues=kept, environments=tuple(place for name, place in places.items() if name in names)
    )


def detach(arguments: list[str], folder: StateFolder) -> subprocess.Popen[bytes]:
    """Starts this command again in the background, its output in the folder's engine.log."""
    folder.create()
    with folder.engine_log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "flowbatch", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
