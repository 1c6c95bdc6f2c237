"""The server over TLS, with an authority of the test's own: boto3 trusts it by that alone, and nothing older than 1.2 is spoken."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import SSLError
from msgspec.structs import replace

from flowbatch.errors import InputError
from flowbatch.folder import StateFolder
from flowbatch.http import keys
from flowbatch.http.service import Limits
from flowbatch.serve import Listening, Serving, load, run, serving
from tests.http.rig import FAKE


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class Authority:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        made = (
            "-x509",
            "-days",
            "2",
            "-subj",
            "/CN=authority",
            "-keyout",
            folder / "ca.key",
            "-out",
            folder / "ca.pem",
        )
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *made)

    def issue(self, name: str) -> tuple[Path, Path]:
        """The chain and the key of a server on loopback."""
        chain, key, request = (self.folder / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        asked = ("-subj", f"/CN={name}", "-keyout", key, "-out", request)
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *asked)
        (self.folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
        signed = ("-CA", self.folder / "ca.pem", "-CAkey", self.folder / "ca.key", "-CAcreateserial", "-days", "2")
        openssl("x509", "-req", "-in", request, *signed, "-extfile", self.folder / "ext", "-out", chain)
        return chain, key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def listening(certificate: tuple[Path, Path]) -> Listening:
    return Listening((("127.0.0.1", 0),), certificate=certificate)


def list_jobs(running: Serving, verify: str | bool) -> dict[str, object]:
    assert running.administrator is not None
    found: dict[str, object] = boto3.client(
        "batch", endpoint_url=running.urls[0], region_name="us-east-1", verify=verify,
        aws_access_key_id=keys.PREFIX + running.administrator.id, aws_secret_access_key=running.secret,
        config=Config(retries={"total_max_attempts": 1}),
    ).list_jobs(jobQueue="default")  # fmt: skip
    return found


def shake(
    running: Serving, trusted: Path, change: Callable[[ssl.SSLContext], None] = lambda _: None
) -> tuple[str, str]:
    """The version that is spoken, and who the server says it is."""
    import socket

    context = ssl.create_default_context(cafile=str(trusted))
    change(context)
    host, port = running.urls[0].removeprefix("https://").split(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as stream,
    ):
        certificate = stream.getpeercert()
        assert certificate is not None
        names: dict[str, str] = dict(pair for part in certificate["subject"] for pair in part)  # type: ignore[misc]
        return str(stream.version()), names["commonName"]


async def test_boto3_speaks_to_a_server_whose_authority_it_is_told(tmp_path: Path, authority: Authority) -> None:
    stranger = Authority(tmp_path / "stranger")
    async with serving(StateFolder(tmp_path / "state"), FAKE, listening(authority.issue("one"))) as running:
        assert running.urls[0].startswith("https://127.0.0.1:")
        found = await anyio.to_thread.run_sync(list_jobs, running, str(authority.folder / "ca.pem"))
        assert found["jobSummaryList"] == []
        headers = found["ResponseMetadata"]["HTTPHeaders"]  # type: ignore[index]
        assert headers["strict-transport-security"] == "max-age=31536000"
        with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            await anyio.to_thread.run_sync(list_jobs, running, str(stranger.folder / "ca.pem"))


async def test_the_command_line_speaks_to_it_too(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flowbatch.cli.main import run as command

    state = StateFolder(tmp_path / "state")
    async with serving(state, FAKE, listening(authority.issue("one"))) as running:
        words = ["--server", running.urls[0], "--key-file", str(state.admin_key), "queues", "--json"]
        assert await anyio.to_thread.run_sync(command, words) == 5
        assert "CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.folder / "ca.pem"))
        assert await anyio.to_thread.run_sync(command, words) == 0
        assert '"queue": "default"' in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_nothing_older_than_tls_1_2_is_spoken(tmp_path: Path, authority: Authority) -> None:
    trusted = authority.folder / "ca.pem"

    def most(version: ssl.TLSVersion) -> Callable[[ssl.SSLContext], None]:
        def change(context: ssl.SSLContext) -> None:
            context.set_ciphers("ALL:@SECLEVEL=0")  # so that it is the server that refuses
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = version

        return change

    async with serving(StateFolder(tmp_path / "state"), FAKE, listening(authority.issue("one"))) as running:
        assert await anyio.to_thread.run_sync(shake, running, trusted) == ("TLSv1.3", "one")
        old = await anyio.to_thread.run_sync(shake, running, trusted, most(ssl.TLSVersion.TLSv1_2))
        assert old == ("TLSv1.2", "one")
        for version in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1):
            with pytest.raises(ssl.SSLError, match=r"UNEXPECTED_EOF|PROTOCOL_VERSION"):
                await anyio.to_thread.run_sync(shake, running, trusted, most(version))


async def test_plain_words_to_a_server_of_tls_and_half_a_handshake_get_nowhere(
    tmp_path: Path, authority: Authority
) -> None:
    patient = replace(listening(authority.issue("one")), limits=Limits(read_s=1.0))
    async with serving(StateFolder(tmp_path / "state"), FAKE, patient) as running:
        host, port = running.urls[0].removeprefix("https://").split(":")
        for said in (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x02"):
            with anyio.fail_after(10):
                async with await anyio.connect_tcp(host, int(port)) as stream:
                    await stream.send(said)
                    answer = b""
                    try:
                        while True:
                            answer += await stream.receive()
                    except (anyio.EndOfStream, anyio.BrokenResourceError):
                        pass
            assert b"HTTP" not in answer
        assert (await anyio.to_thread.run_sync(shake, running, authority.folder / "ca.pem"))[1] == "one"


async def test_a_new_certificate_is_used_from_the_next_hangup_on(tmp_path: Path, authority: Authority) -> None:
    chain, key = authority.issue("one")
    seen: list[str] = []
    states: list[Serving] = []
    read = anyio.Event()

    def read_again() -> object:
        read.set()
        return FAKE

    async with anyio.create_task_group() as tasks:

        async def serve() -> None:
            await run(StateFolder(tmp_path / "state"), FAKE, listening((chain, key)), read_again, states.append)  # type: ignore[arg-type]

        tasks.start_soon(serve)
        with anyio.fail_after(20):
            while not states:
                await anyio.lowlevel.checkpoint()
            trusted = authority.folder / "ca.pem"
            seen.append((await anyio.to_thread.run_sync(shake, states[0], trusted))[1])
            for new, old in zip(authority.issue("two"), (chain, key), strict=True):
                os.replace(new, old)
            os.kill(os.getpid(), signal.SIGHUP)
            await read.wait()
            seen.append((await anyio.to_thread.run_sync(shake, states[0], trusted))[1])
            key.write_text("no key at all")  # half of a pair: the one in use stays
            os.kill(os.getpid(), signal.SIGHUP)
            seen.append((await anyio.to_thread.run_sync(shake, states[0], trusted))[1])
            os.kill(os.getpid(), signal.SIGTERM)
    assert seen == ["one", "two", "two"]


def test_a_key_that_everybody_may_read_is_refused(authority: Authority) -> None:
    chain, key = authority.issue("one")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(context, (chain, key))
    key.chmod(0o644)
    with pytest.raises(InputError, match="everybody on this machine may read the private key"):
        load(context, (chain, key))
    with pytest.raises(InputError, match="no certificate with its key"):
        load(context, (chain, chain.with_name("nothing")))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "must be encrypted"),
        ({"open_to_all": True}, "only a loopback address is listened on"),
        ({"open_to_all": True, "certificate": (Path("c"), Path("k"))}, "only a loopback address is listened on"),
        ({"open_to_all": True, "behind_proxy": True}, "only a loopback address is listened on"),
        ({"certificate": (Path("c"), Path("k"))}, None),
        ({"behind_proxy": True}, None),
    ],
)
def test_beyond_loopback_there_are_keys_and_encryption(host: str, more: dict[str, object], said: str | None) -> None:
    made = Listening(((host, 7070),), **more)  # type: ignore[arg-type]
    if said is None:
        made.judge()
    else:
        with pytest.raises(InputError, match=said):
            made.judge()


def test_a_proxy_does_not_open_what_is_without_keys() -> None:
    with pytest.raises(InputError, match="whoever reaches the proxy"):
        Listening(open_to_all=True, behind_proxy=True).judge()
    Listening(open_to_all=True).judge()
