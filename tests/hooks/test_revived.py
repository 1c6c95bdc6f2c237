"""Digests that were given up and are wanted again: `redeliver --dead` sends them as they were, with the id they had."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio

from flowbatch.app import open_app
from flowbatch.folder import StateFolder
from flowbatch.hooks.digest import Closed, DigestWindow
from flowbatch.hooks.window import Window
from flowbatch.hooks.words import Tally
from flowbatch.model.ids import JobId, Millis, RunId
from flowbatch.model.jobspec import Environment, FakeScript, JobPlan, JobSpec, Queue, RunPlan
from flowbatch.model.notify import Dead, Filter, Form, Notify, Parked, SinkProgress
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import SubmitRun, TellProgress
from flowbatch.settings import Settings, defaults
from flowbatch.store.outbox import Outbox
from tests.hooks import told
from tests.hooks.receiver import LOOP, Receiver, receiver

NOW = Millis(1_700_000_000_000)
PLAN = RunPlan(
    RunId("1a2b3c4d-0000-4000-8000-000000000000"),
    "film",
    (JobPlan(JobId("j"), JobSpec("render", "default", ("true",), Resources(1000), 20, fake=FakeScript())),),
)


def settings(server: Receiver) -> Settings:
    chat = Notify("chat", url=server.url("chat"), form=Form.SLACK, digest_ms=3_600_000, filter=Filter())
    place = Environment("default", "fake", Resources(8000))
    return Settings((place,), (Queue("default"),), notify=(chat,), allow_networks=(LOOP,))


async def given_up(folder: StateFolder) -> tuple[int, int]:
    """As a lane does after 75 hours, of the digest that is on its way."""
    with closing(sqlite3.connect(folder.database)) as db:
        [(first, last)] = db.execute("SELECT digest_first, digest_last FROM sink WHERE key = 'chat'").fetchall()
    async with open_app(folder, defaults(), hold_open_runs=True) as app:
        now = app.engine.clock.now()
        progress = SinkProgress("chat", now, last, dead=(Dead(last, 10, now, "400 as asked", first),))
        await app.engine.ask(lambda ticket: TellProgress(ticket, progress, None))
    return first, last


async def test_a_digest_comes_again_as_it_was(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    async with receiver() as server:
        server.answers["chat"] = [400]
        async with open_app(folder, settings(server)) as app:
            await app.engine.ask(lambda ticket: SubmitRun(ticket, PLAN))
            with anyio.fail_after(20):
                while not server.got:
                    await app.notices.settle_sinks({"chat"}, 100)
        first, last = await given_up(folder)
        async with open_app(folder, settings(server)) as app:
            with Outbox(folder.database) as outbox:
                sink = outbox.find("chat")
                assert [(each.first, each.seq) for each in outbox.dead_of(sink)] == [(first, last)]
            await app.verbs.call("revive_dead", {"key": "chat"})
            assert await app.notices.settle_sinks({"chat"}, 20_000) == []
            with Outbox(folder.database) as outbox:
                assert not outbox.refusals(sink).dead
        with Outbox(folder.database) as outbox:
            assert not outbox.refusals(sink).parked
    (_, headers, body), *later = server.got
    assert [again for _, its, again in later if its["webhook-id"] == headers["webhook-id"]] == [body]
    assert b"film" in body


def closed(first: int, last: int, *, empty: bool = False) -> Closed:
    tally = Tally()
    if not empty:
        tally.add(told.job(seq=last))
    return Closed(first, last, NOW, tally)


def test_what_is_refused_again_does_not_hold_up_what_is_new() -> None:
    from flowbatch.hooks.health import Answer, Outcome

    window = DigestWindow("chat", 10, 1000)
    window.revive(closed(1, 5), NOW)
    [sent] = window.due(NOW)
    assert not window.due(NOW), "one at a time"
    window.answered(sent, Answer(Outcome.MESSAGE, 400, "400"), NOW, 0.0)
    window.read([told.job(seq=11)], [True], 11, False, [], NOW)
    later = Millis(NOW + 1000)
    assert window.progress(later) is not None  # the new one is closed, and on its way to the disk
    window.persisted(closed=False)
    assert [(each.first, each.last) for each in window.due(later)] == [(11, 11)]
    assert window.owed() == 2


def test_a_digest_that_is_refused_is_seen_to_be() -> None:
    """Nothing overtakes it: what waits for it is owed, and the sink says why."""
    from flowbatch.hooks.health import SCHEDULE, Answer, Outcome

    window, now = DigestWindow("chat", 0, 1000), NOW
    window.restore(closed(1, 5), now)
    for tries in range(1, len(SCHEDULE) + 2):
        [sent] = window.due(now)
        window.answered(sent, Answer(Outcome.MESSAGE, 400, "400 no"), now, 0.0)
        made = window.progress(now, at_once=True)
        assert made is not None
        window.persisted(closed=False)
        if tries <= len(SCHEDULE):
            assert made.trouble is not None
            assert (made.trouble.tries, made.trouble.error, made.failures) == (tries, "400 no", 1)
            assert not window.due(Millis(now + 1))
            assert window.next_at() == now + SCHEDULE[tries - 1]
            now = Millis(now + SCHEDULE[tries - 1])
    assert made is not None
    assert (made.trouble, made.cursor) == (None, 5)
    assert [(dead.first, dead.seq, dead.tries) for dead in made.dead] == [(1, 5, 10)]


def test_a_digest_whose_events_were_collected_is_a_gap() -> None:
    window = DigestWindow("chat", 10, 1000)
    window.revive(closed(1, 5, empty=True), NOW)
    made = window.progress(NOW)
    assert made is not None
    assert (made.gaps, made.unpark) == (((1, 5),), (5,))


def test_a_sink_that_gets_no_digests_any_more_gives_it_up_again() -> None:
    window = Window("chat", 10)
    window.restore([(Parked(5, 0, Millis(0), "400", 1), told.job(seq=5))], NOW)
    assert not window.due(NOW)
    made = window.progress(NOW)
    assert made is not None
    assert (made.unpark, [(each.first, each.seq) for each in made.dead]) == ((5,), [(1, 5)])
