"""`run` on a folder that a server holds: submitted there, followed here, with the same end."""

from __future__ import annotations

import signal

import pytest

from tests.app.commands import Commands, line_with
from tests.app.test_serve import start

pytestmark = pytest.mark.slow


def test_a_run_in_the_server_looks_like_one_here(flowbatch: Commands) -> None:
    server, url = start(flowbatch)
    good = flowbatch.write("good.yaml", "jobs: {a: {script: echo hello}, b: {needs: a, script: 'true'}}\n")
    done = flowbatch.call("run", good)
    assert done.code == 0, done
    assert "of good: SUCCEEDED" in done.out
    assert [line.split()[1:3] for line in done.out.splitlines() if "  a  " in line][-1] == ["a", "SUCCEEDED"]
    assert f"process {server.pid}" in done.err
    bad = flowbatch.write("bad.yaml", "jobs: {a: {array: 3, script: 'echo broken; exit $AWS_BATCH_JOB_ARRAY_INDEX'}}\n")
    done = flowbatch.call("run", bad)
    assert done.code == 1, done
    assert "a:2                   FAILED     exit 2" in done.out
    assert "1 of 3 children, exit 2\n      broken\n      flowbatch --state" in done.out
    elsewhere = ("--server", url, "--key-file", flowbatch.state / "admin.key")
    done = flowbatch.call(*elsewhere, "run", bad)
    assert done.code == 1, done
    assert "1 of 3 children, exit 2\n      broken\n      flowbatch --state" in done.out
    run = flowbatch.ok("run", good, "--detach").out.strip()
    assert flowbatch.ok("resume", run).out.count("SUCCEEDED") >= 3
    server.send_signal(signal.SIGTERM)
    assert flowbatch.end(server).code == 0


def test_ctrl_c_leaves_the_run_to_the_server_and_its_restart_is_waited_for(flowbatch: Commands) -> None:
    server, _ = start(flowbatch)
    pipe = flowbatch.pipe("go")
    file = flowbatch.write("wait.yaml", f"jobs: {{a: {{script: 'read word < {pipe.path}; echo $word'}}}}\n")
    first = flowbatch.start("run", file)
    line_with(first.stdout, "RUNNING")
    first.send_signal(signal.SIGINT)
    left = flowbatch.end(first)
    assert left.code == 130, left
    assert "goes on in the server" in left.err
    [run] = flowbatch.ok("runs", "--json").json
    assert (run["status"], run["interrupted"]) == ("RUNNING", False)
    assert f"resume {run['id'][:8]}" in left.err
    again = flowbatch.start("resume", run["id"])
    line_with(again.stdout, "RUNNING")
    server.send_signal(signal.SIGTERM)
    assert flowbatch.end(server).code == 0
    line_with(again.stderr, "waiting for it to come back")
    start(flowbatch)
    pipe.let(1)
    done = flowbatch.end(again)
    assert done.code == 0, done
    assert done.out.count("a                     RUNNING") == 0  # told once, and that was read above
    assert "SUCCEEDED" in done.out
