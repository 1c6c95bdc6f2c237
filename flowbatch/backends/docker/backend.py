"""The port: takes orders, keeps one record an attempt, and answers with facts.

Nothing is imported for it, and no Engine is asked, before the first job needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from flowbatch.backends.docker.attempts import Attempt
from flowbatch.backends.docker.instance import instance_of
from flowbatch.backends.docker.logs import AttemptLog
from flowbatch.errors import BackendUnavailable
from flowbatch.model.ending import Halt
from flowbatch.model.ids import AttemptKey, RunId, log_name
from flowbatch.model.stimuli import Exited, Observation
from flowbatch.ports import Capabilities, Clock, Fact, Finding, LaunchOrder, Report

if TYPE_CHECKING:
    from flowbatch.backends.docker.api import Api
    from flowbatch.backends.docker.pulls import Pull
    from flowbatch.backends.docker.session import Session

FIND_EVERY_S: Final = 5.0  # an Engine that is not there
TIDY_S: Final = 5.0
ENDPOINT: Final = "endpoint"  # the file that says where this folder's Engine is, if it is another than this machine's


class DockerBackend:
    """`folder` is the backend's own below the state folder, `logs` where the attempts' logs lie."""

    def __init__(
        self,
        folder: Path,
        logs: Path,
        clock: Clock,
        *,
        log_cap_bytes: int,
        disk_free_mib: int | None = None,
        endpoint: str | None = None,
        name: str = "docker",
        api: Callable[[], Api] | None = None,
    ) -> None:
        self._name = name
        self._folder = folder
        self._mark = folder / "used"  # there may be containers of ours
        self._logs = logs
        self._clock = clock
        self._log_cap_bytes = log_cap_bytes
        self._disk_free_mib = disk_free_mib  # that has to be free before anything starts; None: the usual
        self._endpoint = endpoint
        self._api = api  # instead of one for the endpoint
        self._attempts: dict[AttemptKey, Attempt] = {}
        self._early: dict[
            AttemptKey, int
        ] = {}  # stops, by their grace, of what an engine before us left and is not found yet
        self._wanted = anyio.Event()
        self._session: Session | None = None
        self._ready = anyio.Event()
        self._report: Report | None = None
        self._tasks: TaskGroup | None = None
        self._trouble: str | None = None
        self._gone = anyio.Event()
        self._volumes_due: set[RunId] = set()
        self.pulls: dict[str, Pull] = {}  # those under way, for whoever shows progress

    @property
    def name(self) -> str:
        return self._name

    @property
    def caps(self) -> Capabilities:
        return Capabilities(
            durable_exit=True, reports_oom=True, enforces_timeout=False, logs_after_exit=True, group_network=True
        )

    @property
    def trouble(self) -> str | None:
        """Why nothing starts now, in one sentence; None where all is well or nothing is wanted."""
        if self._session is not None:
            return self._session.health.trouble or self._session.disk.trouble
        return self._trouble

    @property
    def duplicate_starts(self) -> int:
        return 0 if self._session is None else self._session.events.duplicate_starts

    async def check(self) -> list[Finding]:
        from flowbatch.backends.docker.checks import look

        return await look(self._endpoint, self._disk_free_mib)

    async def reach(self) -> None:
        """Raises BackendUnavailable, in one sentence, where no Engine answers now."""
        from flowbatch.backends.docker.api import Api
        from flowbatch.backends.docker.checks import reach
        from flowbatch.backends.docker.session import opened

        async with opened(Api(self._endpoint)) as api:
            await reach(api)

    def need(self) -> None:
        """An Engine will be asked from now on, also where nothing was launched yet."""
        self._wanted.set()

    @property
    def was_used(self) -> bool:
        """Whether an engine before us may have left containers."""
        return self._mark.exists()

    async def tidy(self) -> None:
        """Waits, not for long, until what is over is removed: what stays is found by the next engine."""
        with anyio.move_on_after(TIDY_S):
            while self._session is not None and self._session.health.trouble is None and self._untidy():
                self._gone = anyio.Event()
                await self._gone.wait()
            if self._session is not None and self._session.health.trouble is None:
                await self._session.networks.drop()

    def _untidy(self) -> bool:
        return bool(self._volumes_due) or any(each.forget and not each.later for each in self._attempts.values())

    # --- calls

    def launch(self, orders: Sequence[LaunchOrder]) -> None:
        for order in orders:
            if order.key in self._attempts:
                continue
            attempt = self._make(order.key, AttemptLog(order.log, order.log_cap_bytes))
            attempt.order = order
            self._attend(attempt)
        self.need()

    def stop(self, key: AttemptKey, grace_ms: int, why: Halt) -> None:
        attempt = self._attempts.get(key)
        if attempt is None:
            self._early[key] = min(grace_ms, self._early.get(key, grace_ms))
            return
        if attempt.fact is not None:
            return
        attempt.grace_ms = grace_ms if attempt.grace_ms is None else min(grace_ms, attempt.grace_ms)
        if attempt.waiting is not None:
            attempt.waiting.cancel()
        self._attend(attempt)

    def forget(self, keys: Sequence[AttemptKey]) -> None:
        for key in keys:
            attempt = self._attempts.get(key)
            if attempt is not None and attempt.fact is not None:
                attempt.forget = True
                self._attend(attempt)

    def waits_for(self, key: AttemptKey) -> str | None:
        attempt = self._attempts.get(key)
        if attempt is None or attempt.fact is not None:
            return None
        if self.trouble is not None:
            return f"Docker: {self.trouble}"
        if attempt.pulling is not None:
            pull = self.pulls.get(attempt.pulling)
            done = f" ({pull})" if str(pull or "") else ""
            return f"the pull of {attempt.pulling}{done}"
        return "its turn to be started" if attempt.waiting is not None else None

    def watch_log(self, key: AttemptKey) -> None:
        attempt = self._attempts.get(key)
        if attempt is not None and self._session is not None:
            self._session.readings.watch(attempt)

    def hold_ups(self) -> list[tuple[str, str]]:
        """What more than one attempt may wait for: (what, how far that is), in words that follow "waits for"."""
        found = [(f"the pull of {pull.image}", str(pull)) for pull in self.pulls.values()]
        if self.trouble is not None and any(each.fact is None for each in self._attempts.values()):
            found.append((f"Docker: {self.trouble}", ""))
        return found

    async def census(self) -> list[Observation]:
        """Waits for the Engine where it is away: what cannot be seen is not gone."""
        if not self._wanted.is_set() and not self.was_used:
            return []
        self.need()
        while True:
            await self._ready.wait()
            session = self._session
            if session is not None and await session.take_stock():
                self._early.clear()  # there is nothing that these could be about
                break
        return [observation(attempt) for attempt in self._attempts.values() if not attempt.forget]

    def drop_volumes(self, run: RunId) -> None:
        """The run is over: its named volumes go, but for those that are to be kept. Repeatable; may take a while."""
        if not self._wanted.is_set() and not self.was_used:
            return
        self.need()
        self._volumes_due.add(run)
        if self._session is not None:
            self._session.volumes_due()

    # --- the world

    async def run(self, report: Report, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        self._report = report
        task_status.started()
        await self._wanted.wait()
        await anyio.to_thread.run_sync(import_module, "flowbatch.backends.docker.session")  # half a second
        from flowbatch.backends.docker.session import opened

        async with opened(
            await self._find()
        ) as api:  # with nothing in between: what is open is closed, whenever we are told to end
            await self._work(api)

    async def _work(self, api: Api) -> None:
        from flowbatch.backends.docker.session import Session

        instance = await anyio.to_thread.run_sync(instance_of, self._folder)
        if self._endpoint is not None:
            (self._folder / ENDPOINT).write_text(self._endpoint + "\n", encoding="utf-8")
        self._mark.touch()
        async with anyio.create_task_group() as tasks:
            session = Session(
                api,
                instance,
                self._clock,
                self._attempts,
                tasks,
                self._tell,
                self._attend,
                self._found,
                self._told_pull,
                self._removed,
                self._disk_free_mib,
            )
            self._session, self._tasks = session, tasks
            try:
                session.start()
                for attempt in list(self._attempts.values()):
                    self._attend(attempt)
                self._ready.set()
                await session.drop_volumes(self._volumes_due)
            finally:
                api.hurry()
                self._session = self._tasks = None
                if not self._attempts and not self._volumes_due:
                    self._mark.unlink(missing_ok=True)

    async def _find(self) -> Api:
        """Looks again from time to time: the Engine may be installed, or its socket made, while we wait."""
        from flowbatch.backends.docker.api import Api

        while True:
            api = Api(self._endpoint) if self._api is None else self._api()
            try:
                api.open()
            except BackendUnavailable as error:
                self._trouble = str(error)
                await anyio.sleep(FIND_EVERY_S)
            else:
                return api

    def _removed(self) -> None:
        self._gone.set()

    def _tell(self, fact: Fact) -> None:
        if self._report is not None:
            self._report([fact])

    def _told_pull(self, pull: Pull) -> None:
        if pull.over:
            self.pulls.pop(pull.image, None)
        else:
            self.pulls[pull.image] = pull

    def _attend(self, attempt: Attempt) -> None:
        """Wakes the task that acts upon it, or starts one."""
        if attempt.busy:
            attempt.nudge()
        elif self._tasks is not None and self._session is not None:
            attempt.busy = True
            self._tasks.start_soon(self._session.follower.attend, attempt, name=f"container {attempt.key.id}")

    def _make(self, key: AttemptKey, log: AttemptLog) -> Attempt:
        attempt = self._attempts[key] = Attempt(key, "", log)
        return attempt

    def _found(self, key: AttemptKey) -> Attempt:
        """A container of an engine before us. A timeout that passed while no engine looked is due before we have found it."""
        attempt = self._make(key, AttemptLog(str(self._logs / log_name(key.id)), self._log_cap_bytes))
        attempt.grace_ms = self._early.pop(key, None)
        return attempt


def observation(attempt: Attempt) -> Observation:
    fact = attempt.fact
    if fact is None:
        return Observation(
            attempt.key, attempt.started_at, handle=attempt.id, address=attempt.address, image=attempt.image
        )
    began = fact.started_at if isinstance(fact, Exited) else None
    return Observation(attempt.key, began, fact.at, fact.evidence, attempt.id, image=attempt.image)
