"""A run that a server runs, followed from here: the same progress, summary and exit code as of one in this process."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.from_thread
import anyio.to_thread
import click
from msgspec import Struct, field

from flowbatch.cli.context import Place
from flowbatch.cli.follow import SIGNALS
from flowbatch.cli.output import print_json
from flowbatch.cli.printer import say_aside
from flowbatch.cli.progress import View, make_view
from flowbatch.cli.shown import News
from flowbatch.cli.summary import has_failures, print_summary, run_object
from flowbatch.clock import SystemClock
from flowbatch.errors import BackendUnavailable
from flowbatch.http.native.shapes import JobProgress, ProgressSaid, SubmittedSaid
from flowbatch.model.status import RunStatus, Status
from flowbatch.remote.channel import Channel, ConnectionLost

if TYPE_CHECKING:
    from flowbatch.spec.compile import Plan

DETACHED: Final = 130
PATIENCE_S: Final = 60.0  # with a server that has gone away
PAUSE_S: Final = 0.5


class FollowedJob(Struct, eq=False):
    """As the server told of it last."""

    said: JobProgress

    @property
    def no(self) -> int:
        return self.said.no

    @property
    def id(self) -> str:
        return self.said.id

    @property
    def key(self) -> str:
        return self.said.key

    @property
    def status(self) -> Status:
        return self.said.status

    @property
    def status_reason(self) -> str | None:
        return self.said.status_reason

    @property
    def size(self) -> int | None:
        return self.said.size

    @property
    def tasks(self) -> int:
        return self.said.tasks

    @property
    def array(self) -> bool:
        return self.said.size is not None

    @property
    def counts(self) -> list[int]:
        return self.said.counts

    @property
    def running(self) -> int:
        return self.said.running

    @property
    def skipped(self) -> bool:
        return self.said.skipped

    @property
    def started_at(self) -> int | None:
        return self.said.started_at

    @property
    def stopped_at(self) -> int | None:
        return self.said.stopped_at


class FollowedRun(Struct, eq=False):
    said: ProgressSaid
    jobs: list[FollowedJob] = field(default_factory=list)
    waits: list[tuple[str, str]] = field(default_factory=list)
    seq: int = 0  # of the last event that was told
    children: set[tuple[int, int, int, int]] = field(default_factory=set)  # that were told of

    @property
    def no(self) -> int:
        return self.said.run.no

    @property
    def id(self) -> str:
        return self.said.run.id

    @property
    def workflow(self) -> str:
        return self.said.run.workflow

    @property
    def status(self) -> RunStatus:
        return self.said.run.status

    @property
    def status_reason(self) -> str | None:
        return self.said.run.status_reason

    @property
    def created_at(self) -> int:
        return self.said.run.created_at

    @property
    def stopped_at(self) -> int | None:
        return self.said.run.stopped_at

    def take(self, said: ProgressSaid) -> News:
        """What is new in it: after a connection was lost, everything is told again."""
        self.said, self.waits = said, said.waits
        known = {job.no: job for job in self.jobs}
        for told in said.jobs:
            if told.no in known:
                known[told.no].said = told
            else:
                self.jobs.append(FollowedJob(told))
        numbers = {job.id: job.no for job in self.jobs}
        events = [each for each in said.events if each.seq > self.seq]
        self.seq = max([self.seq, *(each.seq for each in events)])
        rows = [each.view(None if each.job_id is None else numbers.get(each.job_id)).row for each in events]
        fresh = [each for each in said.children if (each.job, each.idx, each.attempt, each.status) not in self.children]
        self.children.update((each.job, each.idx, each.attempt, each.status) for each in fresh)
        return News(fresh, [row._replace(run=self.no) for row in rows])


class Sitting(Struct):
    """One look at a run, until it has ended or somebody has had enough."""

    place: Place
    channel: Channel
    run_id: str
    as_json: bool
    run: FollowedRun | None = None
    view: View | None = None
    begun: anyio.Event = field(default_factory=anyio.Event)
    enough: threading.Event = field(default_factory=threading.Event)

    async def follow(self) -> int:
        """The exit code: 0, 1 where the run failed, 130 where it was left to itself. Raises BackendUnavailable, InputError."""
        code = DETACHED
        try:
            with anyio.open_signal_receiver(*SIGNALS) as signals:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self.heed, signals, name="signals")
                    await anyio.to_thread.run_sync(self.read)
                    tasks.cancel_scope.cancel()
            if self.run is not None and self.run.status is not RunStatus.RUNNING:
                code = 1 if self.run.status is RunStatus.FAILED else 0
        finally:
            if self.view is not None:
                self.view.close()
        self.tell(code)
        return code

    async def heed(self, signals: AsyncIterator[signal.Signals]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.refresh, name="progress")
            async for _ in signals:
                self.enough.set()
                self.channel.cut()

    async def refresh(self) -> None:
        await self.begun.wait()
        assert self.view is not None
        await self.view.refresh()

    # --- on a thread of its own

    def read(self) -> None:
        """Until the run has ended; a server that goes away is waited for."""
        lost = 0.0
        while not self.enough.is_set():
            try:
                for kind, data in self.channel.stream("runs", self.run_id, "follow"):
                    lost = 0.0
                    if kind == "message" and anyio.from_thread.run_sync(self.take, ProgressSaid.model_validate(data)):
                        return
            except (ConnectionLost, BackendUnavailable):
                if self.enough.is_set():
                    return
                if lost >= PATIENCE_S or self.run is None:
                    raise
            if self.enough.is_set():
                return
            if lost == 0.0:
                anyio.from_thread.run_sync(self.say, "The server has gone; waiting for it to come back.")
            lost += PAUSE_S
            self.enough.wait(PAUSE_S)

    def take(self, said: ProgressSaid) -> bool:
        """Whether it was the last message."""
        if self.enough.is_set():
            return True
        if self.run is None:
            self.run = FollowedRun(said)
            news = self.run.take(said)
            self.view = make_view([self.run], SystemClock(), quiet=self.as_json, hold_ups=lambda: self.waits())
            self.begun.set()
        else:
            news = self.run.take(said)
        assert self.view is not None
        self.view.on_news(news)
        return said.over

    def say(self, text: str) -> None:
        if self.view is not None:
            self.view.say(text)

    def waits(self) -> list[tuple[str, str]]:
        return [] if self.run is None else self.run.waits

    # --- at the end

    def tell(self, code: int) -> None:
        if code == DETACHED:
            run = self.run_id[:8]
            say_aside(f"Detached: run {run} goes on in the server.")
            say_aside(f"  To follow it:  {self.place.command('resume', run)}")
            say_aside(f"  To stop it:    {self.place.command('terminate', run)}")
            return
        assert self.run is not None
        if self.as_json:
            print_json(run_object(self.run))
            return
        print_summary(self.run)
        if has_failures(self.run):
            from flowbatch.cli.failures import print_failures

            with self.place.records() as reader:
                print_failures(self.run, reader, self.place.logs, self.place.command)


def attach(place: Place, channel: Channel, run_id: str, *, as_json: bool) -> int:
    return anyio.run(Sitting(place, channel, run_id, as_json).follow)


def submit(place: Place, plan: Plan) -> str:
    """To the engine that holds the folder. Returns the run's id, once it is durable. Raises InputError where it is refused."""
    from msgspec import to_builtins

    from flowbatch.spec.pinning import pinned

    told = to_builtins(pinned(plan.run, plan.environments, plan.queues), str_keys=True)
    return str(place.ask("submit_run", plan=told))


