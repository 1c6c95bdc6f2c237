"""An Engine behind ssh: a real sshd on loopback, and OpenSSH's own client."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowbatch.backends.docker.checks import look
from tests.app.commands import PATIENCE_S, Commands, commands, is_alive
from tests.docker.engine import IMAGE, Raw, ensure_program
from tests.docker.registry import a_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an sshd of the test's own needs root")

FILE = f"""
jobs:
  far: {{image: '{IMAGE}', network: none, memory: 16MiB, script: 'trap "exit 3" TERM; echo ready; while :; do sleep 0.1; done'}}
"""


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """An endpoint, and the variables with which ssh gets there."""
    ensure_program("sshd", "openssh-server")
    ensure_program("ssh", "openssh-client")
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    port = a_port()
    (keys / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"PermitRootLogin prohibit-password\nPasswordAuthentication no\nAuthorizedKeysFile {keys}/user.pub\n"
    )
    host = (keys / "host.pub").read_text()
    (keys / "known").write_text(f"[127.0.0.1]:{port} {host}")
    (keys / "config").write_text(f"IdentityFile {keys}/user\nIdentitiesOnly yes\nUserKnownHostsFile {keys}/known\n")
    program = keys / "bin" / "ssh"  # OpenSSH finds its files by the password file, whatever HOME says
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {keys}/config "$@"\n')
    program.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", keys / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        path = f"{program.parent}:{os.environ['PATH']}"
        yield f"ssh://{getpass.getuser()}@127.0.0.1:{port}", {"PATH": path}
    finally:
        server.kill()
        server.wait()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "sshd does not come up"
            time.sleep(0.05)


def tunnels(endpoint: str) -> list[int]:
    """Processes of ssh to there."""
    port = endpoint.rpartition(":")[2]
    said = {int(each.name): words(each) for each in Path("/proc").iterdir() if each.name.isdigit()}
    return [pid for pid, line in said.items() if "-L" in line and port in line]


def words(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def running(raw: Raw, flowbatch: Commands) -> str:
    """The one container of ours, once it is ready for its TERM."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        for file in (flowbatch.state / "docker").glob("**/instance"):
            for item in raw.labelled(f"flowbatch.instance={instance_of(file)}"):
                if b"ready" in bytes(str(raw.call("GET", f"/containers/{item['Id']}/logs", stdout=1)[1]), "utf-8"):
                    return str(item["Id"])
        assert time.monotonic() < deadline, "it does not start"
        time.sleep(0.05)


def instance_of(file: Path) -> str:
    return str(json.loads(file.read_text(encoding="utf-8"))["instance"])


def test_a_tunnel_that_breaks_is_made_again_and_goes_with_the_engine(
    tmp_path: Path, raw: Raw, ssh: tuple[str, dict[str, str]]
) -> None:
    endpoint, env = ssh
    with commands(tmp_path, env) as flowbatch:
        flowbatch.write("far.yaml", FILE)
        flowbatch.write(
            "flowbatch.yaml",
            "environments: {farm: {backend: docker, type: unmanaged, nodes: {n: {vcpus: 2, memory: 1GiB, "
            f"endpoint: '{endpoint}'}}}}}}}}",
        )
        engine = flowbatch.start("run", "far.yaml")
        container = running(raw, flowbatch)
        [tunnel] = tunnels(endpoint)
        os.kill(tunnel, signal.SIGKILL)
        raw.ok("POST", f"/containers/{container}/kill", signal="TERM")
        done = flowbatch.end(engine)
        assert done.code == 1, done
        assert flowbatch.ok("show", "last/far", "--json").json["exit_code"] == 3
        assert tunnels(endpoint) == []
        assert flowbatch.ok("logs", "last/far").out == "ready\n"
        found = flowbatch.ok("doctor", "--json").json
        assert any("node farm/n: Engine" in each["text"] and endpoint in each["text"] for each in found)

        engine = flowbatch.start("run", "far.yaml")  # killed, it takes its tunnel along, and the next finds what ran
        container = running(raw, flowbatch)
        [tunnel] = tunnels(endpoint)
        engine.kill()
        engine.communicate()
        deadline = time.monotonic() + PATIENCE_S
        while is_alive(tunnel):
            assert time.monotonic() < deadline, "the tunnel outlives its engine"
            time.sleep(0.05)
        raw.ok("POST", f"/containers/{container}/kill", signal="TERM")
        assert flowbatch.call("resume").code == 1
        shown = flowbatch.ok("show", "last/far", "--json").json
        assert (shown["exit_code"], shown["attempts"]) == (3, 1)


async def test_a_context_of_dockers_own_leads_there_by_the_same_tunnel(
    tmp_path: Path, raw: Raw, ssh: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, env = ssh
    monkeypatch.setenv("HOME", str(write_context(tmp_path, "farm", endpoint)))
    monkeypatch.setenv("PATH", env["PATH"])
    [engine, *_] = await look("context:farm", None)
    assert endpoint in engine.text, engine
    assert tunnels(endpoint) == []


def write_context(home: Path, name: str, endpoint: str) -> Path:
    """As `docker context create` does."""
    meta = home / ".docker/contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    words = {"Name": name, "Endpoints": {"docker": {"Host": endpoint}}}
    (meta / "meta.json").write_text(json.dumps(words))
    return home
