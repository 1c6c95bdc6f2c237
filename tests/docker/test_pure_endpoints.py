"""How the Engine is found. Nothing here connects."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from flowbatch.backends.docker.api import Api
from flowbatch.backends.docker.backend import DockerBackend
from flowbatch.backends.docker.checks import look
from flowbatch.backends.docker.endpoints import Endpoint, endpoint_of
from flowbatch.backends.docker.tunnel import Tunnel
from flowbatch.clock import SystemClock
from flowbatch.errors import BackendUnavailable
from tests.docker.test_ssh import write_context


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


@pytest.mark.parametrize("named", [True, False], ids=["named", "the current one"])
async def test_a_context_that_leads_over_ssh_gets_the_same_tunnel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: bool
) -> None:
    write_context(tmp_path, "farm", "ssh://me@farm:2222")
    (tmp_path / ".docker/config.json").write_text("{}" if named else '{"currentContext": "farm"}')
    monkeypatch.setenv("HOME", str(tmp_path))
    api = Api("context:farm" if named else None)
    api.open()
    try:
        assert api.where == "ssh://me@farm:2222"
        assert api.socket_path is None
        assert api._tunnel is not None
        assert api._tunnel.command()[-4:] == ["2222", "--", "me@farm", "cat > /dev/null"]
    finally:
        await api.close()


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [("unix:///no/such.sock", "No such file or directory"), ("tcp://127.0.0.1:1", "Connection refused")],
)
async def test_an_engine_that_is_not_there_is_told_of_in_the_systems_words(endpoint: str, why: str) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        await look(endpoint, None)
    assert f"the one at {endpoint} cannot be reached ({why}): " in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html", b"<html>Welcome</html>"),
        (200, "application/json", b"[]"),
        (200, "application/json", b'{"ApiVersion": "new"}'),
        (502, "application/json", b'{"error": "no upstream"}'),
        (502, "application/json", b"<html>Bad gateway</html>"),
    ],
)
async def test_what_answers_and_is_no_engine(status: int, kind: str, body: bytes) -> None:
    """Every answer is this one: of a web server, or of a proxy whose Engine is away."""

    async def answer(stream: ByteStream) -> None:
        async with stream:
            while b"\r\n\r\n" not in await stream.receive():
                pass
            head = f"HTTP/1.1 {status} S\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            await stream.send(head.encode() + body)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        port = listener.extra(SocketAttribute.local_port)
        tasks.start_soon(listener.serve, answer)
        with pytest.raises(BackendUnavailable, match="what answers there is no Docker Engine"):
            await look(f"tcp://127.0.0.1:{port}", None)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8])
async def test_whenever_we_are_told_to_end_what_was_opened_is_closed(tmp_path: Path, steps: int) -> None:
    """Also between the finding of the Engine and the first word to it."""
    made: list[Api] = []

    def make() -> Api:
        made.append(Api(f"unix://{tmp_path}/nobody.sock"))
        return made[-1]

    backend = DockerBackend(tmp_path / "docker", tmp_path, SystemClock(), log_cap_bytes=1, api=make)
    backend.need()
    async with anyio.create_task_group() as tasks:
        await tasks.start(backend.run, lambda facts: None)
        with anyio.fail_after(10):
            while not made:
                await anyio.lowlevel.checkpoint()
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert [api._clients for api in made] == [[]]
