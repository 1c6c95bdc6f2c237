"""Events to receivers that are processes of their own: `python -m bench.hooks_load single|batch|dead|alone|latency|drain`. Prints JSON."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from bench.report import rss_mib
from flowbatch.app import open_app
from flowbatch.folder import StateFolder
from flowbatch.model.events import EventKind, EventRow
from flowbatch.model.ids import JobId, Millis, RunId
from flowbatch.model.jobspec import Environment, FakeScript, JobPlan, JobSpec, Queue, RunPlan
from flowbatch.model.notify import Arrays, Filter, Notify
from flowbatch.model.resources import Resources
from flowbatch.model.rows import Writes
from flowbatch.model.secret import SecretSource
from flowbatch.model.status import Status
from flowbatch.model.stimuli import SubmitRun
from flowbatch.settings import Settings
from flowbatch.store.outbox import Outbox
from tests.docker.daemon import memory

LOOP = "127.0.0.1"
KEY = SecretSource(env="BENCH_HOOKS_KEY")
EVERY = Filter(arrays=Arrays.BOTH)
FAILED = Filter(("child.failed",))


class Counting(asyncio.Protocol):
    """The least that a receiver can be: reads a request, answers it, tells how many there were."""

    def __init__(self, seen: list[int]) -> None:
        self.seen = seen
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        while True:
            head, found, rest = self.data.partition(b"\r\n\r\n")
            if not found:
                return
            length = int(
                next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1]
            )
            if len(rest) < length:
                return
            self.data = rest[length:]
            self.seen[0] += 1
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def serve(port: int) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Counting([0]), LOOP, port)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def receiver(port: int = 0) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.hooks_load", "serve", str(port)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def settings(*notify: Notify) -> Settings:
    place = Environment("default", "fake", Resources(1000))
    return Settings((place,), (Queue("default"),), notify=notify, allow_networks=(LOOP,))


def hook(port: int, name: str = "hook", filter_: Filter = EVERY, **more: Any) -> Notify:
    return Notify(name, url=f"http://{LOOP}:{port}/hook", sign=(KEY,), filter=filter_, **more)


async def submitted(app: Any) -> int:
    """A run of one wide array, that never ends; returns its job's number."""
    spec = JobSpec("wide", "default", ("true",), Resources(10**6), 10_000, env=(("A", "b"),), fake=FakeScript())
    plan = RunPlan(RunId("0" * 8 + "-0000-4000-8000-000000000000"), "bench", (JobPlan(JobId("j"), spec),))
    await app.engine.ask(lambda ticket: SubmitRun(ticket, plan))
    while len(app.notices._dispatcher.lanes) < len(app.settings.notify):
        await app.notices._dispatcher.changed.wait()
    return 1


