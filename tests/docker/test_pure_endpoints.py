"""How the Engine is found. Nothing here connects."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowbatch.backends.docker.api import Api
from flowbatch.backends.docker.checks import look
from flowbatch.backends.docker.endpoints import Endpoint, endpoint_of
from flowbatch.backends.docker.tunnel import Tunnel
from flowbatch.errors import BackendUnavailable


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)


def test_dockers_own_variable_is_followed_unless_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint_of(None) == Endpoint(None)
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/other.sock")
    assert endpoint_of(None) == Endpoint("unix:///run/other.sock")
    assert endpoint_of("unix:///run/this.sock") == Endpoint("unix:///run/this.sock")


def test_tls_is_for_tcp_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    assert endpoint_of("unix:///run/this.sock") == Endpoint("unix:///run/this.sock")


@pytest.mark.parametrize("bad", [None, "not a certificate"])
def test_certificates_that_do_not_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bad: str | None) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    if bad is not None:
        (tmp_path / "ca.pem").write_text(bad)
    with pytest.raises(BackendUnavailable) as caught:
        endpoint_of("tcp://127.0.0.1:2376")
    assert str(caught.value).startswith(
        f"the Docker Engine is to be reached over TLS, and ca.pem, cert.pem, key.pem in {tmp_path} cannot be used ("
    )
    assert str(caught.value).endswith("set DOCKER_CERT_PATH to the folder that has them")


def test_ssh_is_asked_for_a_socket_there() -> None:
    tunnel = Tunnel("ssh://me@farm:2222/run/user/7/docker.sock")
    try:
        *words, host, remote = tunnel.command()
        assert words[-5:] == ["-L", f"{tunnel.socket}:/run/user/7/docker.sock", "-p", "2222", "--"]
        assert (host, remote) == ("me@farm", "cat > /dev/null")
    finally:
        tunnel.close()
    assert not tunnel.socket.parent.exists()


async def test_ssh_that_cannot_connect_says_why() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        await look("ssh://nobody@127.0.0.1:1", None)
    text = "the one at ssh://nobody@127.0.0.1:1 cannot be reached (ssh: connect to host 127.0.0.1 port 1: Connection refused): "
    assert text in str(caught.value)


def test_a_context_that_is_not_there_is_said_to_be_none() -> None:
    with pytest.raises(
        BackendUnavailable, match=r"Docker's own configuration cannot be used: .*`docker context ls` lists"
    ):
        Api("context:no-such-context").open()


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [("unix:///no/such.sock", "No such file or directory"), ("tcp://127.0.0.1:1", "Connection refused")],
)
async def test_an_engine_that_is_not_there_is_told_of_in_the_systems_words(endpoint: str, why: str) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        await look(endpoint, None)
    assert f"the one at {endpoint} cannot be reached ({why}): " in str(caught.value)
