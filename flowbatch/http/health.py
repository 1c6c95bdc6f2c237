"""`/healthz`, `/readyz` and `/metrics`: for whoever watches the server. They say nothing of any job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic_core import to_json

from flowbatch.http.failures import Failure
from flowbatch.model.status import Status

if TYPE_CHECKING:
    from flowbatch.http.server import Plain, Server
    from flowbatch.http.service import Service


class NotReady(Failure):
    status = 503
    code = "ServiceUnavailableException"


class Health:
    def __init__(self, service: Service) -> None:
        self.service = service
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
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

        state, server = self.service.state, self.server

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
                calls = CounterMetricFamily("flowbatch_calls", "Calls answered", labels=["operation", "status"])
                for (operation, code), count in ({} if server is None else server.calls).items():
                    calls.add_metric([operation, str(code)], count)
                return [tasks, jobs, live, turns, calls]

        registry = CollectorRegistry()
        registry.register(Engine())
        return "text/plain", generate_latest(registry)
