"""`Idempotency-Key`: what is sent again is made once, whoever asks when."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from flowbatch.cli.context import Place
from flowbatch.cli.watching import compiler
from flowbatch.http import keys
from tests.http.rig import a_server
from tests.http.test_native_api import ask, ended, get

RUN = {"workflow": "jobs: {a: {command: ['true']}}\n", "name": "render.yaml"}
JOB = {"name": "one", "command": ["true"]}


def jobs_of(rig: Any) -> int:
    return len(rig.running.service.reader.job_ids(""))


@pytest.mark.parametrize(("path", "body", "made"), [("/runs", RUN, "run"), ("/jobs", JOB, "job")])
async def test_what_is_sent_again_is_made_once_also_by_the_next_life(
    tmp_path: Path, path: str, body: dict[str, Any], made: str
) -> None:
    compiling = partial(compiler, Place(str(tmp_path / "state"), None))
    async with a_server(tmp_path, compiling=compiling) as rig:
        first = await ask(rig, path, body, Idempotency_Key='"8e03978e-40d5"')
        assert first.status == 200, first
        for key in ('"8e03978e-40d5"', "8e03978e-40d5"):
            assert (await ask(rig, path, body, Idempotency_Key=key)).json == first.json
        if made == "run":
            await ended(rig, first.json["run"])
        assert (await ask(rig, path, body, Idempotency_Key="8e03978e-40d5")).json == first.json
        other = await ask(
            rig, path, {**body, "name": "two.yaml" if made == "run" else "two"}, Idempotency_Key="8e03978e-40d5"
        )
        assert (other.status, other.json["__type"]) == (422, "IdempotencyKeyReusedException")
        assert "a new submission needs a new key" in other.json["message"]
        assert jobs_of(rig) == 1
        for refused in ("", " ", "x" * 256, "é"):
            got = await ask(rig, path, body, Idempotency_Key=refused)
            assert (got.status, "Idempotency-Key: 1 to 255" in got.json["message"]) == (400, True), refused
    async with a_server(tmp_path, compiling=compiling) as rig:
        assert (await ask(rig, path, body, Idempotency_Key="8e03978e-40d5")).json == first.json
        assert jobs_of(rig) == 1
        for number, said in enumerate(({"Idempotency_Key": "another"}, {}, {})):
            got = await ask(rig, path, body, None, **said)
            assert got.json[made] != first.json[made]
            assert jobs_of(rig) == 2 + number
        name, secret = await rig.key("ann", {"Effect": "Allow", "Action": "*", "Resource": "*"})
        hers = keys.token(name.removeprefix(keys.PREFIX), secret)
        got = await ask(rig, path, body, hers, Idempotency_Key="8e03978e-40d5")
        assert got.json[made] != first.json[made]  # nobody learns what others have sent, or stands in their way
        found = await get(rig, f"{path}/{first.json[made]}")
        assert found["id"] == first.json[made]


async def test_what_is_sent_at_once_is_made_once(tmp_path: Path) -> None:
    async with a_server(tmp_path, compiling=partial(compiler, Place(str(tmp_path / "state"), None))) as rig:
        found = []

        async def send(body: dict[str, Any]) -> None:
            found.append(await ask(rig, "/runs", body, Idempotency_Key="k"))

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(send, {**RUN, "name": f"{'ab'[number % 2]}.yaml"})
        assert sorted(got.status for got in found) == [200] * 3 + [422] * 3
        assert len({got.json["run"] for got in found if got.status == 200}) == jobs_of(rig) == 1


async def test_a_submission_that_was_refused_may_be_sent_again(tmp_path: Path) -> None:
    async with a_server(tmp_path, compiling=partial(compiler, Place(str(tmp_path / "state"), None))) as rig:
        body = {**JOB, "queue": "late"}
        assert (await ask(rig, "/jobs", body, Idempotency_Key="k")).status == 400
        assert (await ask(rig, "/queues", {"queue": "late", "said": {"environments": ["default"]}})).status == 200
        first = await ask(rig, "/jobs", body, Idempotency_Key="k")
        assert first.status == 200, first
        assert (await ask(rig, "/jobs", body, Idempotency_Key="k")).json == first.json
