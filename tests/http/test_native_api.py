"""The native API by plain HTTP: what it says of runs, jobs and events, who may ask, and answers that go on."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import pytest
from msgspec.structs import replace

from flowbatch.cli.context import Place
from flowbatch.cli.watching import compiler
from flowbatch.engine.loop import Engine
from flowbatch.errors import InputError
from flowbatch.http import keys
from flowbatch.http.native import table
from flowbatch.http.native.routes import NativeRoute
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId, log_name
from flowbatch.model.jobspec import FakeScript, JobPlan, JobSpec, RunPlan
from flowbatch.model.resources import Resources
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import PutKey, SubmitRun
from flowbatch.remote.channel import Channel, ConnectionLost
from flowbatch.settings import parse_settings
from tests.http.rig import FAKE, Rig, a_server

RUN: Final = "11111111-2222-4333-8444-555555555555"
SINGLE: Final = "aaaaaaaa-2222-4333-8444-555555555555"
ARRAY: Final = "bbbbbbbb-2222-4333-8444-555555555555"
FOR_EVER: Final = 3_600_000


@dataclass(frozen=True)
class Got:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def bearer(rig: Rig) -> str:
    assert rig.running.administrator is not None
    assert rig.running.secret is not None
    return keys.token(rig.running.administrator.id, rig.running.secret)


def requested(
    rig: Rig, path: str, body: object = None, key: str | None = None, method: str | None = None, **headers: str
) -> urllib.request.Request:
    data = None if body is None else json.dumps(body).encode()
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None:
        told["Content-Type"] = "application/json"
    token = bearer(rig) if key is None else key
    if token:
        told["Authorization"] = f"Bearer {token}"
    return urllib.request.Request(f"{rig.url}/api/v1{path}", data, told, method=method)


async def ask(rig: Rig, path: str, body: object = None, key: str | None = None, **headers: str) -> Got:
    made = requested(rig, path, body, key, **headers)

    def send() -> Got:
        try:
            with urllib.request.urlopen(made, timeout=30) as answer:
                return Got(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            return Got(error.code, dict(error.headers), error.read())

    return await anyio.to_thread.run_sync(send)


async def get(rig: Rig, path: str, key: str | None = None) -> Any:
    got = await ask(rig, path, key=key)
    assert got.status == 200, got
    return got.json


def spec(key: str, size: int | None = None, **fake: Any) -> JobSpec:
    return JobSpec(key, "default", ("true",), Resources(1000, 0, 0), size=size, fake=FakeScript(**fake))


async def submit(rig: Rig, *jobs: tuple[str, JobSpec], run: str = RUN) -> None:
    plan = RunPlan(RunId(run), "render", tuple(JobPlan(JobId(job), each) for job, each in jobs), params=(("n", 3),))
    answer = await rig.running.app.engine.ask(lambda ticket: SubmitRun(ticket, plan))
    assert answer.error is None


async def ended(rig: Rig, run: str = RUN) -> None:
    """Waits turn by turn."""
    engine = rig.running.app.engine
    turned = anyio.Event()
    engine.observe(lambda _: turned.set())
    with anyio.fail_after(20):
        while RunId(run) in engine.machine.state.runs:
            turned = anyio.Event()
            await turned.wait()


async def test_a_run_with_its_jobs_and_children(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await submit(rig, (SINGLE, spec("one")), (ARRAY, spec("many", 5)))
        await ended(rig)
        listed = await get(rig, "/runs")
        assert [each["id"] for each in listed["runs"]] == [RUN]
        assert listed["next"] is None
        for name in (RUN, "1111", "last", "render"):
            found = await get(rig, f"/runs/{name}")
            assert (found["id"], found["status"], found["params"]) == (RUN, "SUCCEEDED", {"n": 3})
            assert [(job["job"], job["array"], job["counts"]) for job in found["jobs"]] == [
                ("one", None, {"SUCCEEDED": 1}),
                ("many", 5, {"SUCCEEDED": 5}),
            ]
        page = await get(rig, f"/jobs/{ARRAY}/children?first=1&limit=2")
        assert [(each["index"], each["status"]) for each in page["children"]] == [(1, "SUCCEEDED"), (2, "SUCCEEDED")]
        assert page["next"] == 3
        assert (await get(rig, f"/jobs/{ARRAY}/children?first=3"))["next"] is None
        assert (await get(rig, f"/jobs/{ARRAY}/children?status=FAILED"))["children"] == []
        packed = await ask(rig, f"/jobs/{ARRAY}/states")
        assert (packed.headers["content-type"], packed.body) == ("application/octet-stream", b"\5" * 5)
        [attempt] = (await get(rig, f"/jobs/{SINGLE}/attempts"))["attempts"]
        assert (attempt["attempt"], attempt["exit_code"]) == (1, 0)
        assert (await get(rig, f"/jobs/{SINGLE}/plan"))["spec"]["command"] == ["true"]
        assert (await get(rig, f"/jobs/{SINGLE}/why"))["why"] is None
        meant = await get(rig, "/resolve?address=last/many:1-2")
        assert (meant["job"]["id"], meant["indices"]) == (ARRAY, [[1, 2]])


async def test_pages_of_runs_go_on_where_the_last_one_ended(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        runs = [f"{number:08d}-2222-4333-8444-555555555555" for number in range(5)]
        for number, run in enumerate(runs):
            await submit(rig, (f"{number:08d}-3333-4333-8444-555555555555", spec("one")), run=run)
        found: list[str] = []
        before: int | None = None
        while True:
            page = await get(rig, "/runs?limit=2" + ("" if before is None else f"&before={before}"))
            found += [each["id"] for each in page["runs"]]
            before = page["next"]
            if before is None:
                break
        assert found == runs[::-1]


async def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        for path, status, said in (
            ("/nothing", 404, "There is nothing at GET /api/v1/nothing"),
            ("/runs/none", 404, "no run has this id or workflow"),
            ("/runs?limit=0", 400, "limit"),
            ("/runs?limit=many", 400, "limit"),
            ("/runs?colour=red", 400, "colour"),
            ("/runs?limit=1&limit=2", 400, "twice"),
            (f"/jobs/{ARRAY}", 404, "no job"),
            ("/resolve", 400, "address"),
            ("/resolve?address=%2F%2F", 404, ""),
            ("/events?since=-1", 400, "since"),
            ("/queues/nope", 404, "There is no queue nope"),
        ):
            got = await ask(rig, path)
            assert (got.status, said in got.json["message"]) == (status, True), (path, got)
        for body, status, said in (
            ({}, 400, "Either `address` is needed"),
            ({"address": "last", "run": RUN}, 400, "Either `address` is needed"),
            ({"address": "last"}, 404, "nothing has run here yet"),
            ({"run": RUN}, 404, "There is no run"),
            ({"job": SINGLE}, 404, "There is no job"),
            ({"address": 1}, 400, "address"),
            ({"run": RUN, "indices": [[1]]}, 400, "indices"),
        ):
            got = await ask(rig, "/cancel", body)
            assert (got.status, said in got.json["message"]) == (status, True), (body, got)


async def test_stopped_and_tried_again_by_whoever_may_and_on_record(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await submit(rig, (ARRAY, spec("many", 8, duration_ms=FOR_EVER)))
        some = await ask(rig, "/cancel", {"address": "last/many:6-7", "reason": "not these"})
        assert (some.status, some.json["changed"]) == (200, 2), some
        assert (await get(rig, f"/jobs/{ARRAY}/why?index=5"))["why"].startswith("many:5")
        rest = await ask(rig, "/terminate", {"run": RUN, "job": None, "reason": "enough"})
        assert rest.status == 200, rest
        await ended(rig)
        again = await ask(rig, "/retry", {"address": "last/many:6"})
        assert (again.status, again.json["reopened"]) == (200, ["many"]), again
        assert (await get(rig, "/runs/last"))["generation"] == 1
        recorded = [row for _, row, _ in rig.running.service.reader.audit() if row.action == "flowbatch:Retry"]
        assert [(row.principal.endswith("administrator"), row.allowed) for row in recorded] == [(True, True)]


def streamed(rig: Rig, path: str, enough: threading.Event, **headers: str) -> Iterator[tuple[str, Any]]:
    """Server-sent events, until the stream ends or it is enough."""
    with urllib.request.urlopen(requested(rig, path, **headers), timeout=30) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        kind = "message"
        for line in answer:
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                yield kind, json.loads(line[6:])
                kind = "message"
            if enough.is_set():
                return


async def test_events_behind_a_number_and_as_they_come(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await submit(rig, (SINGLE, spec("one")))
        await ended(rig)
        page = await get(rig, "/events?limit=2")
        assert [each["seq"] for each in page["events"]] == [1, 2]
        every = await get(rig, "/events")
        assert every["last"] == every["events"][-1]["seq"] == len(every["events"])
        assert every["events"][-1]["kind"] == "run.succeeded"
        seen: list[Any] = []
        enough = threading.Event()
        more = anyio.Event()

        def read() -> None:
            for _, event in streamed(rig, "/events", enough, Accept="text/event-stream", Last_Event_ID="2"):
                seen.append(event)
                if event["kind"] == "run.succeeded":
                    if len(seen) > len(every["events"]):
                        enough.set()
                        return
                    anyio.from_thread.run_sync(more.set)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, read)
            with anyio.fail_after(20):
                await more.wait()
            other = "99999999-2222-4333-8444-555555555555"
            await submit(rig, (ARRAY, spec("one")), run=other)
        assert [each["seq"] for each in seen] == list(range(3, 3 + len(seen)))
        assert {each["run"] for each in seen} == {RUN, other}
        of_one = await get(rig, f"/events?run={other[:8]}")
        assert {each["run"] for each in of_one["events"]} == {other}


async def test_a_run_is_followed_to_its_end(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await submit(rig, (SINGLE, spec("one")), (ARRAY, spec("many", 6, duration_ms=FOR_EVER)))
        told: list[Any] = []
        begun = anyio.Event()

        def read() -> None:
            for kind, said in streamed(rig, "/runs/last/follow", threading.Event()):
                assert kind == "message"
                told.append(said)
                anyio.from_thread.run_sync(begun.set)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, read)
            with anyio.fail_after(20):
                await begun.wait()
            await ask(rig, "/terminate", {"address": "last"})
        assert [job["key"] for job in told[0]["jobs"]] == ["one", "many"]
        assert told[-1]["over"]
        assert told[-1]["run"]["status"] == "FAILED"
        assert not any(said["over"] for said in told[:-1])
        last = {job["key"]: job for said in told for job in said["jobs"]}
        assert last["many"]["counts"] == [0, 0, 0, 0, 0, 0, 6]
        failed = [child["idx"] for said in told for child in said["children"] if child["status"] == "FAILED"]
        assert len(failed) == len(set(failed)) == 4  # those that ran; four have room
        numbers = [event["seq"] for said in told for event in said["events"]]
        assert numbers == sorted(set(numbers))
        assert rig.running.service.live.followers == 0
        path = "/runs/last/follow"
        [(_, again)] = await anyio.to_thread.run_sync(lambda: list(streamed(rig, path, threading.Event())))
        assert again["over"]
        assert [job["counts"][6] for job in again["jobs"]] == [0, 6]


async def test_whatever_the_moment_a_run_is_seen_to_its_end(tmp_path: Path) -> None:
    """Within a turn the engine's memory is ahead of the store: the end of a run is told once both know it, and all of it."""
    async with a_server(tmp_path) as rig:
        service = rig.running.service
        for number in range(40):
            run = f"{number:08d}-2222-4333-8444-555555555555"
            job = f"{number:08d}-3333-4333-8444-555555555555"
            await submit(rig, (job, spec("many", 3, by_index={1: FakeScript(exit_code=3)})), run=run)
            for _ in range(number % 8):  # wherever the engine is by then
                await anyio.lowlevel.checkpoint()
            feed = await service.live.open_feed(service.reader.run(run))
            with anyio.fail_after(20):
                told = [await feed.first()]
                while not told[-1].over:
                    await feed.wake.wait()
                    told.append(await feed.next())
            feed.close()
            assert told[-1].run.status is RunStatus.FAILED
            last = {each.no: each for said in told for each in said.jobs}
            assert [each.counts for each in last.values()] == [[0, 0, 0, 0, 0, 2, 1]]
            kinds = [event.kind for said in told for event in said.events]
            assert (kinds[0], kinds[-1], len(kinds)) == ("run.running", "run.failed", len(set(kinds)))
            assert [each.idx for said in told for each in said.children if each.status is Status.FAILED] == [1]
        assert service.live.followers == 0


