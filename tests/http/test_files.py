"""What a file may that somebody drops into the folder of a server: each attack as a file, judged by a real server on a real folder."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from flowbatch.cli.context import Place
from flowbatch.cli.serve import watched
from flowbatch.errors import InputError
from flowbatch.folder import StateFolder
from flowbatch.library.shelves import Library
from flowbatch.model.ids import RunId
from flowbatch.serve import Grounds, Listening, Serving, serving
from flowbatch.settings import parse_settings, read_settings
from flowbatch.store.reader import Reader

ANYTHING: Final = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
QUEUE: Final = "arn:aws:batch:*:*:job-queue/"
STAMPS: Final = iter(range(10**9, 10**12, 10**6))
PLAIN: Final = "environments: {default: {backend: fake, vcpus: 4, memory: 8GiB}}\nqueues: {default: {}, urgent: {}}\n"


class Still:
    """A library that is polled by the test alone."""

    def __init__(self, library: Library) -> None:
        self.library = library

    async def run(self) -> None:
        await anyio.sleep_forever()

    async def start(self, name: str, params: Mapping[str, str]) -> RunId:
        return await self.library.start(name, params)

    def files(self) -> list[dict[str, Any]]:
        return self.library.files()


class Rig:
    def __init__(self, running: Serving, library: Library, folder: Path) -> None:
        self.running, self.library, self.folder = running, library, folder

    async def policy(self, *statements: Mapping[str, Any]) -> None:
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        await self.running.app.verbs.call("put_policy", {"name": "mine", "document": document})

    async def drop(self, text: str, name: str = "a.yaml") -> str:
        """Its errors; empty where it was taken."""
        path = self.folder / "flows" / name
        path.write_text(text)
        stamp = next(STAMPS)
        os.utime(path, ns=(stamp, stamp))
        await self.look()
        errors = path.with_name(path.name + ".errors.txt")
        return errors.read_text() if errors.exists() else ""

    async def look(self) -> None:
        """Two polls: a file is taken at the second."""
        await self.library.poll()
        await self.library.poll()

    def runs(self) -> list[str]:
        with Reader(self.running.app.folder.database) as reader:
            return [view.workflow for view in reversed(reader.runs(limit=1000))]

    async def record(self) -> list[tuple[bool, str, str | None]]:
        """Of the files: whether it was allowed, on what, and what was wrong."""
        await self.policy(*ANYTHING)  # a turn behind all that was posted
        with Reader(self.running.app.folder.database) as reader:
            rows = [row for _, row, _ in reader.audit(limit=1000)]
        return [(row.allowed, row.resource, row.error) for row in rows if row.action == "flowbatch:SubmitRun"]


@asynccontextmanager
async def a_server(folder: Path, more: str = "", rule: str = "", places: str = PLAIN) -> AsyncIterator[Rig]:
    """`more`: of the settings; `rule`: of the folder `flows`, whose principal is `guest` with the policy `mine`."""
    (folder / "flows").mkdir(mode=0o755, exist_ok=True)
    (folder / "flows").chmod(0o755)
    settings = f"{places}{more}\nserve: {{folders: [{{path: flows, principal: guest, policies: [mine]{rule}}}]}}\n"
    (folder / "flowbatch.yaml").write_text(settings)
    state = StateFolder(folder / ".flowbatch")
    known = read_settings(state.path, None)
    place = Place(str(state.path), None)
    opened: list[Library] = []

    @contextmanager
    def watch(grounds: Grounds) -> Iterator[Still]:
        with watched(place, known.serve.folders[0], False, grounds) as library:
            opened.append(library)
            yield Still(library)

    async with serving(state, known, Listening((("127.0.0.1", 0),)), [watch]) as running:
        yield Rig(running, opened[0], folder)


def job(**keys: Any) -> str:
    return json.dumps({"jobs": {"a": {"command": ["true"], **keys}}})


async def test_a_principal_may_what_its_policies_say_and_nothing_else(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        said = await rig.drop(job())
        assert "user/guest is not authorized to perform: batch:RegisterJobDefinition on resource: " in said
        assert "job-definition/a--a because no identity-based policy allows" in said
        submit = {"Effect": "Allow", "Action": ["batch:SubmitJob", "batch:RegisterJobDefinition"], "Resource": "*"}
        await rig.policy(submit, {"Effect": "Deny", "Action": "batch:SubmitJob", "Resource": QUEUE + "urgent"})
        said = await rig.drop(job(queue="urgent"))
        assert (
            "batch:SubmitJob on resource: arn:aws:batch:us-east-1:000000000000:job-queue/urgent with an explicit deny"
            in said
        )
        assert rig.runs() == []
        assert await rig.drop(job(), "b.yaml") == ""
        assert "TagResource" in await rig.drop(job(tags={"team": "red"}), "c.yaml")
        assert rig.runs() == ["b"]
        allowed = [(allowed, error is None) for allowed, _, error in await rig.record()]
        assert allowed == [(False, False), (False, False), (True, True), (False, False)]


async def test_a_scheduled_file_is_judged_when_it_appears(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        text = "schedule: {cron: '0 2 * * *'}\njobs: {a: {script: 'true'}}\n"
        assert "is not authorized" in await rig.drop(text)
        assert rig.library.shelves == {}
        await rig.policy(*ANYTHING)
        assert await rig.drop(text + "# again\n") == ""
        assert list(rig.library.shelves) == ["a.yaml"]


@pytest.mark.parametrize(
    "asked",
    [
        {"image": "evil"},
        {"image": "good", "privileged": True},
        {"image": "good", "user": "root"},
        {"image": "good", "log": {"driver": "syslog"}},
        {},  # a process, which has no image
        {"nodes": {"count": 2, "groups": [{"range": "0", "image": "good"}, {"range": "1", "image": "evil"}]}},
        {"containers": [{"name": "x", "image": "good"}, {"name": "y", "image": "evil"}]},
    ],
)
async def test_policies_are_asked_about_what_would_run(tmp_path: Path, asked: dict[str, Any]) -> None:
    conditions = {
        "StringEquals": {"batch:Image": "good", "batch:LogDriver": "awslogs"},
        "Bool": {"batch:Privileged": "false"},
        "Null": {"batch:User": "true"},
    }
    only_good = {"Effect": "Allow", "Action": "batch:*", "Resource": "*", "Condition": conditions}
    settings = "policy: {privileged: true, logs: [syslog]}"
    places = PLAIN.replace("backend: fake", "backend: local")
    async with a_server(tmp_path, settings, places=places) as rig:
        await rig.policy(
            {**only_good, "Action": "batch:SubmitJob"},
            {"Effect": "Allow", "Action": "batch:RegisterJobDefinition", "Resource": "*"},
        )
        assert "is not authorized" in await rig.drop(job(**asked))
        assert rig.runs() == []


async def test_a_stored_definition_is_no_way_round_what_may_be_registered(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await rig.policy(*ANYTHING)
        assert await rig.drop("definitions: {good: {image: busybox}}\njobs: {a: {uses: good}}\n", "lib.yaml") == ""
        await rig.policy(
            {"Effect": "Allow", "Action": "batch:SubmitJob", "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": "batch:RegisterJobDefinition",
                "Resource": "*",
                "Condition": {"StringEquals": {"batch:Image": "busybox"}},
            },
        )
        assert await rig.drop("jobs: {a: {uses: 'lib--good:1'}}\n", "b.yaml") == ""
        said = await rig.drop("jobs: {a: {uses: 'lib--good:1', image: evil}}\n", "c.yaml")
        assert "batch:RegisterJobDefinition on resource" in said
        assert rig.runs() == ["lib", "b"]


async def test_secrets_come_from_the_settings_alone_and_are_asked_for_by_name(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("x")
    (tmp_path / "key").write_text("x")
    async with a_server(tmp_path, "secrets: {mine: {file: s}, other: {file: s}}") as rig:
        secret = "arn:aws:secretsmanager:*:*:secret:mine"
        await rig.policy(
            {"Effect": "Allow", "Action": "batch:*", "Resource": "*"},
            {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": secret},
        )
        for source in ("{file: ../key}", "{command: [cat, ../key]}", "{env: HOME}"):
            said = await rig.drop(f"secrets: {{key: {source}}}\njobs: {{a: {{script: 'true', secrets: {{K: key}}}}}}\n")
            assert "a server takes secrets from its settings alone" in said, source
        assert await rig.drop(job(secrets={"K": "mine"}), "b.yaml") == ""
        # A source of the file under a name of the settings is not used: the settings' is.
        text = "secrets: {mine: {command: [touch, was-here]}}\njobs: {a: {script: 'true', secrets: {K: mine}}}\n"
        assert await rig.drop(text, "d.yaml") == ""
        plans = [run.plan for run in rig.running.app.engine.machine.state.runs.values()]
        sources = {source for plan in plans for each in plan.jobs for _, source in each.spec.secrets}
        assert {each.file for each in sources} <= {str(tmp_path / "s")}
        said = await rig.drop(job(secrets={"K": "other"}), "c.yaml")
        assert (
            "secretsmanager:GetSecretValue on resource: arn:aws:secretsmanager:us-east-1:000000000000:secret:other"
            in said
        )
        assert rig.runs() == ["b", "d"]


async def test_who_may_not_see_a_job_cannot_wait_for_it(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await rig.policy(*ANYTHING)
        assert await rig.drop(job(), "first.yaml") == ""
        with Reader(rig.running.app.folder.database) as reader:
            [first] = reader.jobs(reader.run("first"))
        await rig.policy(
            {"Effect": "Allow", "Action": ["batch:SubmitJob", "batch:RegisterJobDefinition"], "Resource": "*"}
        )
        said = await rig.drop(job(needs=[{"job": first.id}]), "b.yaml")
        said = said if "unknown job" not in said else await rig.drop(job(dependsOn=[{"jobId": first.id}]), "c.yaml")
        assert f"batch:DescribeJobs on resource: arn:aws:batch:us-east-1:000000000000:job/{first.id}" in said
        assert rig.runs() == ["first"]


async def test_a_file_brings_places_only_where_the_settings_allow_it(tmp_path: Path) -> None:
    text = "environments: {mine: {backend: fake, vcpus: 64, memory: 1TiB}}\nqueues: {fast: {priority: 999, environments: [mine]}}\n"
    async with a_server(tmp_path) as rig:
        await rig.policy(*ANYTHING)
        assert "unknown queue 'fast'" in await rig.drop(text + "jobs: {a: {script: 'true', queue: fast}}\n")
        assert "needs 32 vCPU" in await rig.drop(text + "jobs: {a: {script: 'true', vcpus: 32}}\n", "b.yaml")
        assert rig.runs() == []
    async with a_server(tmp_path, "allow_workflow_environments: true") as rig:
        wide = text + "jobs: {a: {script: 'true', queue: fast, vcpus: 32}}\n"
        await rig.policy(
            {"Effect": "Allow", "Action": ["batch:SubmitJob", "batch:Register*"], "Resource": "*"},
        )
        assert "batch:CreateComputeEnvironment" in await rig.drop(wide)
        await rig.policy(*ANYTHING)
        assert await rig.drop(wide, "c.yaml") == ""


async def test_rules_give_more_to_a_queue_and_a_principal_and_no_other(tmp_path: Path) -> None:
    more = (
        "policy:\n  images: [docker.io/library/busybox*]\n  processes: false\n  rules:\n"
        "  - {queues: [urgent], principals: [guest], privileged: true, images: ['docker.io/library/alpine*'], mounts: [/srv]}\n"
        "  - {principals: [somebody], processes: true}\n"
    )
    places = PLAIN.replace("backend: fake", "backend: local")
    async with a_server(tmp_path, more, places=places) as rig:
        await rig.policy(*ANYTHING)
        root: dict[str, Any] = {"image": "busybox", "privileged": True}
        cases: list[tuple[dict[str, Any], str]] = [
            (root, "root on this machine"),
            ({"image": "alpine"}, "none of the images"),
            ({"image": "busybox", "volumes": ["/srv/x:/x"]}, "outside the workflow's folder"),
            ({}, "the settings allow containers alone here"),
            ({"queue": "urgent"}, "the settings allow containers alone here"),
        ]
        for number, (asked, said) in enumerate(cases):
            assert said in await rig.drop(job(**asked), f"n{number}.yaml")
        text = job(queue="urgent", **root, volumes=["/srv/x:/x"]).replace(
            '"jobs"', '"schedule": {"cron": "0 0 1 1 *"}, "jobs"'
        )
        assert await rig.drop(text, "y.yaml") == ""
        assert rig.runs() == []


@pytest.mark.parametrize(
    "source", ["/srv", "{base}/.flowbatch", "{base}", "/var/run/docker.sock", "/", "{base}/flows/link"]
)
async def test_no_folder_of_the_machine_is_mounted(tmp_path: Path, source: str) -> None:
    places = PLAIN.replace("backend: fake", "backend: local")
    async with a_server(tmp_path, places=places) as rig:
        await rig.policy(*ANYTHING)
        (tmp_path / "flows" / "link").symlink_to("/etc")
        mount = source.replace("{base}", str(tmp_path)) + ":/x"
        assert "volumes" in await rig.drop(job(image="busybox", volumes=[mount]))
        assert rig.runs() == []


async def test_arrays_read_below_their_folder_and_what_the_settings_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "in.txt").write_text("one\ntwo\n")
    (tmp_path / "private").write_text("top\nsecret\n")
    async with a_server(tmp_path, f"allow_paths: [{data}]") as rig:
        await rig.policy(*ANYTHING)
        flows = tmp_path / "flows"
        (flows / "link.txt").symlink_to(tmp_path / "private")
        (flows / "away").symlink_to(tmp_path)
        os.mkfifo(flows / "pipe")
        (flows / "own.txt").write_text("a\n")
        refused = {
            "../private": "nowhere else",
            "/etc/passwd": "nowhere else",
            "~/.bashrc": "nowhere else",
            "link.txt": "through a link",
            "away/private": "through a link",
            "pipe": "no ordinary file",
        }
        for number, (path, said) in enumerate(refused.items()):
            assert said in await rig.drop(job(array={"lines": path}), f"n{number}.yaml"), path
        assert "nowhere else" in await rig.drop(job(array={"glob": "/etc/*"}), "g.yaml")
        assert rig.runs() == []
        assert await rig.drop(job(array={"lines": "own.txt"}), "own.yaml") == ""
        assert await rig.drop(job(array={"lines": str(data / "in.txt")}), "data.yaml") == ""
        assert await rig.drop(job(array={"glob": "away/*"}), "links.yaml") == ""
        assert rig.runs() == ["own", "data", "links"]
        with Reader(rig.running.app.folder.database) as reader:
            sizes = {view.workflow: reader.jobs(view)[0].size for view in reader.runs(limit=10)}
        assert sizes == {"own": 1, "data": 2, "links": 0}


async def test_what_is_told_of_events_is_no_way_out(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await rig.policy(*ANYTHING)
        for number, to in enumerate(({"exec": ["touch", "x"]}, {"jsonl": "/tmp/x"})):
            text = json.dumps({"notify": [{"to": to}], "jobs": {"a": {"command": ["true"]}}})
            assert "runs no program of its own for a workflow" in await rig.drop(text, f"n{number}.yaml")
        assert rig.runs() == []


async def test_a_pattern_cannot_stop_the_server(tmp_path: Path) -> None:
    """Matched by backtracking, the first would take longer than the universe is old; the others are not matched at all."""
    async with a_server(tmp_path) as rig:
        await rig.policy(*ANYTHING)
        bomb = {"pattern": "(a+)+b", "default": "a" * 4000}
        for number, (param, said) in enumerate(
            [
                (bomb, "does not match"),
                ({**bomb, "pattern": "(?=(a+))b"}, "a server takes no pattern"),
                ({**bomb, "pattern": "(a)\\1"}, "a server takes no pattern"),
            ]
        ):
            with anyio.fail_after(20):
                assert said in await rig.drop(
                    json.dumps({"params": {"p": param}, "jobs": {"a": {"command": ["true"]}}}), f"n{number}.yaml"
                )


async def test_a_parameter_is_pasted_into_a_script_only_where_its_values_are_bounded(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await rig.policy(*ANYTHING)
        script = "jobs: {a: {script: 'echo ${{ params.x }}'}}\nparams: {x: %s}\n"
        assert "pasted into a script" in await rig.drop(script % "{default: a}")
        assert await rig.drop(script % "{default: a, pattern: '[a-z]+'}", "b.yaml") == ""
        assert await rig.drop(script % "{default: 1, type: integer}", "c.yaml") == ""


async def test_what_comes_too_fast_waits_its_turn(tmp_path: Path) -> None:
    async with a_server(tmp_path, rule=", runs_per_minute: 2") as rig:
        await rig.policy(*ANYTHING)
        for name in "abc":
            path = rig.folder / "flows" / f"{name}.yaml"
            path.write_text(job())
        (rig.folder / "flows" / "inbox" / "d.yaml").write_text(job())
        await rig.look()
        await rig.look()
        assert rig.runs() == ["a", "b"]
        assert rig.library.pace is not None
        rig.library.pace.at_ms -= 60_000  # a minute goes by
        await rig.look()
        assert rig.runs() == ["a", "b", "c", "d"]


async def test_what_is_no_file_of_the_owners_is_written_down(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await rig.policy(*ANYTHING)
        (rig.folder / "flows" / "a.yaml").symlink_to("/etc/hostname")
        await rig.look()
        assert "is a link" in (rig.folder / "flows" / "a.yaml.errors.txt").read_text()
        assert "jobs" in await rig.drop("jobs: {a: {scrpt: x}}\n", "b.yaml")
        errors = [error for _, _, error in await rig.record()]
        assert [error is not None and error.partition(":")[0] for error in errors] == ["InputError", "WorkflowInvalid"]


async def test_two_folders_have_two_principals(tmp_path: Path) -> None:
    text = b"serve: {folders: [{path: /srv/a}, {path: /srv/b, principal: a}]}\n"
    with pytest.raises(InputError, match="'a' is the principal of /srv/a already"):
        parse_settings(text, str(tmp_path / "flowbatch.yaml"))
    with pytest.raises(InputError, match="is watched already"):
        parse_settings(text.replace(b"/srv/b", b"/srv/a"), str(tmp_path / "flowbatch.yaml"))
