"""The verbs that change something, while nobody, an engine of `run`, or a server holds the folder: they say and do the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from flowbatch.app import open_app
from flowbatch.cli.main import run
from flowbatch.folder import StateFolder
from flowbatch.serve import Listening, serving
from flowbatch.settings import read_settings
from flowbatch.store.reader import Reader

SETTINGS = """
host: {vcpus: 4, memory: 8GiB}
environments:
  paid: {backend: fake, vcpus: 4, memory: 4GiB}
  farm: {backend: fake, type: unmanaged, nodes: {n1: {vcpus: 1, memory: 1GiB}}}
queues:
  default: {environments: [paid]}
  spare: {environments: [farm]}
tokens: {licence: 2}
"""
BLUR = {
    "jobDefinitionName": "blur",
    "type": "container",
    "containerProperties": {"command": ["true"], "resourceRequirements": [{"type": "VCPU", "value": "1"}]},
}
SCRIPT = [
    "environments disable farm",
    "environments show farm",
    "environments enable farm",
    "environments update paid --max-vcpus 2",
    "environments nodes add farm n2 --vcpus 2 --memory 1GiB",
    "environments nodes drain farm n1",
    "environments nodes remove farm n1",
    "environments nodes remove farm n9",
    "environments list",
    "environments delete paid",
    "environments delete nobody",
    "queues disable spare",
    "queues update spare --priority 7 --environment paid --environment farm",
    "queues update nobody --priority 7",
    "queues list",
    "queues delete default",
    "queues delete spare",
    "environments disable farm",
    "environments delete farm",
    "queues list",
    "tokens create budget 10 --non-replenishable",
    "tokens create budget 10",
    "tokens update licence --set 5",
    "tokens update budget --remove 3",
    "tokens update nobody --set 5",
    "tokens list",
    "tokens delete budget",
    "tokens show licence",
    "definitions register blur.json",
    "definitions register blur.json",
    "definitions list",
    "definitions deregister blur:1",
    "definitions deregister blur:7",
    "definitions show blur:1",
    "key policy put lists policy.json",
    "key policy put lists broken.json",
    "key policy list",
    "key policy delete nobody",
    "key policy delete lists",
]  # fmt: skip
PASSING = frozenset({"created_at", "registered_at", "deregistered_at", "updated_at", "at"})


@asynccontextmanager
async def held_by(who: str, folder: StateFolder) -> AsyncIterator[None]:
    settings = read_settings(folder.path, None)
    if who == "run":
        async with open_app(folder, settings, fake_only=True):
            yield
    elif who == "serve":
        async with serving(folder, settings, Listening((("127.0.0.1", 0),))):
            yield
    else:
        yield


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key not in PASSING}
    if isinstance(value, list):  # a server has a policy of its own
        return [
            timeless(each) for each in value if not (isinstance(each, dict) and each.get("name") == "administrator")
        ]
    return value


async def played(who: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, int, Any]]:
    (folder / "flowbatch.yaml").write_text(SETTINGS)
    (folder / "blur.json").write_text(json.dumps(BLUR))
    (folder / "policy.json").write_text(
        '{"Statement": [{"Effect": "Allow", "Action": "batch:List*", "Resource": "*"}]}'
    )
    (folder / "broken.json").write_text('{"Statement": [{"Effect": "Maybe"}]}')
    state = folder / "state"
    state.mkdir(mode=0o700)
    async with open_app(StateFolder(state), read_settings(state, None), fake_only=True):
        pass  # the settings have been declared once
    told = []
    async with held_by(who, StateFolder(state)):
        for line in SCRIPT:
            words = [str(folder / word) if word.endswith(".json") else word for word in line.split()]
            code = await anyio.to_thread.run_sync(run, ["--state", str(state), *words, "--json"])
            out, err = capsys.readouterr()
            said = (out + err).replace(str(folder), "")
            told.append((line, code, timeless(json.loads(out)) if code == 0 and out.startswith(("{", "[")) else said))
    return told


async def test_verbs_say_and_do_the_same_whoever_holds_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {}
    for who in ("nobody", "run", "serve"):
        (tmp_path / who).mkdir()
        told[who] = await played(who, tmp_path / who, capsys)
    for alone, run_, serve in zip(*told.values(), strict=True):
        assert alone == run_ == serve
    codes = {line: code for line, code, _ in told["serve"]}
    assert {line for line, code in codes.items() if code != 0} == {
        "environments nodes remove farm n9", "environments delete paid", "environments delete nobody", "queues update nobody --priority 7",
        "queues delete default", "tokens create budget 10", "tokens update nobody --set 5", "definitions deregister blur:7",
        "key policy put lists broken.json", "key policy delete nobody",
    }  # fmt: skip
    assert set(codes.values()) == {0, 2}
    with Reader(tmp_path / "serve" / "state" / "flowbatch.db") as reader:
        recorded = {row.action for _, row, _ in reader.audit()}
    assert {
        "flowbatch:UpdateEnvironment",
        "flowbatch:AddNode",
        "flowbatch:DeleteQueue",
        "flowbatch:UpdateToken",
    } <= recorded
    assert run(["--state", str(tmp_path / "serve" / "state"), "audit", "verify"]) == 0
