"""`environments` and the changing verbs of `queues`, without an engine: the store is opened for the moment it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowbatch.cli.main import run

SETTINGS = """
host: {vcpus: 4, memory: 8GiB}
environments:
  paid: {vcpus: 4, memory: 4GiB, min_vcpus: 1}
  cheap: {vcpus: 4, memory: 4GiB, spot: true, notice: 3s}
  farm: {type: unmanaged, nodes: {n1: {vcpus: 1, memory: 1GiB}}}
queues:
  default: {environments: [paid]}
  spare: {environments: [cheap]}
"""

Call = Callable[..., Any]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a verb with `--json`; its answer, or its error as text."""
    monkeypatch.chdir(tmp_path)
    Path("flowbatch.yaml").write_text(SETTINGS, encoding="utf-8")

    def called(*words: str) -> Any:
        code = run([*words, "--json"])
        out, err = capsys.readouterr()
        assert code in (0, 2), err
        return json.loads(out) if code == 0 else err.removeprefix("flowbatch: ").strip()

    return called


def one(call: Call, name: str) -> dict[str, Any]:
    found = call("environments", "show", name)
    assert isinstance(found, dict)
    return found


def test_what_the_settings_declare_is_listed_before_anything_ran(call: Call) -> None:
    found = call("environments", "list")
    assert found["host"]["guard"] == {"vcpus": 4, "memory_mib": 8192, "gpus": 0}
    shapes = {
        each["environment"]: (each["type"], each["spot"], each["min_vcpus"], each["desired_vcpus"], each["max_vcpus"])
        for each in found["environments"]
    }
    assert shapes == {
        "paid": ("MANAGED", False, 1, 1, 4),
        "cheap": ("MANAGED", True, 0, 0, 4),
        "farm": ("UNMANAGED", False, 0, 1, 1),
    }
    assert not Path(".flowbatch").exists()


def test_what_a_verb_changes_lasts_until_the_settings_say_otherwise(call: Call) -> None:
    call("environments", "disable", "paid")
    call("environments", "update", "cheap", "--max-vcpus", "2", "--notice", "1m")
    assert (one(call, "paid")["state"], one(call, "paid")["changed"]) == ("DISABLED", ["state"])
    cheap = one(call, "cheap")
    assert (cheap["max_vcpus"], cheap["notice_ms"], cheap["changed"]) == (2, 60_000, ["max_vcpus", "notice"])
    Path("flowbatch.yaml").write_text(SETTINGS.replace("cheap: {vcpus: 4", "cheap: {vcpus: 3"), encoding="utf-8")
    cheap = one(call, "cheap")
    assert (cheap["max_vcpus"], cheap["notice_ms"], cheap["changed"]) == (3, 60_000, ["notice"])
    assert one(call, "paid")["state"] == "DISABLED"
    call("environments", "enable", "paid")
    assert one(call, "paid")["changed"] == []


def test_an_environment_is_deleted_by_the_rules_and_stays_so(call: Call) -> None:
    assert call("environments", "delete", "cheap") == "Cannot delete, environment cheap is ENABLED: disable it first"
    call("environments", "disable", "cheap")
    assert call("environments", "delete", "cheap") == "Cannot delete, found existing JobQueue relationship (spare)"
    call("queues", "update", "spare", "--environment", "paid", "--priority", "7")
    assert call("environments", "delete", "cheap")["status"] == "DELETING"
    assert [each["environment"] for each in call("environments", "list")["environments"]] == ["farm", "paid"]
    call("queues", "disable", "spare")
    call("queues", "delete", "spare")
    assert [each["queue"] for each in call("queues", "list")] == ["default"]


def test_an_environment_and_a_queue_are_made_used_and_deleted(call: Call) -> None:
    assert call("environments", "create", "night", "--max-vcpus", "1.5", "--memory", "1GiB", "--scale-down", "2m") == {
        "environment": "night"
    }
    night = one(call, "night")
    assert (night["type"], night["max_vcpus"], night["memory_mib"], night["scale_down_ms"]) == (
        "MANAGED", 1.5, 1024, 120_000,
    )  # fmt: skip
    call("environments", "create", "scraps", "--spot", "--notice", "30s", "--max-vcpus", "2")
    call("environments", "create", "own", "--unmanaged")
    call("environments", "nodes", "add", "own", "n1", "--vcpus", "1")
    assert (one(call, "scraps")["spot"], one(call, "scraps")["notice_ms"]) == (True, 30_000)
    assert [node["node"] for node in one(call, "own")["nodes"]] == ["n1"]
    made = ("queues", "create", "late", "--environment", "night", "--environment", "own", "--priority", "3")
    assert call(*made, "--weight", "ann=0.5", "--max-running", "2") == {"queue": "late"}
    [late] = [each for each in call("queues", "list") if each["queue"] == "late"]
    assert (late["environments"], late["priority"], late["max_running"]) == (["night", "own"], 3, 2)
    assert late["policy"]["shares"] == {"ann": 0.5}
    for words, said in (
        (("environments", "create", "night"), "Object already exists: there is an environment night"),
        (made, "Object already exists: there is a queue late"),
        (("environments", "create", "x", "--memory", "lots"), "environments.x.memory: 'lots' is not a size"),
        (("environments", "create", "x", "--unmanaged", "--memory", "1GiB"), "environments.x.memory: is for managed"),
        (("environments", "create", "a/b"), "'a/b' is not a name"),
        (("queues", "create", "x", "--environment", "nigt"), "environments[0]: unknown environment 'nigt'"),
        (("queues", "create", "x", "--environment", "own", "--weight", "ann"), "--weight ann: a share and a number"),
        (("queues", "create", "x", "--environment", "own", "--scheduling-policy", "p"), "policy p does not exist"),
        (("queues", "update", "late", "--scheduling-policy", "p"), "scheduling policy p does not exist"),
    ):
        assert said in call(*words)
    call("queues", "disable", "late")
    call("queues", "delete", "late")
    call("environments", "disable", "night")
    call("environments", "delete", "night")
    assert [each["environment"] for each in call("environments", "list")["environments"]] == [
        "cheap", "farm", "own", "paid", "scraps",
    ]  # fmt: skip
    assert "late" not in [each["queue"] for each in call("queues", "list")]


