"""How containers end on the real Engine, row by row of its notes (D01 …)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flowbatch.core.ending import classify
from flowbatch.model.ending import EndClass, Evidence, Halt
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Exited, LaunchFailed
from flowbatch.ports import LaunchOrder
from tests.docker.engine import Raw
from tests.docker.test_away import until
from tests.docker.world import DockerWorld, lines, with_world


async def end_of(world: DockerWorld, order: LaunchOrder) -> Exited | LaunchFailed:
    world.backend.launch([order])
    return await world.facts.ended(order.key)


def start_of(raw: Raw, command: list[str], **host: Any) -> tuple[int, dict[str, Any]]:
    """The Engine's own answer to a start, and the state afterwards, flowbatch apart."""
    container = raw.create(command, NetworkMode="none", **host)
    try:
        status, _ = raw.call("POST", f"/containers/{container}/start")
        if status < 300:
            raw.ok("POST", f"/containers/{container}/wait")
        state: dict[str, Any] = raw.inspect(container)["State"]
        return status, state
    finally:
        raw.remove(container)


NOT_STARTED = [(("/no/such/command",), 127), (("/etc/not-executable",), 126), (("/tmp",), 126)]


@pytest.mark.parametrize(("words", "code"), NOT_STARTED)
@with_world
async def test_d01_d02_a_command_that_cannot_run(world: DockerWorld, words: tuple[str, ...], code: int) -> None:
    plain = await end_of(world, world.command(words, 0, init=False))
    assert isinstance(plain, LaunchFailed)
    assert plain.evidence.exit_code == code
    assert (plain.evidence.start_error or "").startswith("CannotStartContainerError: ")
    # With an init process the Engine sees a container that began and ended: RUNNING may have been told.
    under_init = await end_of(world, world.command(words, 1))
    assert under_init.evidence.exit_code == code
    assert (under_init.evidence.start_error or "").startswith(f'CannotStartContainerError: exec: "{words[0]}": ')
    for end in (plain, under_init):
        assert classify(end.evidence, Halt.NONE, None).end is EndClass.START


@pytest.mark.parametrize(("words", "code"), NOT_STARTED)
def test_d01_d02_measured_again_with_an_init_process(raw: Raw, words: tuple[str, ...], code: int) -> None:
    """Without: 400 and `created` for ever. With: 204, and an ordinary exit that only the init's own words explain."""
    status, state = start_of(raw, list(words), Init=False)
    assert (status, state["Status"], state["ExitCode"]) == (400, "created", code)
    assert state["Error"]
    assert state["StartedAt"].startswith("0001-")
    status, state = start_of(raw, list(words), Init=True)
    assert (status, state["Status"], state["ExitCode"], state["Error"]) == (204, "exited", code, "")


@pytest.mark.parametrize("init", [False, True])
@with_world
async def test_d03_a_user_that_is_not_there(world: DockerWorld, init: bool) -> None:
    end = await end_of(world, world.script("true", user="no-such-user", init=init))
    assert isinstance(end, LaunchFailed)
    assert end.evidence.exit_code == 128
    assert "no-such-user" in (end.evidence.start_error or "")


@with_world
async def test_d04_what_the_shell_does_not_find_is_the_programs_own_failure(world: DockerWorld) -> None:
    end = await end_of(world, world.script("no-such-program"))
    assert end.evidence == Evidence(127)


@with_world
async def test_d05_a_program_for_another_machine_gets_a_hint(world: DockerWorld) -> None:
    end = await end_of(world, world.command(("/bin/no-format",), init=False))
    assert end.evidence.exit_code == 1
    assert (end.evidence.detail or "").startswith("exec format error")


@pytest.mark.parametrize(("init", "code"), [(False, 137), (True, 143)])
@with_world
async def test_d12_an_init_process_passes_the_stop_on(world: DockerWorld, init: bool, code: int) -> None:
    """`sleep` as PID 1 ignores TERM and dies of the KILL after the grace; below an init it ends at once."""
    order = world.command(("sleep", "600"), init=init)
    world.backend.launch([order])
    await world.facts.started(order.key)
    world.backend.stop(order.key, 300 if code == 137 else 60_000, Halt.TERMINATE)
    assert (await world.facts.exited(order.key)).evidence == Evidence(code)


@with_world
async def test_d13_out_of_memory_is_told_from_a_kill_and_from_exit_137(world: DockerWorld, raw: Raw) -> None:
    memory = Resources(0, 16, 0)
    oom = world.script("tail /dev/zero", 0, resources=memory, init=False)
    own = world.script("exit 137", 1)
    killed = world.command(("sleep", "600"), 2)
    world.backend.launch([oom, own, killed])
    await world.facts.started(killed.key)
    raw.ok("POST", f"/containers/{world.name_of(killed)}/kill")
    assert (await world.facts.exited(oom.key)).evidence == Evidence(137, oom=True)
    assert (await world.facts.exited(own.key)).evidence == Evidence(137)
    assert (await world.facts.exited(killed.key)).evidence == Evidence(137)


