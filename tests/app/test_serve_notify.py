"""Receivers of a server's settings: told, read anew on SIGHUP, and seen in its metrics."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.app.commands import PATIENCE_S, Commands, commands
from tests.app.test_kill_receiver import listening
from tests.app.test_serve import get, start

pytestmark = pytest.mark.slow

PLACES = "environments: {here: {backend: fake}}\nqueues: {default: {environments: [here]}}\n"


def read_again(flowbatch: Commands, server: subprocess.Popen[str], settings: str) -> None:
    flowbatch.write("flowbatch.yaml", PLACES + settings)
    server.send_signal(signal.SIGHUP)
    assert server.stderr is not None
    for line in server.stderr:
        if "settings_read" in line:
            return
    raise AssertionError("it never read them")


def meters(url: str) -> dict[str, float]:
    """`hook delivered` → how many."""
    _, text = get(f"{url}/metrics")
    found = re.findall(r'^flowbatch_sink_(\w+?)(?:_total|_events)?\{sink="([^"]+)"\} (\S+)$', text, re.MULTILINE)
    return {f"{sink} {what}": float(value) for what, sink, value in found}


def until(url: str, sink: str, **wanted: float) -> dict[str, float]:
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit:
        found = meters(url)
        if all(found.get(f"{sink} {what}", 0) >= least for what, least in wanted.items()):
            return found
    raise AssertionError(f"{wanted} never came: {meters(url)}")


def test_receivers_of_the_settings_are_read_anew(tmp_path: Path) -> None:
    with commands(tmp_path) as flowbatch, listening(tmp_path) as listener:
        hook = f"notify: [{{name: hook, to: 'http://127.0.0.1:{listener.port}/hook', events: ['job.*']"
        flowbatch.write("flowbatch.yaml", PLACES)
        server, url = start(flowbatch)
        assert meters(url) == {}
        read_again(flowbatch, server, hook + "}]\n")
        flowbatch.ok("submit", "--array", "2", "--", "true")
        found = until(url, "hook", failing=1)
        assert found["hook lag"] > 0
        [sink] = flowbatch.ok("deliveries", "--json").json["sinks"]
        assert "127.0.0.1 is not a public address; `allow_networks` of the settings may name it" in sink["error"]
        read_again(flowbatch, server, hook + ", arrays: both}]\nwebhooks: {allow_networks: [127.0.0.1]}\n")
        until(url, "hook", delivered=2)  # of the first array the parent's: children are logged from now on
        flowbatch.ok("submit", "--array", "2", "--", "true")
        found = until(url, "hook", delivered=10)
        assert (found["hook failing"], found["hook dead"], found["hook disabled"]) == (0, 0, 0)
        assert found["hook failed"] >= 1
        received = [line.split(" ") for line in listener.file.read_text(encoding="utf-8").splitlines()]
        subjects = [subject.rpartition("/")[2] for _, _, _, _, subject in received]
        assert subjects[:2] == ["true", "true"]
        assert {"true:0", "true:1"} <= set(subjects[2:])
        read_again(flowbatch, server, f"notify: [{{name: other, to: {{jsonl: '{tmp_path}/other.jsonl'}}}}]\n")
        flowbatch.ok("submit", "--", "true")
        until(url, "other", delivered=3)
        assert {name.partition(" ")[0] for name in meters(url)} == {"other"}
        lines = (tmp_path / "other.jsonl").read_text(encoding="utf-8").splitlines()
        assert "RUNNABLE" in {json.loads(line)["detail"]["status"] for line in lines}
        assert len(received) == len(listener.file.read_text(encoding="utf-8").splitlines())
        server.terminate()
        assert flowbatch.end(server).code == 0
