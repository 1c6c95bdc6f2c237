"""Verbs with --server: what they print of a server is what they print of its folder."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from flowbatch.cli.context import Place
from flowbatch.cli.main import run
from flowbatch.cli.watching import compiler
from flowbatch.http import keys
from flowbatch.model.ids import AttemptKey, JobId, log_name
from flowbatch.model.jobspec import FakeScript
from flowbatch.remote import reader
from flowbatch.remote.channel import Channel
from tests.http.rig import Rig, a_server
from tests.http.test_native_api import ARRAY, FOR_EVER, RUN, SINGLE, bearer, ended, spec, submit

OPEN = "99999999-2222-4333-8444-555555555555"


class Both:
    """A verb, asked of the folder and of the server."""

    def __init__(self, rig: Rig, output: pytest.CaptureFixture[str]) -> None:
        folder = rig.running.app.folder
        self.here = ["--state", str(folder.path)]
        self.there = ["--server", rig.url, "--key-file", str(folder.admin_key)]
        self._output = output

    async def told(self, options: list[str], *words: str) -> tuple[int, str, str]:
        self._output.readouterr()
        code = await anyio.to_thread.run_sync(run, [*options, *words])
        out, err = self._output.readouterr()
        for option in (" ".join(self.here), " ".join(self.there)):
            out, err = out.replace(f"flowbatch {option}", "flowbatch"), err.replace(f"flowbatch {option}", "flowbatch")
        kept = [line for line in err.splitlines() if not line.startswith("Of arrays only")]  # of our own settings
        return code, out, "\n".join(kept)

    def by(self, folder: Path, name: str, key: tuple[str, str]) -> list[str]:
        """The options of one with another key: its id and secret."""
        file = folder / f"{name}.key"
        file.write_text(keys.token(key[0].removeprefix(keys.PREFIX), key[1]), encoding="ascii")
        file.chmod(0o600)
        return [*self.there[:2], "--key-file", str(file)]

    async def same(self, *words: str) -> str:
        here, there = await self.told(self.here, *words), await self.told(self.there, *words)
        assert here == there, words
        assert here[0] == 0, here
        return here[1]


async def history(rig: Rig) -> None:
    """A run that has failed, and one that goes on."""
    many = spec("many", 3, by_index={1: FakeScript(exit_code=3)})
    await submit(rig, (SINGLE, spec("one")), (ARRAY, many))
    await ended(rig)
    write_log(rig, SINGLE, 0, "o hello")
    for index in range(3):
        write_log(rig, ARRAY, index, "o one", "o two", "o three", "e broken")
    await submit(rig, ("cccccccc-2222-4333-8444-555555555555", spec("long", 6, duration_ms=FOR_EVER)), run=OPEN)


def write_log(rig: Rig, job: str, index: int, *lines: str) -> None:
    """As a backend does that runs programs."""
    path = rig.running.app.folder.logs / log_name(AttemptKey(JobId(job), index, 1).id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"1790000000000 {line}\n" for line in lines), encoding="ascii")


async def test_what_is_shown_of_a_server_is_what_is_shown_of_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with a_server(tmp_path) as rig:
        await history(rig)
        both = Both(rig, capsys)
        for words in (
            "runs", "runs --json", "runs --limit 1", f"jobs {RUN}", f"jobs {RUN} --all --json", f"jobs {RUN} --status failed",
            f"jobs {OPEN[:8]} --all", f"show {RUN}", f"show {RUN} --json", f"show {RUN[:6]}/many --json", f"show {ARRAY}",
            f"logs {RUN}/one", f"logs {RUN}/many:1 --timestamps", f"logs {RUN}", f"logs {RUN}/many:0 --tail 2 --json",
            f"logs -f {RUN}/many:0", f"why {RUN}", f"why {RUN}/many:1", f"why {OPEN}/long:5", f"why {OPEN} --json",
            "events --limit 5", "events --since 2 --json", f"events -f --run {RUN}", "queues", "queues show default",
            "queues --json", "environments", "environments show default --json", "schedules", "deliveries --json",
            "deliveries --failed", f"graph {RUN}",
        ):  # fmt: skip
            assert await both.same(*words.split()), words
        one = await both.told(both.there, "show", f"{RUN}/many:1")
        assert f"log of attempt 1: flowbatch logs '{RUN[:8]}/many:1#1'" in one[1]
        here = json.loads((await both.told(both.here, "show", f"{RUN}/many:1", "--json"))[1])
        there = json.loads((await both.told(both.there, "show", f"{RUN}/many:1", "--json"))[1])
        assert there["history"][0].pop("log") is None
        here["history"][0].pop("log")
        assert here == there


async def test_what_is_changed_through_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with a_server(tmp_path) as rig:
        await history(rig)
        both = Both(rig, capsys)
        code, out, _ = await both.told(both.there, "cancel", f"{OPEN}/long:4-5")
        assert (code, out) == (0, f"{OPEN}/long:4-5: 2 tasks cancelled.\n")
        code, out, _ = await both.told(both.there, "terminate", OPEN, "--reason", "enough")
        assert (code, out) == (0, f"{OPEN}: 4 tasks terminated or cancelled.\n")
        await ended(rig, OPEN)
        code, out, _ = await both.told(both.there, "retry", f"{OPEN}/long:failed")
        assert (code, out) == (0, "Reopened in the running engine: long\n")


async def test_a_job_is_submitted_to_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(str(tmp_path / "state"), None)
    async with a_server(tmp_path, compiling=partial(compiler, place)) as rig:
        await history(rig)
        both = Both(rig, capsys)
        words = ["--name", "blur", "--array", "2", "--vcpus", "0.5", "--env", "A=${{ x }}", "--needs", f"{RUN}/one"]
        code, out, err = await both.told(both.there, "submit", *words, "--needs", f"{OPEN}/long:3", "--", "cp", "$A")
        assert (code, err) == (0, "")
        job = out.strip()
        held = rig.running.service.state.jobs[JobId(job)]
        assert (held.spec.key, held.spec.size, held.spec.programs[0].command) == ("blur", 2, ("cp", "$A"))
        assert ("A", "${{ x }}") in held.spec.programs[0].env
        assert [(need.job, need.index) for need in held.spec.needs] == [
            (SINGLE, None),
            ("cccccccc-2222-4333-8444-555555555555", 3),
        ]
        assert json.loads(await both.same("show", job, "--json"))["id"] == job
        code, out, _ = await both.told(both.there, "submit", "--json", "--needs", job, "--", "true")
        told = json.loads(out)
        assert (code, told["name"], told["queue"], set(told)) == (0, "true", "default", {"job", "name", "queue"})
        for given, said in (
            (["--vcpus", "1000"], "vcpus: "),
            (["--queue", "none"], "none"),
            (["--allow", "privileged"], "its settings say"),
            (["--needs", RUN], "this is a run"),
            (["--timeout", "soon"], "timeout: "),
        ):
            code, out, err = await both.told(both.there, "submit", *given, "--", "true")
            assert (code, out, said in err) == (2, "", True), err
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        deny = {"Effect": "Deny", "Action": "batch:SubmitJob", "Resource": "*"}
        hidden = {"Effect": "Deny", "Action": "batch:DescribeJobs", "Resource": "*"}
        before = len(rig.running.service.state.jobs)
        for name, rule, said in (("no", deny, "perform: batch:SubmitJob"), ("blind", hidden, f"Job {job} not found")):
            there = both.by(tmp_path, name, await rig.key(name, everything, rule))
            code, out, err = await both.told(there, "submit", "--needs", job, "--", "true")
            assert (code, out, said in err) == (2, "", True), err
        assert len(rig.running.service.state.jobs) == before


async def changed_alike(both: Both, *steps: tuple[str, int]) -> None:
    """Each change, of one thing here and of another through the server: what is said of both is the same but for their names."""
    for words, code in steps:
        here = await both.told(both.here, *words.replace("THING", "hither").split())
        there = await both.told(both.there, *words.replace("THING", "yonder").split())
        assert [each.replace("yonder", "hither") for each in there[1:]] == list(here[1:]), words
        assert (here[0], there[0]) == (code, code), (words, here)


async def test_queues_and_environments_are_changed_alike_through_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with a_server(tmp_path) as rig:
        both = Both(rig, capsys)
        await changed_alike(
            both,
            ("environments create THING --max-vcpus 2 --memory 1GiB --spot --notice 5s", 0),
            ("environments create THING", 2),
            ("environments create THING-2 --memory lots", 2),
            ("environments create THING-farm --unmanaged --json", 0),
            ("environments update THING --max-vcpus 3 --scale-down 2m --json", 0),
            ("environments update THING --on-demand --terminate-jobs", 0),
            ("environments show THING --json", 0),
            ("environments nodes add THING-farm n1 --vcpus 1.5", 0),
            ("environments nodes add THING-farm n2 --vcpus 1 --memory 1GiB --endpoint tcp://192.0.2.1:2376", 2),
            ("environments nodes add THING-farm n2 --vcpus 1 --memory 1GiB", 0),
            ("environments nodes add THING n1 --vcpus 1", 2),
            ("environments nodes drain THING-farm n2 --json", 0),
            ("environments nodes remove THING-farm n2", 0),
            ("environments nodes remove THING-farm n3", 2),
            ("environments show THING-farm", 0),
            ("queues create THING --environment THING --priority 7 --weight ann=0.5 --max-running 3", 0),
            ("queues create THING --environment THING", 2),
            ("queues create THING-2 --environment THING --max-running 0", 2),
            ("queues create THING-2 --environment THING --scheduling-policy none", 2),
            ("queues update THING --priority 9 --max-running 0 --environment default --environment THING", 0),
            ("queues show THING", 0),
            ("queues policies create THING-fair --weight ann=0.5 --share-decay 2h --compute-reservation 5", 0),
            ("queues policies create THING-fair", 2),
            ("queues policies create THING-2 --share-decay soon", 2),
            ("queues create THING-2 --environment THING --scheduling-policy THING-fair --json", 0),
            ("queues policies update THING-fair --weight bob=3 --json", 0),
            ("queues policies update THING-none --weight bob=3", 2),
            ("queues show THING-2", 0),
            ("queues policies delete THING-fair", 2),
            ("queues disable THING-2", 0),
            ("queues delete THING-2", 0),
            ("queues policies delete THING-fair --json", 0),
            ("queues delete THING", 2),
            ("queues disable THING", 0),
            ("queues delete THING", 0),
            ("environments disable THING", 0),
            ("environments enable THING", 0),
            ("environments delete THING", 2),
            ("environments disable THING", 0),
            ("environments delete THING", 0),
        )
        state = rig.running.service.state
        assert set(state.environments) == {"default", "hither-farm", "yonder-farm"}
        assert set(state.queues) == {"default"}


async def test_who_changes_places_may_call_what_aws_calls_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    async with a_server(tmp_path) as rig:
        both = Both(rig, capsys)
        for made in ("environments create farm --unmanaged", "queues policies create fair"):
            code, _, err = await both.told(both.there, *made.split())
            assert (code, err) == (0, "")
        assert "fair share, usage counts for 10m" in await both.same("queues", "policies", "list")
        cases = (
            ("queues create q --environment default", "CreateJobQueue", "job-queue/q"),
            ("queues create q --environment default", "CreateJobQueue", "compute-environment/default"),
            ("queues update default --environment farm", "UpdateJobQueue", "compute-environment/farm"),
            ("queues disable default", "UpdateJobQueue", "job-queue/default"),
            ("queues delete default", "DeleteJobQueue", "job-queue/default"),
            ("queues policies create p", "CreateSchedulingPolicy", "scheduling-policy/p"),
            ("queues policies update fair --weight a=1", "UpdateSchedulingPolicy", "scheduling-policy/fair"),
            ("queues policies delete fair", "DeleteSchedulingPolicy", "scheduling-policy/fair"),
            ("environments create e", "CreateComputeEnvironment", "compute-environment/e"),
            ("environments disable default", "UpdateComputeEnvironment", "compute-environment/default"),
            ("environments delete default", "DeleteComputeEnvironment", "compute-environment/default"),
            ("environments nodes add farm n --vcpus 1", "UpdateComputeEnvironment", "compute-environment/farm"),
            ("environments nodes drain farm n", "UpdateComputeEnvironment", "compute-environment/farm"),
            ("environments nodes remove farm n", "UpdateComputeEnvironment", "compute-environment/farm"),
        )
        for number, (words, action, resource) in enumerate(cases):
            arn = f"arn:aws:batch:us-east-1:000000000000:{resource}"
            denied = {"Effect": "Deny", "Action": f"batch:{action}", "Resource": arn}
            name = f"key{number}"
            there = both.by(tmp_path, name, await rig.key(name, everything, denied))
            code, out, err = await both.told(there, *words.split())
            assert (code, out, f"perform: batch:{action} on resource: {arn} " in err) == (2, "", True), (words, err)
        state = rig.running.service.state
        assert (set(state.queues), set(state.environments)) == ({"default"}, {"default", "farm"})
        assert {name: policy.weights for name, policy in state.scheduling.items()} == {"fair": ()}
        assert state.queues["default"].spec.enabled
        assert state.environments["default"].spec.enabled


async def test_tokens_are_changed_alike_through_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with a_server(tmp_path) as rig:
        both = Both(rig, capsys)
        await changed_alike(
            both,
            ("tokens list", 0),
            ("tokens create THING 3 --tag team=x", 0),
            ("tokens create THING 3", 2),
            ("tokens create THING-2 7 --non-replenishable --json", 0),
            ("tokens update THING --add 2", 0),
            ("tokens update THING --remove 9", 2),
            ("tokens update THING --set 4 --json", 0),
            ("tokens show THING", 0),
            ("tokens delete THING-2", 0),
        )
        assert [each["name"] for each in json.loads(await both.same("tokens", "list", "--json"))] == [
            "hither",
            "yonder",
        ]
        await both.same("tokens", "list")
        await both.same("tokens", "show", "yonder", "--json")
        here, there = [await both.told(which, "tokens", "show", "yonde") for which in (both.here, both.there)]
        assert here == there
        assert "did you mean 'yonder'?" in here[2]
        held = rig.running.service.state.tokens.held
        assert {name: token.total for name, token in held.items()} == {"hither": 4, "yonder": 4}
        await refused(rig, both, tmp_path, TOKEN_CALLS, "consumable-resource")
        assert {name: token.total for name, token in held.items()} == {"hither": 4, "yonder": 4}


TOKEN_CALLS = (
    ("tokens create c 1", "batch:CreateConsumableResource", "c"),
    ("tokens create c 1 --tag team=x", "batch:TagResource", "c"),
    ("tokens update yonder --add 1", "batch:UpdateConsumableResource", "yonder"),
    ("tokens delete yonder", "batch:DeleteConsumableResource", "yonder"),
)
DEFINITION_CALLS = (
    ("definitions register FILE", "batch:RegisterJobDefinition", "blur"),
    ("definitions register FILE", "batch:TagResource", "blur"),
    ("definitions deregister blur:2", "batch:DeregisterJobDefinition", "blur:2"),
)


async def refused(rig: Rig, both: Both, folder: Path, calls: tuple[tuple[str, str, str], ...], kind: str) -> None:
    """Who may do everything but that call of AWS on that resource."""
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    for number, (words, action, name) in enumerate(calls):
        arn = f"arn:aws:batch:us-east-1:000000000000:{kind}/{name}"
        key = await rig.key(f"key{number}", everything, {"Effect": "Deny", "Action": action, "Resource": arn})
        there = both.by(folder, f"key{number}", key)
        code, out, err = await both.told(there, *words.replace("FILE", str(folder / "blur.yaml")).split())
        assert (code, out, f"perform: {action} on resource: {arn} " in err) == (2, "", True), (words, err)


BLUR = """
jobDefinitionName: blur
type: container
tags: {team: x}
containerProperties: {image: 'busybox:1', command: [echo, hello]}
"""


async def test_definitions_are_those_of_the_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "blur.yaml"
    async with a_server(tmp_path) as rig:
        both = Both(rig, capsys)
        await both.same("definitions")
        for number, words in ((1, "hello"), (2, "there")):
            file.write_text(BLUR.replace("hello", words), encoding="utf-8")
            told = await both.told(both.there, "definitions", "register", str(file))
            assert told == (0, f"Registered blur:{number}.\n", "")
        await rig.define("other")
        for words in (
            "definitions", "definitions list --all", "definitions list --all --json", "definitions show blur",
            "definitions show blur:1 --json",
        ):  # fmt: skip
            assert "blur" in await both.same(*words.split())
        told = await both.told(both.there, "definitions", "deregister", "blur:1", "--json")
        assert (told[0], json.loads(told[1])) == (0, {"changed": True, "latest": 2})
        await both.same("definitions", "deregister", "blur:1")
        await both.same("definitions", "show", "blur:1")
        file.write_text("jobDefinitionName: blur\ntype: pod\n", encoding="utf-8")
        for words in ("show blurr", "show blur:9", "deregister blur", "deregister blur:9", f"register {file}"):
            one, other = [await both.told(way, "definitions", *words.split()) for way in (both.here, both.there)]
            assert (one[0], one[2].removeprefix("flowbatch: ")) == (2, other[2].removeprefix("flowbatch: ")), words
            assert other[0] == 2
        assert f"{file}:2:7: type: " in other[2]
        file.write_text(BLUR, encoding="utf-8")
        await refused(rig, both, tmp_path, DEFINITION_CALLS, "job-definition")
        everything: dict[str, Any] = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        image = {"Action": "batch:RegisterJobDefinition", "Condition": {"StringLike": {"batch:Image": "busybox*"}}}
        flat = "jobDefinitionName: flat\ntype: container\nimage: 'busybox:1'\ncommand: [echo]\n"
        file.with_name("flat.yaml").write_text(flat, encoding="utf-8")
        key = await rig.key("image", everything, {**everything, "Effect": "Deny", **image})
        there = both.by(tmp_path, "image", key)
        for each in (file, file.with_name("flat.yaml")):  # wherever the image stands
            code, _, err = await both.told(there, "definitions", "register", str(each))
            assert (code, "explicit deny" in err) == (2, True), err
        rows = rig.running.service.reader.definitions(every=True)
        assert [(row.id, row.active) for row in rows] == [("blur:1", False), ("blur:2", True), ("other:1", True)]


async def test_definitions_come_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PAGE", 2)
    async with a_server(tmp_path) as rig:
        for number, name in enumerate(("a", "b", "a", "c", "a"), 1):
            await rig.define(name, {"duration": f"{number}s"})

        def read(every: bool) -> list[str]:
            with reader.RemoteReader(Channel(rig.url, bearer(rig))) as records:
                return [row.id for row in records.definitions(every=every)]

        for every in (False, True):
            known = [row.id for row in rig.running.service.reader.definitions(every=every)]
            assert await anyio.to_thread.run_sync(read, every) == known
            assert len(known) > 2


async def test_what_goes_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with a_server(tmp_path) as rig:
        both = Both(rig, capsys)
        key = rig.running.app.folder.admin_key
        open_key = tmp_path / "key"
        open_key.write_text("fbk_", encoding="ascii")
        open_key.chmod(0o644)
        empty = tmp_path / "empty"
        empty.touch(mode=0o600)
        for words, code, said in (
            (["--server", "http://127.0.0.1:1", "runs"], 5, "the server does not answer"),
            (["--server", "ftp://x", "runs"], 2, "a server's URL is needed"),
            (["--server", "http://batch.example", "--key-file", str(key), "runs"], 2, "use https"),
            (["--server", rig.url, "runs"], 2, "FLOWBATCH_KEY or --key-file gives a key"),
            (["--server", rig.url, "--key-file", str(open_key), "runs"], 2, "others may read this key"),
            (["--server", rig.url, "--key-file", str(empty), "runs"], 2, "there is no key in it"),
            (["--server", rig.url, "--key-file", str(tmp_path / "none"), "runs"], 2, "No such file"),
            (["--server", rig.url, "gc"], 2, "works on a state folder here"),
            ([*both.there, "jobs", "nope"], 2, "no run has this id or workflow"),
            ([*both.there, "resume"], 2, "a RUN is needed"),
        ):
            told = await both.told(words)
            assert (told[0], said in told[2]) == (code, True), (words, told)


def test_a_key_in_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(os.environ, "FLOWBATCH_KEY", "fbk_short")
    assert run(["--server", "http://127.0.0.1:1", "runs"]) == 2
    assert "FLOWBATCH_KEY is no key" in capsys.readouterr().err