def test_a_policy_that_queues_share_is_made_changed_and_deleted(call: Call) -> None:
    made = ("queues", "policies", "create", "fair", "--weight", "ann=0.5", "--weight", "b*=2", "--share-decay", "24h")
    assert call(*made) == {"scheduling_policy": "fair"}
    day, even = 24 * 3600 * 1000, {"share_decay_ms": 0, "compute_reservation": 0, "shares": {}}
    [fair] = call("queues", "policies", "list")
    assert fair == {
        "scheduling_policy": "fair",
        "stored": True,
        "policy": {"share_decay_ms": day, "compute_reservation": 0, "shares": {"ann": 0.5, "b*": 2.0}},
        "queues": [],
    }
    call("queues", "create", "late", "--environment", "paid", "--scheduling-policy", "fair")
    call("queues", "create", "own", "--environment", "paid", "--fair-share")
    for words, said in (
        (made, "Object already exists: there is a scheduling policy fair"),
        (("create", "a/b"), "'a/b' is not a name"),
        (("create", "x", "--weight", "a*=1", "--weight", "ann=1"), "shares.ann: ann and a* overlap"),
        (("create", "x", "--share-decay", "soon"), "share_decay: "),
        (("create", "x", "--compute-reservation", "100"), "compute_reservation: "),
        (("update", "fair"), "nothing is said of the policy"),
        (("update", "none", "--weight", "ann=1"), "scheduling policy none does not exist"),
        (("update", "own", "--weight", "ann=1"), "the scheduling policy of queue own is its own"),
        (("delete", "fair"), "Cannot delete, found existing JobQueue relationship (late)"),
    ):
        assert said in call(*(words if words is made else ("queues", "policies", *words))), words
    assert call("queues", "policies", "update", "fair", "--compute-reservation", "20")["queues"] == ["late"]
    found = {each["scheduling_policy"]: each for each in call("queues", "policies", "list")}
    assert found["fair"]["policy"] == {**even, "compute_reservation": 20}  # as a whole: the weights are gone
    assert (found["fair"]["queues"], found["own"]) == (
        ["late"],
        {"scheduling_policy": "own", "stored": False, "policy": even, "queues": ["own"]},
    )
    [late] = [each for each in call("queues", "list") if each["queue"] == "late"]
    assert late["policy"] == found["fair"]["policy"]
    call("queues", "disable", "late")
    call("queues", "delete", "late")
    call("queues", "policies", "delete", "fair")
    assert [each["scheduling_policy"] for each in call("queues", "policies", "list")] == ["own"]


def test_nodes_come_and_go(call: Call) -> None:
    assert call("environments", "nodes", "add", "farm", "n2", "--vcpus", "2.5", "--memory", "1GiB", "--gpus", "1") == {
        "environment": "farm", "node": "n2",
    }  # fmt: skip
    call("environments", "nodes", "drain", "farm", "n1")
    nodes = {node["node"]: (node["state"], node["vcpus"], node["gpus"]) for node in one(call, "farm")["nodes"]}
    assert nodes == {"n1": ("DRAINING", 1, 0), "n2": ("ACTIVE", 2.5, 1)}
    call("environments", "nodes", "remove", "farm", "n1")
    assert [node["node"] for node in one(call, "farm")["nodes"]] == ["n2"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("environments show nope", "there is no environment nope; there are cheap, farm, paid"),
        ("environments disable nope", "there is no environment 'nope'; there are cheap, farm, paid"),
        ("environments update paid", "nothing is to be changed: see `flowbatch environments update --help`"),
        ("environments update paid --memory much", "--memory: 'much' is not a size"),
        (
            "environments update paid --min-vcpus 5",
            "environment paid: min_vcpus (5) must not be more than max_vcpus (4)",
        ),
        ("environments update farm --max-vcpus 5", "environment farm is UNMANAGED: its nodes say what there is"),
        ("environments nodes add paid n --vcpus 1", "environment paid is MANAGED: it has no nodes of its own"),
        ("environments nodes add farm n --vcpus 0", "--vcpus: "),
        (
            "environments nodes add farm n --vcpus 1 --memory 1GiB --endpoint tcp://h:1",
            "environment farm: node n is elsewhere (tcp://h:1), and only containers run there: the environment must have `backend: docker`",
        ),
        (
            "environments nodes add farm n --vcpus 1 --endpoint tcp://h:1",
            "--memory: how much n offers is needed, for it is elsewhere (tcp://h:1)",
        ),
        (
            "environments nodes add farm n --vcpus 1 --endpoint tcp://h",
            "--endpoint: tcp://h: a port is missing: 2376 is usual",
        ),
        ("queues update default --environment nope", "queue default: environments: there is no environment 'nope'"),
        ("queues update default", "nothing is to be changed"),
        ("queues delete default", "Cannot delete, queue default is ENABLED: disable it first"),
        ("queues enable nope", "there is no queue 'nope'; there are default, spare"),
    ],
)
def test_what_is_refused_is_said_in_a_sentence(call: Call, words: str, error: str) -> None:
    assert call(*words.split()).startswith(error)