async def append(app: Any, count: int, at: int = 0, status: Status = Status.SUCCEEDED) -> None:
    """Events of children, straight into the log: the engine's own speed is measured elsewhere."""
    for low in range(0, count, 5000):
        rows = [
            EventRow(
                Millis(time.time_ns() // 1_000_000), EventKind.CHILD, 1, 1, (at + n) % 10_000, 1, status, 0, None, None
            )
            for n in range(low, min(low + 5000, count))
        ]
        writes = Writes(events=rows)
        await app.engine.store.commit(writes)
        app.notices._dispatcher.told(writes)


def delivered(app: Any, name: str) -> int:
    lane = app.notices._dispatcher.lanes[name]
    return int(lane.window.cursor)


async def until_told(app: Any, name: str, seq: int) -> None:
    dispatcher = app.notices._dispatcher
    while delivered(app, name) < seq:
        with anyio.move_on_after(0.05):
            await dispatcher.changed.wait()


async def until_idle(lane: Any) -> None:
    """All that the log has was looked at, and what is wanted of it delivered."""
    while not lane.idle():
        with anyio.move_on_after(0.05):
            await lane._dispatcher.changed.wait()


async def throughput(count: int, batch: int) -> dict[str, float]:
    with receiver() as port, tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as folder:
        async with open_app(StateFolder(Path(folder) / "state"), settings(hook(port, batch=batch))) as app:
            await submitted(app)
            await append(app, 500)
            await until_told(app, "hook", 500)
            begun, cpu = time.perf_counter(), time.process_time()
            await append(app, count)
            await until_told(app, "hook", 500 + count)
            seconds = time.perf_counter() - begun
            return {"per_s": count / seconds, "cpu_us": (time.process_time() - cpu) * 1e6 / count}


@asynccontextmanager
async def measured(others: int, *, dead: bool = False, within: str | None = None) -> AsyncIterator[Stepper]:
    """`others`: events that are in the log before, and that the receiver which is measured does not want. `dead`: they wait behind one
    that is not there. `within`: where the store is to be."""
    with receiver() as port, tempfile.TemporaryDirectory(prefix="flowbatch-bench-", dir=within) as folder:
        sinks = [hook(port, filter_=FAILED)] + ([hook(1, "dead")] if dead else [])
        async with open_app(StateFolder(Path(folder) / "state"), settings(*sinks)) as app:
            await submitted(app)
            stepper = Stepper(app, rss_mib())
            await append(app, 500, status=Status.FAILED)
            await until_idle(stepper.lane)
            await append(app, others)
            await until_idle(stepper.lane)
            yield stepper


class Stepper:
    """One event at a time, from its commit to its answer."""

    def __init__(self, app: Any, before_mib: float) -> None:
        self.app = app
        self.before_mib = before_mib
        self.lane = app.notices._dispatcher.lanes["hook"]
        self.took: list[float] = []

    async def step(self) -> None:
        target = self.lane.window.successes + 1
        begun = time.perf_counter()
        await append(self.app, 1, len(self.took), Status.FAILED)
        while self.lane.window.successes < target:  # noqa: ASYNC110  nothing is told of each success
            await anyio.sleep(0.0005)  # a loop without a pause takes the processor from it
        self.took.append((time.perf_counter() - begun) * 1000)
        await anyio.sleep(0.005)

    def found(self) -> dict[str, float]:
        took = sorted(self.took)
        return {
            "p50_ms": took[len(took) // 2],
            "p99_ms": took[int(len(took) * 0.99)],
            "grown_mib": rss_mib() - self.before_mib,
        }


async def latency(count: int) -> dict[str, float]:
    async with measured(0) as stepper:
        for _ in range(count):
            await stepper.step()
        return stepper.found()


async def stepped(others: int, *, dead: bool) -> dict[str, float]:
    """A step for each line of the standard input, answered with one: whoever asks takes turns between several of us. In memory: the
    moods of the disk, tens of milliseconds, are in nobody's turn."""
    async with measured(others, dead=dead, within=memory()) as stepper:
        print(flush=True)
        while await anyio.to_thread.run_sync(sys.stdin.readline):
            await stepper.step()
            print(flush=True)
        behind = others + 500 + len(stepper.took) - delivered(stepper.app, "dead") if dead else 0
        return {**stepper.found(), "behind": float(behind)}


async def drain(count: int) -> dict[str, float]:
    """A receiver that was down all along comes back: all that waits is delivered."""
    with tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as folder:
        with receiver() as port:
            pass  # its port, free now
        async with open_app(StateFolder(Path(folder) / "state"), settings(hook(port, batch=100))) as app:
            await submitted(app)
            before = rss_mib()
            await append(app, count)
            grown = rss_mib() - before
            with receiver(port):
                lane = app.notices._dispatcher.lanes["hook"]
                lane.window.health.next_at = Millis(0)
                lane.woken()
                begun = time.perf_counter()
                await until_idle(lane)
                seconds = time.perf_counter() - begun
            peak = rss_mib() - before
        path = Path(folder) / "state" / "flowbatch.db"
        with Outbox(path) as outbox:
            [sink] = outbox.sinks()
        with closing(sqlite3.connect(path)) as db:
            (logged,) = db.execute("SELECT count(*) FROM event").fetchone()
        assert logged >= count, logged
        return {
            "per_s": logged / seconds, "seconds": seconds, "grown_mib": grown, "peak_grown_mib": peak,
            "delivered": float(sink.delivered), "logged": float(logged), "lag": float(sink.lag),
        }  # fmt: skip


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    os.environ["BENCH_HOOKS_KEY"] = "whsec_" + "c2VjcmV0IG9mIGEgYmVuY2htYXJr" * 2
    given = [int(number) for number in numbers]
    if what == "serve":
        serve(given[0])
    elif what == "single":
        print(json.dumps(anyio.run(throughput, given[0], 1)))
    elif what == "batch":
        print(json.dumps(anyio.run(throughput, given[0], 100)))
    elif what == "latency":
        print(json.dumps(anyio.run(latency, given[0])))
    elif what in ("dead", "alone"):
        print(json.dumps(anyio.run(partial(stepped, given[0], dead=what == "dead"))))
    elif what == "drain":
        print(json.dumps(anyio.run(drain, given[0])))
