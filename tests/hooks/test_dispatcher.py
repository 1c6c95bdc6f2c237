"""The dispatcher with its IO: a real receiver, a log in memory, an engine that is a list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace
from standardwebhooks import Webhook

from flowbatch.clock import SystemClock
from flowbatch.hooks.dispatcher import Dispatcher
from flowbatch.hooks.forms import BATCH_BYTES
from flowbatch.hooks.lane import in_requests
from flowbatch.hooks.targets import Receivers
from flowbatch.hooks.webhook import make_session
from flowbatch.model.events import LoggedEvent
from flowbatch.model.ids import Millis
from flowbatch.model.notify import Arrays, Filter, Form, Notify, Parked, SinkProgress, SinkRow, SinkStatus
from flowbatch.model.rows import Writes
from flowbatch.model.secret import SecretSource
from flowbatch.ports import Page, StoredSink
from tests.hooks import told
from tests.hooks.receiver import LOOP, Receiver, receiver

EVERY = Filter(arrays=Arrays.BOTH)


class Log:
    """`ports.EventLog` in memory, and what is recorded of its sinks."""

    def __init__(self, *sinks: Notify, events: list[LoggedEvent] | None = None) -> None:
        self.events = events or []
        self.sinks = {
            each.name: StoredSink(SinkRow(each.name, None, each, Millis(0)), SinkStatus.OPEN, 0, None, None, None)
            for each in sinks
        }
        self.progress: list[SinkProgress] = []
        self.news = anyio.Event()

    async def open_sinks(self, run: int | None = None) -> list[str]:
        return list(self.sinks)

    async def sink(self, key: str) -> StoredSink | None:
        return self.sinks.get(key)

    async def parked(self, key: str) -> list[tuple[Parked, LoggedEvent | None]]:
        return []

    async def page(self, after: int, limit: int, *, until: int | None = None, run: int | None = None) -> Page:
        events = self.events[after : after + limit]
        to = after + len(events)
        return Page(events, to, to < len(self.events), [])

    async def record(self, progress: SinkProgress, run: int | None) -> bool:
        self.progress.append(progress)
        self.news.set()
        self.news = anyio.Event()
        return progress.close

    async def until(self, true: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not true():
                await self.news.wait()

    def cursor(self, key: str) -> int:
        return max((each.cursor for each in self.progress if each.key == key), default=0)


@asynccontextmanager
async def running(log: Log, secrets: dict[str, str] | None = None) -> AsyncIterator[Dispatcher]:
    def resolve(source: SecretSource, _: str) -> str:
        found = (secrets or {}).get(source.env or "")
        if found is None:
            raise ValueError(f"the environment variable {source.env} is not set")
        return found

    session, public = make_session([ip_network(LOOP)], total_s=1), make_session([], total_s=1)
    clock = SystemClock()
    receivers = Receivers(resolve, lambda alone: public if alone else session, clock.now)
    dispatcher = Dispatcher(log, log.record, lambda notify: receivers.make(notify, "1234"), clock, "1234", lambda: 0.0)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(dispatcher.run)
            dispatcher.start(list(log.sinks))
            yield dispatcher
            await dispatcher.stop()
            tasks.cancel_scope.cancel()
    finally:
        await session.close()
        await public.close()


def children(count: int) -> list[LoggedEvent]:
    return [told.child(seq % 7, seq=seq) for seq in range(1, count + 1)]


def order_of(server: Receiver, path: str) -> dict[str, list[int]]:
    import json

    found: dict[str, list[int]] = {}
    for where, _, body in server.got:
        if where == path:
            own = json.loads(body)["flowbatch"]
            found.setdefault(own["subject"], []).append(own["seq"])
    return found


async def test_everything_arrives_in_order_per_job_and_the_cursor_follows() -> None:
    async with receiver() as server:
        log = Log(Notify("a", url=server.url("ok"), filter=EVERY), events=children(200))
        async with running(log):
            await log.until(lambda: log.cursor("a") == 200)
        assert len(server.got) == 200
        assert all(seqs == sorted(seqs) for seqs in order_of(server, "ok").values())
    assert sum(len(each.acks) for each in log.progress) == 200


@pytest.mark.parametrize("fault", ["hang", "reset", "gone", "later", "redirect", "status/500", "status/400"])
async def test_a_fault_of_one_touches_no_other(fault: str) -> None:
    async with receiver() as server:
        bad = Notify("bad", url=server.url(fault), filter=EVERY)
        log = Log(bad, Notify("good", url=server.url("ok"), filter=EVERY), events=children(100))
        async with running(log) as dispatcher:
            await log.until(lambda: log.cursor("good") == 100)
            if fault == "gone":
                await log.until(lambda: any(each.disable for each in log.progress))
            elif fault == "status/400":
                await log.until(lambda: any(each.park for each in log.progress if each.key == "bad"))
            else:
                await log.until(lambda: any(each.trouble for each in log.progress if each.key == "bad"))
                assert {each.key for each in dispatcher.owed()} == {"bad"}
        assert not any(each.acks for each in log.progress if each.key == "bad")


async def test_a_receiver_that_is_down_gets_one_message_at_a_time_and_no_writes() -> None:
    async with receiver() as server:
        log = Log(Notify("a", url=server.url("status/503"), filter=EVERY), events=children(500))
        async with running(log):
            await log.until(lambda: bool(log.progress))
            asked = len(server.got)
            await anyio.sleep(0.3)
            assert asked <= 16
            assert len(server.got) == asked, "it is left alone for a second"
    assert len(log.progress) <= 2  # that it fails, and the last one of the life
    assert log.cursor("a") == 0


async def test_it_comes_back() -> None:
    async with receiver() as server:
        server.answers["ok"] = [503]
        log = Log(Notify("a", url=server.url("ok"), filter=EVERY), events=[told.child(1, seq=1), told.child(1, seq=2)])
        async with running(log):
            await log.until(lambda: log.cursor("a") == 2)
        assert [seq for seqs in order_of(server, "ok").values() for seq in seqs] == [1, 1, 2]
        assert server.ids("ok")[0] == server.ids("ok")[1]
    assert [ack.tries for each in log.progress for ack in each.acks] == [2, 1]


async def test_one_refused_message_holds_up_its_own_job_alone() -> None:
    async with receiver() as server:
        server.answers["ok"] = [422]
        events = [told.child(1, seq=1), told.child(1, seq=2), told.child(2, seq=3)]
        log = Log(Notify("a", url=server.url("ok"), filter=EVERY), events=events)
        async with running(log):
            await log.until(lambda: log.cursor("a") == 3)
        assert {"film-render/render:2": [3]}.items() <= order_of(server, "ok").items()
    parked = {row.seq: row for each in log.progress for row in each.park}
    assert set(parked) == {1, 2}
    assert (parked[1].error, parked[2].next_at) == ("422 as asked", None)


async def test_a_missing_secret_is_a_receiver_that_fails() -> None:
    log = Log(Notify("a", secret=SecretSource(env="HOOK"), filter=EVERY), events=children(3))
    async with running(log):
        await log.until(lambda: bool(log.progress))
    trouble = log.progress[0].trouble
    assert trouble is not None
    assert trouble.error == "a secret is missing: the environment variable HOOK is not set"


async def test_a_digest_is_one_message() -> None:
    async with receiver() as server:
        notify = Notify("a", url=server.url("ok"), form=Form.SLACK, filter=EVERY, digest_ms=3_600_000)
        log = Log(notify, events=[*children(300), told.run(seq=301)])
        async with running(log) as dispatcher:
            while dispatcher.owed() or dispatcher.starting() or not log.progress:
                dispatcher.flush()
                with anyio.move_on_after(0.05):
                    await dispatcher.changed.wait()
        [(_, headers, body)] = server.got
    assert b"301 events, 301 failures" in body
    assert [each.digest for each in log.progress if each.digest] == [(1, 301)]
    assert headers["webhook-id"].startswith("dig_")


async def test_a_digest_of_other_events_is_another_digest() -> None:
    """An id that comes again has the same body (semantics.md 36), also once the filter has changed."""
    ids = []
    async with receiver() as server:
        for filter_ in (EVERY, EVERY, Filter(("run.*",))):
            notify = Notify("a", url=server.url("ok"), form=Form.SLACK, filter=filter_, digest_ms=3_600_000)
            async with running(Log(notify, events=[*children(3), told.run(seq=4)])) as dispatcher:
                before = len(server.got)
                while len(server.got) == before:
                    dispatcher.flush()
                    with anyio.move_on_after(0.05):
                        await dispatcher.changed.wait()
        ids = server.ids("ok")
    assert ids[0] == ids[1] != ids[2]


async def test_a_file_gets_a_line_per_event_and_a_torn_one_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"torn', encoding="utf-8")
    log = Log(Notify("a", jsonl=str(path), filter=EVERY), events=children(1200))
    async with running(log):
        await log.until(lambda: log.cursor("a") == 1200)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert (lines[0], len(lines)) == ('{"torn', 1201)


async def test_a_program_gets_the_event_and_says_what_it_thinks(tmp_path: Path) -> None:
    script = f'cat >> {tmp_path}/got; echo "$FLOWBATCH_EVENT_KIND" >> {tmp_path}/got; test "$FLOWBATCH_EVENT_KIND" != job.failed || {{ echo no >&2; exit 3; }}'
    notify = Notify("a", command=("sh", "-c", script), form=Form.TEXT, filter=EVERY)
    log = Log(notify, events=[told.run(seq=1), told.job(seq=2)])
    async with running(log):
        await log.until(lambda: log.cursor("a") == 2 and any(each.park for each in log.progress))
    assert "run.failed" in (tmp_path / "got").read_text(encoding="utf-8")
    [parked] = [row for each in log.progress for row in each.park]
    assert (parked.seq, parked.error) == (2, "sh exited with 3: no")


@pytest.mark.slow
async def test_a_program_that_has_ended_well_has_taken_it_whatever_it_leaves_behind() -> None:
    notify = Notify("a", command=("sh", "-c", "cat > /dev/null; sleep 20 & echo $! >&2"), form=Form.TEXT, filter=EVERY)
    log = Log(notify, events=[told.job(seq=1)])
    async with running(log):
        with anyio.fail_after(10):
            await log.until(lambda: log.cursor("a") == 1)


async def test_a_refused_signature_has_the_secret_read_again() -> None:
    secrets, after = {"S": f"whsec_{'a' * 32}"}, f"whsec_{'b' * 32}"
    async with receiver() as server:
        server.answers["ok"] = [400]
        log = Log(Notify("a", url=server.url("ok"), sign=(SecretSource(env="S"),), filter=EVERY), events=children(1))
        async with running(log, secrets) as dispatcher:
            await log.until(lambda: any(each.park for each in log.progress))
            secrets["S"] = after
            log.events.append(told.child(9, seq=2))
            dispatcher.told(Writes(events=[log.events[1].row]))
            await log.until(lambda: log.cursor("a") == 2 and bool(log.progress[-1].acks))
        _, headers, body = server.got[1]
    Webhook(after).verify(body, headers)


async def test_who_a_server_runs_files_for_reaches_public_addresses_alone() -> None:
    async with receiver() as server:
        ours, theirs = Notify("a", url=server.url("ok"), filter=EVERY), Notify("b", url=server.url("ok"), filter=EVERY)
        log = Log(ours, replace(theirs, public=True), events=children(1))
        async with running(log):
            await log.until(lambda: log.cursor("a") == 1 and any(each.trouble for each in log.progress))
        assert len(server.got) == 1
    [trouble] = {each.trouble.error for each in log.progress if each.trouble}
    assert "is not a public address" in trouble


async def test_new_events_wake_it() -> None:
    async with receiver() as server:
        log = Log(Notify("a", url=server.url("ok"), filter=EVERY))
        async with running(log) as dispatcher:
            while not dispatcher.lanes:
                await dispatcher.changed.wait()
            log.events += children(1)
            dispatcher.told(Writes(events=[log.events[0].row]))
            await log.until(lambda: log.cursor("a") == 1)
        assert len(server.got) == 1


def test_a_batch_is_cut_where_a_request_is_full() -> None:
    events = children(40)
    made = in_requests(events, [b"x" * 19_000] * 40)
    assert [event.seq for some, _ in made for event in some] == list(range(1, 41))
    assert all(sum(map(len, bodies)) + len(bodies) + 1 <= BATCH_BYTES for _, bodies in made)
    assert len(made) == 4


async def test_who_is_to_begin_anew_may_owe_something() -> None:
    """A dead message that was revived is in the store, and nobody has read it yet."""
    async with receiver() as server:
        log = Log(Notify("a", url=server.url("ok"), filter=EVERY), events=children(3))
        async with running(log) as dispatcher:
            await log.until(lambda: log.cursor("a") == 3)
            while dispatcher.owed():
                await dispatcher.changed.wait()
            dispatcher.reload()
            assert [each.key for each in dispatcher.owed()] == ["a"]
