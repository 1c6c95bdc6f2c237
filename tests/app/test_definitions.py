"""`definitions`: registered by a run, by hand, beside a running engine, and used by another file."""

from __future__ import annotations

import json

import pytest

from tests.app.commands import Commands

pytestmark = pytest.mark.slow

FILM = """
name: film
definitions:
  base: {command: [echo, 'Ref::what'], parameters: {what: hi}}
jobs:
  a: {uses: base}
  b: {script: 'echo b', needs: a}
"""
BLUR = {
    "jobDefinitionName": "blur", "type": "container", "parameters": {"what": "blurred"}, "tags": {"team": "film"},
    "containerProperties": {"command": ["echo", "Ref::what"], "resourceRequirements": [{"type": "VCPU", "value": "0.5"}]},
}  # fmt: skip


def test_a_run_registers_what_its_file_defines(flowbatch: Commands) -> None:
    film = flowbatch.write("film.yaml", FILM)
    flowbatch.ok("run", film)
    flowbatch.ok("run", film)
    listed = flowbatch.ok("definitions", "list", "--all", "--json").json
    assert [(each["id"], each["status"]) for each in listed] == [("film--b:1", "ACTIVE"), ("film--base:1", "ACTIVE")]
    assert flowbatch.ok("show", "last/a", "--json").json["spec"]["definition"] == "film--base:1"
    film.write_text(FILM.replace("hi", "ho"), encoding="utf-8")
    flowbatch.ok("run", film)
    assert flowbatch.ok("definitions").out == flowbatch.ok("definitions", "list").out
    assert flowbatch.ok("definitions", "--json").json == flowbatch.ok("definitions", "list", "--json").json
    assert flowbatch.call("definitions", "--json", "list").code == 2
    assert [line.split()[0] for line in flowbatch.ok("definitions", "list").out.splitlines()[1:]] == [
        "film--b:1",
        "film--base:2",
    ]
    assert "definition   film--base:2" in flowbatch.ok("show", "last/a").out


def test_by_hand_and_used_by_a_file(flowbatch: Commands) -> None:
    file = flowbatch.write("blur.json", json.dumps(BLUR))
    assert flowbatch.ok("definitions", "register", file).out == "Registered blur:1.\n"
    assert flowbatch.ok("definitions", "register", file, "--json").json == {"name": "blur", "revision": 2}
    shown = flowbatch.ok("definitions", "show", "blur", "--json").json
    assert (shown["id"], shown["definition"]) == ("blur:2", BLUR)
    assert flowbatch.ok("definitions", "show", "blur:1").out.startswith("blur:1 is ACTIVE, registered ")
    use = flowbatch.write("use.yaml", "jobs: {a: {uses: blur, parameters: {what: sharp}}, b: {uses: 'blur:1'}}")
    flowbatch.ok("run", use)
    assert flowbatch.ok("logs", "last/a").out == "sharp\n"
    assert flowbatch.ok("logs", "last/b").out == "blurred\n"
    assert flowbatch.ok("definitions", "deregister", "blur:2").out == "blur:2 is INACTIVE. blur now means revision 1.\n"
    plan = flowbatch.ok("check", use, "--json").json
    assert [(job["job"], job["definition"]) for job in plan["jobs"]] == [("a", "blur:1"), ("b", "blur:1")]
    assert flowbatch.ok("definitions", "deregister", "blur:1").out.endswith("blur has no ACTIVE revision left.\n")
    refused = flowbatch.call("run", use)
    assert refused.code == 2
    assert "jobs.b.uses: Job definition blur:1 is INACTIVE: it was deregistered" in refused.err
    assert flowbatch.ok("definitions", "list").out.startswith("No definition is ACTIVE here")


def test_beside_a_running_engine(flowbatch: Commands) -> None:
    gate = flowbatch.pipe("gate")
    wait = flowbatch.write("wait.yaml", "jobs: {a: {script: 'read _ < gate'}}")
    flowbatch.ok("run", "--detach", wait)
    file = flowbatch.write("blur.json", json.dumps(BLUR))
    assert flowbatch.ok("definitions", "register", file).out == "Registered blur:1.\n"
    assert flowbatch.ok("definitions", "deregister", "blur:1").out.startswith("blur:1 is INACTIVE.")
    assert flowbatch.ok("definitions", "deregister", "blur:1").out.startswith("blur:1 is INACTIVE already.")
    gate.let(1)


def test_wrong_words(flowbatch: Commands) -> None:
    file = flowbatch.write("blur.json", json.dumps(BLUR))
    flowbatch.ok("definitions", "register", file)
    for words, told in (
        (("show", "blurr"), "there is no job definition blurr (did you mean 'blur'?)"),
        (("show", "blur:7"), "there is no job definition blur:7; it has revisions 1"),
        (("show", "blur:x"), "a revision is a number from 1, found 'x'"),
        (("deregister", "blur"), "blur: which revision? Write blur:REVISION"),
        (("register", "nowhere.json"), "nowhere.json: the definition cannot be read: No such file or directory"),
    ):
        done = flowbatch.call("definitions", *words)
        assert (done.code, done.out) == (2, "")
        assert told in done.err
    bad = flowbatch.write("bad.json", '{"jobDefinitionName": "x",\n "timeout": {"attemptDurationSeconds": -1}}')
    done = flowbatch.call("definitions", "register", bad)
    assert done.code == 2
    assert f"{bad}:2:13: timeout: " in done.err
