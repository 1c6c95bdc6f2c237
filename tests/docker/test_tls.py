"""An Engine over TLS: a dockerd of the test's own that wants to know who asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.daemon import Daemon, a_daemon
from tests.docker.engine import IMAGE, Raw

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a dockerd of the test's own needs root"),
    pytest.mark.timeout(300),
]

UNAVAILABLE = 5
HOST = "127.0.0.1:2376"  # in the daemon's own network
FILE = f"""
jobs:
  one: {{image: '{IMAGE}', network: none, memory: 16MiB, script: 'echo over tls; exit 0'}}
"""


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def authority(folder: Path) -> Path:
    folder.mkdir()
    new = ("-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", folder / "ca-key.pem", "-out", folder / "ca.pem")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *new)
    return folder


def identity(signer: Path, folder: Path, name: str, usage: str) -> Path:
    """cert.pem and key.pem, and the authority that they are of as ca.pem."""
    folder.mkdir()
    request = ("-subj", f"/CN={name}", "-keyout", folder / "key.pem", "-out", folder / "request.pem")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *request)
    (folder / "extra").write_text(f"subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n")
    sign = ("-CA", signer / "ca.pem", "-CAkey", signer / "ca-key.pem", "-CAcreateserial", "-days", "2")
    openssl(
        "x509", "-req", "-in", folder / "request.pem", *sign, "-extfile", folder / "extra", "-out", folder / "cert.pem"
    )
    (folder / "ca.pem").write_bytes((signer / "ca.pem").read_bytes())
    return folder


def flowbatch(daemon: Daemon, folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*daemon.inside(), sys.executable, "-m", "flowbatch", "--state", str(folder / "state"), *words],
        env={**os.environ, "DOCKER_HOST": f"tcp://{HOST}", **env}, cwd=folder, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


async def test_only_who_is_known_gets_in(tmp_path: Path, raw: Raw) -> None:
    ours, theirs = authority(tmp_path / "ours"), authority(tmp_path / "theirs")
    server = identity(ours, tmp_path / "server", "server", "serverAuth")
    client = identity(ours, tmp_path / "client", "client", "clientAuth")
    stranger = identity(theirs, tmp_path / "stranger", "client", "clientAuth")
    (tmp_path / "one.yaml").write_text(FILE)
    files = (f"--tlscacert={ours}/ca.pem", f"--tlscert={server}/cert.pem", f"--tlskey={server}/key.pem")
    async with a_daemon("--tlsverify", *files, f"--host=tcp://{HOST}") as daemon:
        known = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(client)}
        done = flowbatch(daemon, tmp_path, "run", "one.yaml", **known)
        assert done.returncode == 0, done
        assert flowbatch(daemon, tmp_path, "logs", "last/one", **known).stdout == "over tls\n"
        unknown = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(stranger)}
        for env, why in (
            (unknown, "certificate verify failed"),
            ({"DOCKER_TLS_VERIFY": ""}, "HTTP request to an HTTPS server"),
        ):
            refused = flowbatch(daemon, tmp_path, "run", "one.yaml", **env)
            assert refused.returncode == UNAVAILABLE, refused
            assert f"{HOST} cannot be reached" in refused.stderr
            assert why in refused.stderr
            assert "DOCKER_CERT_PATH" in refused.stderr
