"""`/healthz`, `/readyz` and `/metrics`: for whoever watches the server. They say nothing of any job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from pydantic_core import to_json

from flowbatch.http.failures import Failure
from flowbatch.model.status import Status

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from flowbatch.http.server import Plain, Server
    from flowbatch.http.service import Service
    from flowbatch.store.outbox import Meters


class NotReady(Failure):
    status = 503
    code = "ServiceUnavailableException"


class Health:
    def __init__(self, service: Service, database: Path, receivers: Callable[[], Iterable[str]]) -> None:
        """`receivers`: names of those that the settings have now; what is left of others is not told."""
        self.service = service
        self._receivers = receivers
        self._database = database
        self.server: Server | None = None

    def pages(self) -> Mapping[str, Plain]:
        return {"/healthz": self.healthz, "/readyz": self.readyz, "/metrics": self.metrics}

    async def healthz(self) -> tuple[str, bytes]:
        """The process answers."""
        return "application/json", b'{"status":"ok"}'

    async def readyz(self) -> tuple[str, bytes]:
        """Submissions are taken: what earlier lives left is known, and the disk has room. Raises NotReady."""
        engine = self.service.engine
        if not engine.recovered.is_set():
            raise NotReady("Not every backend has answered yet")
        if engine.full_since is not None:
            raise NotReady("The disk is full: nothing new is stored")
        return "application/json", to_json({"status": "ready", "turn": engine.machine.state.turn})

    async def metrics(self) -> tuple[str, bytes]:
        """Computed when it is asked for, from what the engine counts anyway."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        state, server = self.service.state, self.server
        named = set(self._receivers())
        every = await anyio.to_thread.run_sync(self._sink_meters)
        sinks = [each for each in every if each.name in named or each.name.startswith("run/")]

        class Engine:
            def collect(self) -> list[Metric]:
                tasks = GaugeMetricFamily("flowbatch_tasks", "Tasks of open jobs by status", labels=["status"])
                counts = [0] * 7
                for job in state.jobs.values():
                    for status, count in enumerate(job.counts):
                        counts[status] += count
                for status in Status:
                    tasks.add_metric([status.name], counts[status])
                jobs = GaugeMetricFamily("flowbatch_jobs_open", "Jobs that have not ended", value=len(state.jobs))
                live = GaugeMetricFamily(
                    "flowbatch_attempts_live", "Attempts that hold capacity", value=len(state.live)
                )
                turns = CounterMetricFamily("flowbatch_turns", "Turns of the engine in this life", value=state.turn)
                streams = GaugeMetricFamily(
                    "flowbatch_streams", "Answers that go on", value=0 if server is None else server.streams
                )
                calls = CounterMetricFamily("flowbatch_calls", "Calls answered", labels=["operation", "status"])
                for (operation, code), count in ({} if server is None else server.calls).items():
                    calls.add_metric([operation, str(code)], count)
                return [tasks, jobs, live, turns, streams, calls, *sink_metrics(sinks)]

        registry = CollectorRegistry()
        registry.register(Engine())
        return "text/plain", generate_latest(registry)

    def _sink_meters(self) -> list[Meters]:
        from flowbatch.store.outbox import Outbox

        with Outbox(self._database) as outbox:
            return outbox.meters()


def sink_metrics(sinks: list[Meters]) -> list[Metric]:
    """By name of the receiver: those that runs bring along are one `run/NAME`, so that runs to come add none."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    label = ["sink"]
    delivered = CounterMetricFamily("flowbatch_sink_delivered", "Messages that receivers took", labels=label)
    failed = CounterMetricFamily("flowbatch_sink_failed", "Tries that receivers did not take", labels=label)
    dead = CounterMetricFamily("flowbatch_sink_dead", "Messages that were given up", labels=label)
    lag = GaugeMetricFamily("flowbatch_sink_lag_events", "Events that are not looked at and told yet", labels=label)
    parked = GaugeMetricFamily("flowbatch_sink_parked", "Messages that were refused, and are tried again", labels=label)
    failing = GaugeMetricFamily("flowbatch_sink_failing", "Receivers that fail now, and are tried again", labels=label)
    disabled = GaugeMetricFamily("flowbatch_sink_disabled", "Receivers that are given up until enabled", labels=label)
    for each in sinks:
        name = [each.name]
        delivered.add_metric(name, each.delivered)
        failed.add_metric(name, each.failed)
        dead.add_metric(name, each.dead)
        lag.add_metric(name, each.lag)
        failing.add_metric(name, each.failing)
        parked.add_metric(name, each.parked)
        disabled.add_metric(name, each.disabled)
    return [delivered, failed, dead, lag, failing, parked, disabled]
