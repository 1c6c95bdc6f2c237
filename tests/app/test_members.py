"""A multi-node job of real processes whose engine is killed, or interrupted, or that the user terminates."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from flowbatch.model.status import Status
from flowbatch.store.results import MemberView
from tests.app.commands import Commands, Pipe, is_alive, kill, line_with

pytestmark = pytest.mark.slow

WORKFLOW = """
environments: {small: {backend: process, vcpus: 2}}
jobs:
  gang:
    vcpus: 0.5
    stop_grace: 10s
    nodes:
      count: 3
      main: 1
      groups:
        - {range: ':', script: 'echo "$AWS_BATCH_JOB_NODE_INDEX $$ $AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS" > news; exec tail -f /dev/null'}
        - {range: 1, script: 'echo "main $$ $FLOWBATCH_NODE_ADDRESS" > news; read _ < gate'}
"""


@pytest.fixture
def news(flowbatch: Commands) -> Pipe:
    return flowbatch.pipe("news")


def begun(news: Pipe) -> dict[str, int]:
    """Node → pid, once all run; all of them agree on where the main one is."""
    lines = [line.split() for line in news.lines(3)]
    assert len({address for _, _, address in lines}) == 1
    assert lines[0][0] == "main"
    return {name: int(pid) for name, pid, _ in lines}


def members(flowbatch: Commands) -> list[MemberView]:
    with flowbatch.reader() as reader:
        [job] = reader.jobs(reader.run("last"))
        return reader.members(job)


def test_an_engine_that_was_killed_is_followed_by_one_that_adopts_all_nodes(flowbatch: Commands, news: Pipe) -> None:
    gate = flowbatch.pipe("gate")
    engine = flowbatch.start("run", flowbatch.write("gang.yaml", WORKFLOW))
    pids = begun(news)
    kill(engine.pid)
    flowbatch.end(engine)
    assert all(is_alive(pid) for pid in pids.values())
    gate.let(1)  # the main node ends while nobody looks
    flowbatch.ok("resume")
    assert not any(is_alive(pid) for pid in pids.values())
    found = members(flowbatch)
    assert [(each.status, each.exit_code) for each in found] == [
        (Status.FAILED, 143), (Status.SUCCEEDED, 0), (Status.FAILED, 143),
    ]  # fmt: skip
    assert found[0].status_reason == "Main node exited"
    with flowbatch.reader() as reader:
        [job] = reader.jobs(reader.run("last"))
        assert (job.status, len(reader.attempts(job))) == (Status.SUCCEEDED, 1)


def test_terminate_reaches_all_nodes(flowbatch: Commands, news: Pipe) -> None:
    flowbatch.pipe("gate")
    engine = flowbatch.start("run", flowbatch.write("gang.yaml", WORKFLOW))
    pids = begun(news)
    flowbatch.ok("terminate", "last/gang", "--reason", "enough")
    assert flowbatch.end(engine).code == 1
    assert not any(is_alive(pid) for pid in pids.values())
    assert {each.status_reason for each in members(flowbatch)} == {"enough"}


def test_ctrl_c_twice_stops_all_nodes_and_resume_starts_them_again(flowbatch: Commands, news: Pipe) -> None:
    gate = flowbatch.pipe("gate")
    engine = flowbatch.start("run", flowbatch.write("gang.yaml", WORKFLOW))
    first = begun(news)
    engine.send_signal(signal.SIGINT)
    line_with(engine.stderr, "Draining")
    engine.send_signal(signal.SIGINT)
    assert flowbatch.end(engine).code == 130
    assert not any(is_alive(pid) for pid in first.values())
    again: Any = flowbatch.start("resume")
    second = begun(news)
    assert not set(first.values()) & set(second.values())
    gate.let(1)
    assert flowbatch.end(again).code == 0
    assert {each.key.attempt for each in members(flowbatch)} == {2}
