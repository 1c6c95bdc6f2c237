"""`tokens`: created by hand, declared by settings, of a run's own; held by real processes and given back."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from flowbatch.folder import StateFolder
from flowbatch.store import migrate
from tests.app.commands import Commands

pytestmark = pytest.mark.slow

WORK = """
name: work
jobs:
  a: {array: 3, tokens: {licence: 1}, script: 'echo $AWS_BATCH_JOB_ARRAY_INDEX > news; read _ < gate'}
"""


def test_created_by_hand_and_held_by_processes(flowbatch: Commands) -> None:
    assert flowbatch.ok("tokens", "create", "licence", "1", "--tag", "team=film").out == (
        "licence (replenishable): 1, 0 in use, 1 available\n"
    )
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    flowbatch.ok("run", "--detach", flowbatch.write("work.yaml", WORK))
    assert news.line() == "0"
    assert flowbatch.ok("why", "last/a:1").out == "a:1 is RUNNABLE: it needs 1 of tokens licence, 0 of 1 are free\n"
    assert flowbatch.ok("tokens", "list").out.splitlines()[1].split() == ["licence", "REPLENISHABLE", "1", "1", "0"]
    refused = flowbatch.call("tokens", "delete", "licence")
    assert (refused.code, "job a of run" in refused.err) == (2, True)
    assert flowbatch.ok("tokens", "update", "licence", "--add", "1").out == (
        "licence (replenishable): 2, 1 in use, 1 available\n"
    )
    assert news.line() == "1"
    gate.let(3)
    assert news.line() == "2"
    shown = flowbatch.ok("show", "last/a", "--json").json
    assert shown["spec"]["tokens"] == {"licence": 1}


def test_a_budget_lasts_over_runs_and_engines(flowbatch: Commands) -> None:
    flowbatch.write("flowbatch.yaml", "tokens: {budget: {total: 3, type: non_replenishable}}\n")
    spend = flowbatch.write("spend.yaml", "jobs: {a: {array: 2, tokens: {budget: 1}, script: 'true'}}")
    flowbatch.ok("run", spend)
    assert flowbatch.ok("tokens", "show", "budget").out == "budget (non-replenishable): 1 left\n"
    assert flowbatch.ok("tokens", "update", "budget", "--set", "5", "--json").json["total"] == 5
    flowbatch.ok("run", spend)
    assert flowbatch.ok("tokens", "show", "budget", "--json").json["total"] == 3
    flowbatch.write("flowbatch.yaml", "tokens: {budget: {total: 8, type: non_replenishable}}\n")
    flowbatch.ok("run", spend)  # the settings say another total: that is how many there are now
    assert flowbatch.ok("tokens", "show", "budget", "--json").json["total"] == 6


def test_a_files_own_belong_to_its_run(flowbatch: Commands) -> None:
    text = "tokens: {one: 1}\njobs: {a: {array: 3, tokens: {one: 1}, script: 'mkdir here && rmdir here'}}"
    flowbatch.ok("run", flowbatch.write("own.yaml", text))  # two at once would not both make the folder
    assert "holds 1 of one" in flowbatch.ok("show", "last/a").out
    assert flowbatch.ok("tokens", "list").out.startswith("There are no tokens here")


def test_wrong_words(flowbatch: Commands) -> None:
    flowbatch.ok("tokens", "create", "licence", "2")
    for words, told in (
        (("tokens", "create", "licence", "3"), "there are tokens 'licence' already; `update` changes how many"),
        (("tokens", "create", "a b", "3"), "'a b' is not a name"),
        (("tokens", "create", "x", "3", "--tag", "y"), "--tag y: it is given as name=value"),
        (("tokens", "update", "licence"), "one of --set, --add and --remove says what to do"),
        (("tokens", "update", "licence", "--remove", "3"), "REMOVE 3: 'licence' has 2"),
        (("tokens", "show", "licens"), "there are no tokens 'licens' (did you mean 'licence'?)"),
        (("tokens", "delete", "x"), "there are no tokens 'x'"),
    ):
        done = flowbatch.call(*words)
        assert (done.code, done.out) == (2, "")
        assert told in done.err
    done = flowbatch.call("check", flowbatch.write("w.yaml", "jobs: {a: {tokens: {licence: 3, x: 1}, script: y}}"))
    assert done.code == 2
    assert done.err.splitlines() == [
        f"{flowbatch.folder}/w.yaml:1:30: jobs.a.tokens.licence: needs 3 of tokens licence, of which there are 2 in all",
        f"{flowbatch.folder}/w.yaml:1:36: jobs.a.tokens.x: unknown tokens 'x'; known: licence",
    ]


def test_a_store_of_an_earlier_version_is_only_looked_at_where_a_file_asks(flowbatch: Commands) -> None:
    """It is brought up to date by the run itself."""
    folder = StateFolder(flowbatch.state)
    folder.create()
    with closing(sqlite3.connect(folder.database, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        migrate.apply(db, migrate.migrations()[:10])
    plain = flowbatch.write("plain.yaml", "jobs: {a: {script: 'true'}}")
    flowbatch.ok("check", plain)
    flowbatch.ok("run", plain)
    assert flowbatch.ok("tokens", "list").out.startswith("There are no tokens here")