@with_world
async def test_d14_a_childs_end_in_memory_is_no_failure_of_a_job_that_goes_on(world: DockerWorld) -> None:
    order = world.script("sh -c 'exec tail /dev/zero'; sleep 0.3; exit 0", resources=Resources(0, 16, 0))
    end = await end_of(world, order)
    assert end.evidence.exit_code == 0
    assert "due to memory usage" in (end.evidence.detail or "")
    assert classify(end.evidence, Halt.NONE, None).end is EndClass.SUCCESS


@with_world
async def test_d15_what_the_engine_refuses_fails_at_once(world: DockerWorld) -> None:
    end = await end_of(world, world.script("true", resources=Resources(0, 4, 0)))
    assert isinstance(end, LaunchFailed)
    assert (end.evidence.start_error or "").startswith("CannotCreateContainerError: ")
    assert "memory" in (end.evidence.start_error or "").lower()


@with_world
async def test_d08_a_container_of_others_with_our_name_is_never_touched(world: DockerWorld, raw: Raw) -> None:
    order = world.script("true")
    foreign = raw.create(["sleep", "600"], name=world.name_of(order), NetworkMode="none", Init=True)
    try:
        raw.ok("POST", f"/containers/{foreign}/start")
        end = await end_of(world, order)
        assert isinstance(end, LaunchFailed)
        assert "not flowbatch's" in (end.evidence.start_error or "")
        world.backend.forget([order.key])
        world.backend.stop(order.key, 0, Halt.TERMINATE)
        assert await world.backend.census() == []
        assert raw.inspect(foreign)["State"]["Running"]
    finally:
        raw.remove(foreign)


@with_world
async def test_d33_variables_pass_unharmed(world: DockerWorld) -> None:
    env = {"LINES": "one\ntwo", "EQUALS": "a=b", "EMPTY": "", "UMLAUT": "ü"}
    order = world.script('printf "%s|" "$LINES" "$EQUALS" "$EMPTY" "$UMLAUT"', env=env)
    await end_of(world, order)
    assert "\n".join(text for _, text in lines(order)) == "one\ntwo|a=b||ü|"


@with_world
async def test_a_variable_that_cannot_be_passed_fails_the_launch(world: DockerWorld) -> None:
    end = await end_of(world, world.script("true", env={"A": "b\0c"}))
    assert isinstance(end, LaunchFailed)
    assert "cannot be passed" in (end.evidence.start_error or "")


@with_world
async def test_d35_a_paused_container_can_be_stopped(world: DockerWorld, raw: Raw) -> None:
    order = world.command(("sleep", "600"))
    world.backend.launch([order])
    await world.facts.started(order.key)
    raw.ok("POST", f"/containers/{world.name_of(order)}/pause")
    assert [each.evidence for each in await world.backend.census()] == [None]
    world.backend.stop(order.key, 60_000, Halt.TERMINATE)
    assert (await world.facts.exited(order.key)).evidence.exit_code == 143  # a signal of the Engine's resumes it


@with_world
async def test_d20_what_is_asked_of_the_engine(world: DockerWorld, raw: Raw) -> None:
    order = world.command(("sleep", "600"), resources=Resources(1500, 64, 0))
    world.backend.launch([order])
    await world.facts.started(order.key)
    host = raw.inspect(world.name_of(order))["HostConfig"]
    assert host["AutoRemove"] is False
    assert host["Init"] is True
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["Privileged"] is False
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert set(host["CapDrop"]) == {"NET_RAW", "MKNOD", "AUDIT_WRITE", "SYS_CHROOT"}
    assert host["PidsLimit"] == 4096
    assert host["Memory"] == host["MemorySwap"] == 64 << 20
    assert host["CpuShares"] == 1536
    assert host["LogConfig"]["Type"] == "local"
    assert host["Binds"] is None
    assert host["Ulimits"] == [{"Name": "core", "Soft": 0, "Hard": 0}]
    world.backend.stop(order.key, 0, Halt.TERMINATE)
    await world.facts.exited(order.key)


@with_world
async def test_f22_nothing_that_it_left_running_outlives_its_container(world: DockerWorld) -> None:
    """Sessions of their own and orphans are over with the container, whose end takes everything along."""
    mark = uuid4().hex
    text = "for i in $(seq 40); do setsid sh -c 'sleep 600 & sleep 600' & done; echo ready; wait"
    order = world.script(text, env={"MARK": mark})
    world.backend.launch([order])
    await world.settled(order.key)
    assert len(marked(mark)) >= 40
    world.backend.stop(order.key, 0, Halt.TERMINATE)
    assert (await world.facts.exited(order.key)).evidence == Evidence(137)
    await until(lambda: not marked(mark))


def marked(text: str) -> list[str]:
    """Processes of this machine that have it in their environment."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and text.encode() in Path(f"/proc/{entry}/environ").read_bytes():
                found.append(entry)
        except OSError:
            pass  # gone
    return found
