"""The composition root: the only place where concrete classes meet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from msgspec import Struct

from flowbatch import logs
from flowbatch.backends.docker.engines import Engines
from flowbatch.backends.fake import FakeBackend
from flowbatch.backends.process import ProcessBackend
from flowbatch.backends.process_start import Starting
from flowbatch.clock import SystemClock
from flowbatch.core.machine import Machine
from flowbatch.core.recovery import rebuild
from flowbatch.core.state import Run, State
from flowbatch.engine import control
from flowbatch.engine.loop import Engine, nowhere
from flowbatch.engine.orders import OrderDesk
from flowbatch.engine.verbs import Verbs
from flowbatch.errors import BackendUnavailable
from flowbatch.folder import StateFolder, short_socket_path
from flowbatch.model.ids import RunId
from flowbatch.model.jobspec import RunPlan
from flowbatch.model.outcome import Outcome
from flowbatch.model.status import RunStatus
from flowbatch.notices import Notices
from flowbatch.ports import Backend, Clock, Store
from flowbatch.settings import Settings, configuration
from flowbatch.store.writer import SqliteStore

PASSED_ON: Final = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "TZ", "USER"})  # to the processes of others


class App(Struct, frozen=True):
    """A running engine, and the ways to it."""

    folder: StateFolder
    settings: Settings
    engine: Engine
    verbs: Verbs
    hold_ups: Callable[[], list[tuple[str, str]]]  # what all containers wait for now, and how far that is
    notices: Notices
    opened: Mapping[RunId, Run]  # what earlier lives left open; it may have ended meanwhile, while nobody looked


@asynccontextmanager
async def open_app(
    folder: StateFolder,
    settings: Settings,
    *,
    clock: Clock | None = None,
    hold_open_runs: bool = False,
    fake_only: bool = False,
    durable: bool = True,
    starting: Starting | None = None,
    for_others: bool = False,
) -> AsyncIterator[App]:
    """Holds the folder, opens the store, recovers, and runs the engine while the body runs.

    `hold_open_runs`: what earlier lives left open is adopted where it runs, but nothing of it starts until a Resume.
    `fake_only`: no process is ever started; every environment is taken for a fake one (`--dry-run`).
    `durable`: off, a turn is on disk only at the end: for a folder that is thrown away.
    `starting`: the supervisor, where it was started ahead of us.
    `for_others`: processes get little of our own environment (semantics.md 24).
    Raises FolderHeld, StoreError; leaves running tasks alone when the body ends.
    """
    clock = clock or SystemClock()
    with folder.hold():
        sqlite = await SqliteStore.open(folder.database, boot_id=boot_id(), pid=os.getpid(), now=clock.now())
        store = sqlite if durable else gathering(sqlite)
        try:
            engines = None if fake_only else make_engines(folder, settings, clock)
            backends = make_backends(folder, clock, engines, starting=starting, for_others=for_others)
            enforcing = frozenset(name for name, backend in backends.items() if backend.caps.enforces_timeout)
            loaded = await store.load()
            networking = frozenset(name for name, backend in backends.items() if backend.caps.group_network)
            state = rebuild(loaded, enforcing=enforcing, networking=networking, child_events=settings.children_logged)
            for run in state.runs.values():
                run.held = hold_open_runs
            for job in state.jobs.values():
                job.shelved = hold_open_runs and job.run is None
            if engines is not None:
                backends |= elsewhere(engines, state)
                for name in {live.backend for live in state.live.values()}:
                    engines.need(name)
            opened = dict(state.runs)
            desk = OrderDesk(folder.path, log_cap_bytes=settings.log_cap_bytes)
            more = nowhere if engines is None else engines.elsewhere
            engine = Engine(Machine(state), store, backends, desk, clock, more)
            engine.post(configuration(settings))
            verbs = Verbs(engine)
            async with anyio.create_task_group() as tasks:
                await tasks.start(engine.run, name="engine")
                with short_socket_path(folder.socket) as socket:
                    await tasks.start(control.serve, socket, verbs, name="control socket")
                if engines is not None:
                    engine.observe(partial(drop_volumes, engines))
                notices = Notices(folder.database, sqlite.instance, settings, engine, clock)
                verbs.table["try_receivers"] = notices.try_now
                if durable:
                    await notices.start(tasks, loaded.sinks, known=loaded.any_sink)
                try:
                    yield App(folder, settings, engine, verbs, partial(hold_ups, engine, engines), notices, opened)
                    await notices.stop()
                finally:
                    with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                        await notices.close()
                if engines is not None:
                    await engines.tidy()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(10):  # the last commit may be in its fsync
                await store.close()
            folder.socket.unlink(missing_ok=True)


def hold_ups(engine: Engine, engines: Engines | None) -> list[tuple[str, str]]:
    """What everything waits for, and what containers do."""
    full = [("room on the disk", "(nothing new starts, what runs goes on)")] if engine.full_since is not None else []
    return full + (engines.hold_ups() if engines is not None else [])


def gathering(store: SqliteStore) -> Store:
    from flowbatch.store.gathering import GatheringStore

    return GatheringStore(store)


def make_engines(folder: StateFolder, settings: Settings, clock: Clock) -> Engines:
    return Engines(
        folder.docker, folder.logs, clock, log_cap_bytes=settings.log_cap_bytes, disk_free_mib=settings.disk_free_mib
    )


def make_backends(
    folder: StateFolder,
    clock: Clock,
    engines: Engines | None,
    *,
    starting: Starting | None = None,
    for_others: bool = False,
) -> dict[str, Backend]:
    """Without `engines` the fake one alone."""
    fake = FakeBackend(clock)
    if engines is None:
        return {"fake": fake}
    base_env = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWBATCH_", "AWS_BATCH_"))}
    if for_others:
        base_env = {name: value for name, value in base_env.items() if name in PASSED_ON or name.startswith("LC_")}
    return {
        "process": ProcessBackend(folder.supervisor, base_env, starting),
        "docker": engines.here,
        "fake": fake,
    }


def elsewhere(engines: Engines, state: State) -> dict[str, Backend]:
    """Of nodes that are registered: what an earlier life left there is found again."""
    nodes = (node for environment in state.environments.values() for node in environment.spec.nodes if not node.here)
    names = {live.backend for live in state.live.values()} | {node.backend("docker") for node in nodes}
    found = {name: engines.elsewhere(name) for name in names}
    return {name: engine for name, engine in found.items() if engine is not None}


def drop_volumes(engines: Engines, outcome: Outcome) -> None:
    """Those of a run that failed stay, for its retry, until `gc` takes the run."""
    for row in outcome.writes.runs.values():
        if row.status is RunStatus.SUCCEEDED:
            engines.drop_volumes(row.id)


async def reach_engines(folder: StateFolder, settings: Settings, plan: RunPlan) -> None:
    """Raises BackendUnavailable where the run (pinned) has containers and no Engine answers: better now than after half of it."""
    queues = {queue.name: queue for queue in plan.queues}
    places = {place.name: place for place in plan.environments}
    engines = make_engines(folder, settings, SystemClock())
    answered: dict[str, bool] = {}
    for spec in (job.spec for job in plan.jobs if job.spec.kind == "docker"):
        names = queues[spec.queue].environments if spec.queue in queues else ()
        able = [places[name] for name in names if name in places and places[name].backend_of(spec) == "docker"]
        wanted = list(dict.fromkeys(name for place in able for name in place.engines()))
        if wanted and not any(answered.get(name) for name in wanted):
            answered |= await answers(engines, wanted)


async def answers(engines: Engines, names: Iterable[str]) -> dict[str, bool]:
    """Which of these do; one is enough to begin with. Raises BackendUnavailable where none does."""
    failures: list[BackendUnavailable] = []
    for name in names:
        engine = engines.here if name == engines.here.name else engines.elsewhere(name)
        if engine is None:
            continue
        try:
            await engine.reach()
        except BackendUnavailable as error:
            failures.append(error)
        else:
            return {name: True}
    raise failures[0]


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def detach(arguments: list[str], folder: StateFolder) -> tuple[subprocess.Popen[bytes], int]:
    """Starts this command again in the background, its output in the folder's engine.log; also where in it that begins."""
    folder.create()
    with logs.opened(folder.engine_log) as out:
        begin = os.fstat(out.fileno()).st_size
        child = subprocess.Popen(
            [sys.executable, "-m", "flowbatch", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        return child, begin