async def test_who_loses_the_key_is_sent_away(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await submit(rig, (SINGLE, spec("one", duration_ms=FOR_EVER)))
        key, secret = await rig.key("reader", {"Effect": "Allow", "Action": "flowbatch:*", "Resource": "*"})
        token = keys.token(key.removeprefix(keys.PREFIX), secret)
        said: list[tuple[str, Any]] = []
        begun = anyio.Event()

        def read() -> None:
            with urllib.request.urlopen(requested(rig, "/runs/last/follow", key=token), timeout=30) as answer:
                for line in answer:
                    if line.startswith(b"data: "):
                        said.append(("data", json.loads(line[6:])))
                        anyio.from_thread.run_sync(begun.set)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, read)
            with anyio.fail_after(20):
                await begun.wait()
            row = rig.running.app.engine.machine.state.keys[key.removeprefix(keys.PREFIX)]
            await rig.running.app.engine.ask(lambda ticket: PutKey(ticket, row._replace(revoked_at=Millis(1))))
            await ask(rig, "/terminate", {"address": "last/one"})
        assert said[-1][1] == {"reason": "the key is no longer valid"}


async def test_who_does_not_read_holds_no_memory_and_is_cut_off(tmp_path: Path) -> None:
    """Events are read from the store as they are taken, so that nothing waits here for one who takes none."""
    async with a_server(tmp_path) as rig:
        rig.running.service.live.slow_s = 0.2
        jobs = [(f"{number:08d}-7777-4333-8444-555555555555", spec(f"j{number}")) for number in range(600)]
        await submit(rig, *jobs)
        await ended(rig)
        assert (await get(rig, "/events?limit=1"))["last"] > 2400
        server = rig.running.server
        with socket.socket(socket.AF_UNIX) as stream, anyio.fail_after(20):
            stream.connect(str(rig.running.app.folder.http_socket))
            stream.sendall(b"GET /api/v1/events?since=0&follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while not server.streams:
                await anyio.lowlevel.checkpoint()
            while server.streams:
                await anyio.lowlevel.checkpoint()
            stream.settimeout(10)
            got = await anyio.to_thread.run_sync(lambda: b"".join(iter(lambda: stream.recv(1 << 20), b"")))
        assert len(got) < 500_000  # of more than these
        assert not got.endswith(b"0\r\n\r\n")  # it was not the end


# --- logs


async def test_a_log_whole_in_part_and_from_its_end(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await submit(rig, (SINGLE, spec("one")), (ARRAY, spec("many", 2)))
        await ended(rig)
        path = log_of(rig, SINGLE)
        text = b"".join(b"17900000000%02d o line %d\n" % (number, number) for number in range(20))
        path.with_name(path.name + ".1").write_bytes(text[:100])
        path.write_bytes(text[100:])
        whole = await ask(rig, f"/jobs/{SINGLE}/log")
        assert (whole.status, whole.body) == (200, text)
        assert whole.headers["content-type"] == "text/plain; charset=utf-8"
        assert whole.headers["content-disposition"].startswith("attachment")
        assert whole.headers["x-flowbatch-size"] == str(len(text))
        part = await ask(rig, f"/jobs/{SINGLE}/log?offset=90&limit=30")
        assert (part.body, part.headers["content-range"]) == (text[90:120], f"bytes 90-119/{len(text)}")
        for said, first, last in (
            ("bytes=0-9", 0, 9),
            ("bytes=95-", 95, len(text) - 1),
            ("bytes=5-99999", 5, len(text) - 1),
        ):
            ranged = await ask(rig, f"/jobs/{SINGLE}/log", Range=said)
            assert (ranged.status, ranged.body) == (206, text[first : last + 1]), said
            assert ranged.headers["content-range"] == f"bytes {first}-{last}/{len(text)}"
        for said in ("bytes=99999-", "bytes=9-1"):
            assert (await ask(rig, f"/jobs/{SINGLE}/log", Range=said)).status == 416
        assert (await ask(rig, f"/jobs/{SINGLE}/log?tail=2")).body == text[-len(b"1790000000018 o line 18\n") * 2 :]
        assert (await ask(rig, f"/jobs/{ARRAY}/log?index=1")).body == b""
        assert (await ask(rig, f"/jobs/{ARRAY}/log?index=2")).status == 400
        assert (await ask(rig, f"/jobs/{SINGLE}/log?attempt=2")).status == 404
        assert (await ask(rig, f"/jobs/{SINGLE}/log?member=0")).status == 404


async def test_a_log_is_followed_over_its_rotation_to_the_attempts_end(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await submit(rig, (SINGLE, spec("one", duration_ms=FOR_EVER)))
        path = log_of(rig, SINGLE)
        path.write_bytes(b"1 o old\n1 o one\n")
        got: list[bytes] = []
        seen = {b"one": anyio.Event(), b"two": anyio.Event(), b"three": anyio.Event()}

        def read() -> None:
            with urllib.request.urlopen(requested(rig, f"/jobs/{SINGLE}/log?follow=true&tail=1"), timeout=30) as answer:
                for line in answer:
                    got.append(line)
                    anyio.from_thread.run_sync(seen[line.split()[2]].set)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, read)
            with anyio.fail_after(20):
                await seen[b"one"].wait()
                with path.open("ab") as file:
                    file.write(b"2 o two\n")
                path.rename(path.with_name(path.name + ".1"))
                path.write_bytes(b"3 e three\n")
                await seen[b"three"].wait()
            await ask(rig, "/terminate", {"address": "last"})
        assert got == [b"1 o one\n", b"2 o two\n", b"3 e three\n"]


async def test_a_log_that_the_servers_end_breaks_off_does_not_look_whole(tmp_path: Path) -> None:
    begun = anyio.Event()
    lost: list[type[Exception]] = []

    def read(channel: Channel) -> None:
        try:
            for line in channel.lines("jobs", SINGLE, "log", follow=True):
                assert line == b"1 o one"
                anyio.from_thread.run_sync(begun.set)
        except ConnectionLost as error:
            lost.append(type(error))

    async with anyio.create_task_group() as tasks, a_server(tmp_path) as rig:
        await submit(rig, (SINGLE, spec("one", duration_ms=FOR_EVER)))
        log_of(rig, SINGLE).write_bytes(b"1 o one\n")
        tasks.start_soon(anyio.to_thread.run_sync, read, Channel(rig.url, bearer(rig)))
        with anyio.fail_after(20):
            await begun.wait()
    assert lost == [ConnectionLost]


def log_of(rig: Rig, job: str) -> Path:
    path = rig.running.app.folder.logs / log_name(AttemptKey(JobId(job), 0, 1).id)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# --- submitting


async def test_a_workflow_is_submitted_by_who_may_do_all_that_it_comes_to(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "state"), None)
    async with a_server(tmp_path, compiling=partial(compiler, place)) as rig:
        text = "params: {n: {type: integer, default: 2}}\njobs: {a: {array: '${{ params.n }}', command: ['true']}}\n"
        got = await ask(rig, "/runs", {"workflow": text, "name": "render.yaml", "params": {"n": "3"}})
        assert got.status == 200, got
        await ended(rig, got.json["run"])
        found = await get(rig, f"/runs/{got.json['run']}")
        assert (found["workflow"], found["params"], found["jobs"][0]["array"]) == ("render", {"n": 3}, 3)
        for body, status, said in (
            (
                {"workflow": "jobs: {a: {needs: b, command: [x]}}"},
                400,
                "workflow.yaml:1:19: jobs.a.needs: unknown job 'b'",
            ),
            ({"workflow": "jobs: ["}, 400, "workflow.yaml:2:1: a value is missing"),
            ({"workflow": "jobs: {a: {command: [x], vcpus: 1000}}"}, 400, "vcpus"),
            (
                {"workflow": "jobs: {a: {command: [x]}}\nsecrets: {T: {env: HOME}}"},
                400,
                "secrets from its settings alone",
            ),
            ({"workflow": text, "name": "../render.yaml"}, 400, "a file's name is needed"),
            ({"workflow": text, "params": {"m": "3"}}, 400, "m"),
            ({"name": "render.yaml"}, 400, "workflow"),
        ):
            got = await ask(rig, "/runs", body)
            assert (got.status, said in got.json["message"]) == (status, True), (body, got)
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        only = {"StringNotLike": {"batch:Image": "busybox*"}}
        name, secret = await rig.key("some", everything, {**everything, "Effect": "Deny", "Condition": only})
        key = keys.token(name.removeprefix(keys.PREFIX), secret)
        body = {"workflow": "jobs: {a: {image: alpine, command: [x]}}"}
        got = await ask(rig, "/runs", body, key=key)
        assert got.status == 403, got
        name, secret = await rig.key("submitter", {**everything, "Action": "flowbatch:SubmitRun"})
        got = await ask(rig, "/runs", {"workflow": text}, key=keys.token(name.removeprefix(keys.PREFIX), secret))
        assert (got.status, "batch:" in got.json["message"]) == (403, True), got
        assert len((await get(rig, "/runs"))["runs"]) == 1


class Flows:
    """A watched folder that holds one workflow."""

    def __init__(self, engine: Engine, folder: str) -> None:
        self.engine = engine
        self.folder = folder

    async def run(self) -> None:
        await anyio.sleep_forever()

    async def start(self, name: str, params: Mapping[str, str]) -> RunId:
        if params:
            raise InputError(f"{name}: it has no parameters")
        plan = RunPlan(RunId(RUN), "by hand", (JobPlan(JobId(SINGLE), spec("one")),))
        await self.engine.ask(lambda ticket: SubmitRun(ticket, plan))
        return plan.id

    def files(self) -> list[dict[str, Any]]:
        about = {"understood": True, "start": "manual", "last_run": None}
        return [{"file": "hand.yaml", "folder": self.folder, **about}]


async def test_a_file_of_a_watched_folder_is_started_by_hand(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        service = rig.running.service
        service.libraries = [Flows(rig.running.app.engine, "/flows"), Flows(rig.running.app.engine, "/others")]
        found = await get(rig, "/library")
        assert [(each["file"], each["folder"]) for each in found["files"]] == [
            ("hand.yaml", "/flows"),
            ("hand.yaml", "/others"),
        ]
        for path, body, status, said in (
            ("/library/none.yaml/start", {}, 404, "no file none.yaml"),
            ("/library/hand.yaml/start", {}, 400, "`folder` says which"),
            ("/library/hand.yaml/start", {"folder": "/flows", "params": {"n": "1"}}, 400, "it has no parameters"),
            ("/library/hand.yaml/start", {"folder": "/nowhere"}, 404, "no file hand.yaml"),
        ):
            got = await ask(rig, path, body)
            assert (got.status, said in got.json["message"]) == (status, True), got
        got = await ask(rig, "/library/hand.yaml/start", {"folder": "/flows"})
        assert (got.status, got.json["run"]) == (200, RUN)
        await ended(rig)
        name, secret = await rig.key(
            "some",
            {"Effect": "Allow", "Action": "flowbatch:StartFile", "Resource": "arn:aws:flowbatch:*:*:workflow/other"},
        )
        key = keys.token(name.removeprefix(keys.PREFIX), secret)
        assert (await ask(rig, "/library/hand.yaml/start", {"folder": "/flows"}, key=key)).status == 403


# --- receivers of events


async def test_receivers_are_tried_out_looked_at_and_delivered_to_again(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    text = f"notify: [{{name: log, to: {{jsonl: {file}}}, events: [run.*]}}]\n"
    [sink] = parse_settings(text.encode(), "flowbatch.yaml").notify
    async with a_server(tmp_path, replace(FAKE, notify=(sink,))) as rig:
        tried = await ask(rig, "/sinks/log/test", {})
        assert (tried.status, tried.json["delivered"]) == (200, True), tried
        assert len(file.read_text().splitlines()) == 1
        got = await ask(rig, "/sinks/none/test", {})
        assert (got.status, "there are: log" in got.json["message"]) == (404, True)
        await submit(rig, (SINGLE, spec("one")))
        await ended(rig)
        with anyio.fail_after(20):
            while len(file.read_text().splitlines()) < 3:
                await anyio.lowlevel.checkpoint()
        told = json.loads(file.read_text().splitlines()[-1])
        for body in ({"first": 1}, {"event": told["id"]}):
            again = await ask(rig, "/deliveries/redeliver", {"sink": "log", **body})
            assert again.status == 200, again
        with anyio.fail_after(20):
            while len(file.read_text().splitlines()) < 6:
                await anyio.lowlevel.checkpoint()
        assert json.loads(file.read_text().splitlines()[-1])["id"] == told["id"]
        found = await get(rig, "/deliveries?sink=log")
        assert (found["sinks"][0]["sink"], found["sinks"][0]["failed"]) == ("log", 0)
        for body, status, said in (
            ({"first": 1, "dead": True}, 400, "One of"),
            ({}, 400, "One of"),
            ({"first": 999}, 400, "There are no such events"),
            ({"event": "evt_x"}, 400, "event"),
        ):
            got = await ask(rig, "/deliveries/redeliver", {"sink": "log", **body})
            assert (got.status, said in got.json["message"]) == (status, True), got
        assert (await ask(rig, "/deliveries?sink=none")).status == 404
        assert (await ask(rig, "/sinks/log/enable", {})).status == 200


# --- who may


def filled(route: NativeRoute) -> str:
    found = {
        "run": RUN,
        "job": SINGLE,
        "queue": "default",
        "environment": "default",
        "node": "n",
        "token": "t",
        "policy": "p",
        "definition": "d:1",
        "sink": "hook",
        "file": "w.yaml",
    }
    steps = [found[step[1:-1]] if step.startswith("{") else step for step in route.steps]
    return "/".join(steps).removeprefix("/api/v1")


NEEDED: Final[dict[str, Any]] = {
    "Resolve": "?address=last",
    "Cancel": {"address": "last"},
    "Terminate": {"address": "last"},
    "Retry": {"address": "last"},
    "SubmitJob": {"name": "one", "command": ["true"]},
    "CreateQueue": {"queue": "q", "said": {"environments": ["default"]}},
    "CreateEnvironment": {"environment": "e", "said": {}},
    "CreateToken": {"name": "t", "total": 1},
    "CreateSchedulingPolicy": {"scheduling_policy": "p", "said": {}},
    "UpdateSchedulingPolicy": {"said": {}},
    "UpdateToken": {"operation": "ADD", "quantity": 1},
    "RegisterDefinition": {"definition": "{jobDefinitionName: d, type: container, containerProperties: {image: a}}"},
    "AddNode": {"vcpus_milli": 1000},
    "SubmitRun": {"workflow": "jobs: {a: {script: 'true'}}"},
    "Redeliver": {"sink": "hook", "dead": True},
}


@pytest.mark.parametrize("route", table.ROUTES, ids=lambda route: route.name)
def test_each_route_says_which_action_it_needs(route: NativeRoute) -> None:
    assert route.action == f"flowbatch:{route.name}"
    assert route.act.__doc__, "the document needs a word on it"
    assert route.reads == (route.method == "GET")
    assert route.takes is not None or route.reads


async def test_nobody_may_what_no_policy_allows(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await submit(rig, (SINGLE, spec("one", duration_ms=FOR_EVER)))
        name, secret = await rig.key("nobody")
        mute = keys.token(name.removeprefix(keys.PREFIX), secret)
        everything = {"Effect": "Allow", "Action": "flowbatch:*", "Resource": "*"}
        for route in table.ROUTES:
            more = NEEDED.get(route.name, "")
            query, body = (more, {} if route.method == "POST" else None) if isinstance(more, str) else ("", more)
            path = filled(route) + query
            rig.running.server.authenticator._failures.counts.clear()  # each address has ten failures a minute
            for key in ("", mute, "fbk_nonsense"):
                got = await ask(rig, path, body, key=key)
                assert got.status == 403, (route.name, key, got)
            denied = {"Effect": "Deny", "Action": route.action, "Resource": "*"}
            name, secret = await rig.key(f"no{route.name}", everything, denied)
            got = await ask(rig, path, body, key=keys.token(name.removeprefix(keys.PREFIX), secret))
            assert (got.status, "explicit deny" in got.json["message"]) == (403, True), (route.name, got)
        assert (await get(rig, "/runs/last"))["status"] == "RUNNING"  # nobody has stopped it


async def test_a_run_that_one_may_not_see_looks_like_one_that_is_not_there(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await submit(rig, (SINGLE, spec("one")))
        other = "99999999-2222-4333-8444-555555555555"
        name, secret = await rig.key(
            "some", {"Effect": "Allow", "Action": "flowbatch:*", "Resource": "arn:aws:batch:*:*:run/9*"}
        )
        key = keys.token(name.removeprefix(keys.PREFIX), secret)
        assert (await ask(rig, f"/runs/{RUN}", key=key)).status == 403
        assert (await ask(rig, "/runs/1234", key=key)).status == 403
        assert (await ask(rig, f"/runs/{other}", key=key)).status == 404
        assert (await ask(rig, f"/jobs/{SINGLE}", key=key)).status == 403
        assert (await ask(rig, "/resolve?address=last/one", key=key)).status == 403
        await submit(rig, (ARRAY, spec("one")), run=other)
        assert (await ask(rig, f"/runs/{other}", key=key)).status == 200
