"""Performs what a durable turn decided: hands launches, stops and forgets to the backends, in order, without waiting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from flowbatch.engine.orders import OrderDesk
from flowbatch.engine.secrets import SecretMissing, resolve
from flowbatch.model.effects import Effect, Forget, Launch, Stop
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import AttemptKey, Millis
from flowbatch.model.stimuli import LaunchFailed
from flowbatch.ports import Backend, Clock, LaunchOrder, Report


class Executor:
    """The only caller of the backends' launch, stop and forget."""

    def __init__(
        self, backends: Mapping[str, Backend], desk: OrderDesk, clock: Clock, report: Report, tasks: TaskGroup
    ) -> None:
        self._backends = backends
        self._desk = desk
        self._clock = clock
        self._report = report
        self._tasks = tasks
        self._resolving: dict[AttemptKey, bool] = {}  # secrets are being read; True: stopped meanwhile
        self._secret_readers = anyio.CapacityLimiter(4)

    def perform(self, effects: list[Effect]) -> None:
        """Never raises for what one attempt lacks: that is its LaunchFailed."""
        launches: defaultdict[str, list[LaunchOrder]] = defaultdict(list)
        forgets: defaultdict[str, list[AttemptKey]] = defaultdict(list)
        for effect in effects:
            if isinstance(effect, Launch):
                self._launch(effect, launches[effect.backend])
            elif isinstance(effect, Forget):
                forgets[effect.backend].append(effect.key)
            elif isinstance(effect, Stop):
                self._stop(effect, launches)
        for name, orders in launches.items():
            if orders:
                self._backends[name].launch(orders)
        for name, keys in forgets.items():
            self._backends[name].forget(keys)

    def _launch(self, launch: Launch, orders: list[LaunchOrder]) -> None:
        if launch.backend not in self._backends:
            self._fail(launch.key, f"CannotStartContainerError: this engine has no {launch.backend} backend")
            return
        try:
            order = self._desk.order(launch)
        except OSError as error:
            self._fail(launch.key, f"ResourceInitializationError: {error.filename}: {error.strerror}")
            return
        if launch.program.secrets:
            self._resolving[launch.key] = False
            self._tasks.start_soon(self._launch_with_secrets, launch, order, name=f"secrets of {launch.key.id}")
        else:
            orders.append(order)

    def _stop(self, stop: Stop, launches: Mapping[str, list[LaunchOrder]]) -> None:
        if stop.key in self._resolving:
            self._resolving[stop.key] = True
            return
        backend = self._backends.get(stop.backend)
        if backend is None:
            return
        orders = launches.get(stop.backend)
        if orders:  # a launch of the same turn goes first
            backend.launch(orders)
            orders.clear()
        backend.stop(stop.key, stop.grace_ms, stop.why)

    async def _launch_with_secrets(self, launch: Launch, order: LaunchOrder) -> None:
        try:
            values: dict[str, str] = {}
            for name, source in launch.program.secrets:
                values[name] = await anyio.to_thread.run_sync(
                    resolve, source, launch.program.workdir, limiter=self._secret_readers
                )
        except SecretMissing as error:
            del self._resolving[launch.key]
            self._fail(launch.key, f"ResourceInitializationError: secret {name}: {error}")
            return
        if self._resolving.pop(launch.key):
            self._report([LaunchFailed(launch.key, self._clock.now(), Evidence())])
            return
        self._backends[launch.backend].launch([replace(order, env={**order.env, **values})])

    def _fail(self, key: AttemptKey, reason: str) -> None:
        self._report([LaunchFailed(key, Millis(self._clock.now()), Evidence(start_error=reason))])