def run_there(place: Place, plan: Plan, *, detach: bool, as_json: bool) -> int:
    """In the server that holds the folder; `detach`: its id is printed, and nothing is waited for."""
    run_id = submit(place, plan)
    if detach:
        tell_detached(place, run_id, as_json)
        return 0
    if not as_json:
        click.echo(f"Run {run_id[:8]} in the server that holds {place.folder.path} (process {place.holder}).", err=True)
    return attach(place, Channel(place.folder.http_socket), run_id, as_json=as_json)


def run_elsewhere(
    place: Place, workflow: str, params: Sequence[str], only: Sequence[str], *, detach: bool, as_json: bool
) -> int:
    """On the server of --server: it gets the file's text, and what the text names lies there."""
    from flowbatch.cli.load import parameters, read_workflow

    assert place.channel is not None
    text = read_workflow(workflow, params).decode("utf-8", "surrogateescape")
    given = {"workflow": text, "name": Path(workflow).name, "params": parameters(params), "only": list(only)}
    told = SubmittedSaid.model_validate(place.channel.post("runs", body=given))
    for warning in told.warnings:
        click.echo(f"{warning} (warning)", err=True)
    if detach:
        if as_json:
            print_json({"run": told.run})
        else:
            click.echo(told.run)
            click.echo(f"Runs on {place.server}. See `{place.command('show', told.run[:8])}`.", err=True)
        return 0
    if not as_json:
        click.echo(f"Run {told.run[:8]} on {place.server}.", err=True)
    return attach(place, place.channel, told.run, as_json=as_json)


def tell_detached(place: Place, run_id: str, as_json: bool) -> None:
    if as_json:
        print_json({"run": run_id, "pid": place.holder})
        return
    click.echo(run_id)
    watch, log = place.command("show", run_id[:8]), place.command("events", "-f")
    click.echo(f"Runs in the server (process {place.holder}). See `{watch}`, `{log}`.", err=True)
