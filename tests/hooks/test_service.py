"""Apprise's services, and what is said where apprise is not installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from ipaddress import ip_network

import anyio
import anyio.to_thread
import pytest

from flowbatch.hooks.addresses import Network
from flowbatch.hooks.forms import Message
from flowbatch.hooks.health import Answer, Outcome
from flowbatch.hooks.service import Service
from flowbatch.hooks.targets import Unready
from tests.hooks.receiver import LOOP, receiver

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what apprise is built on
MESSAGE = Message("evt_1", b"film/render FAILED\nexit 3: no\nflowbatch show 1a2b3c4d/render", "text/plain")
HERE = [ip_network(LOOP)]


async def sent(url: str, allowed: Sequence[Network]) -> Answer:
    with anyio.fail_after(20):
        service = await anyio.to_thread.run_sync(Service, url, allowed)
        return await service.send(MESSAGE)


def port_of(url: str) -> str:
    return url.partition("://")[2].partition("/")[0].rpartition(":")[2]


def test_it_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(Unready, match=r"pip install 'flowbatch\[notify\]'"):
        Service("json://localhost", [])


async def test_a_service_takes_title_and_text() -> None:
    async with receiver() as server:
        answer = await sent(f"json://{LOOP}:{port_of(server.url('ok'))}/ok", HERE)
        assert answer.outcome is Outcome.DELIVERED, answer
        [(_, _, body)] = server.got
    told = json.loads(body)
    assert (told["title"], told["message"]) == ("film/render FAILED", "exit 3: no\nflowbatch show 1a2b3c4d/render")


@pytest.mark.parametrize("path", ["status/500", "redirect", "gone"])
async def test_a_refusal_says_why(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    async with receiver() as server:
        answer = await sent(f"json://{LOOP}:{port_of(server.url('ok'))}/{path}", HERE)
        assert len(server.got) == 1, "redirects are not followed"
    assert answer.outcome is Outcome.ENDPOINT
    assert answer.error.startswith("Failed to send JSON "), answer
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "url",
    ["json://localhost", "xml://10.0.0.1:8080", "mailto://u:p@example.com?smtp=169.254.169.254",
     "ntfy://127.0.0.1/topic", "json://[::1]/"],
)  # fmt: skip
async def test_no_service_inside_is_reached(url: str) -> None:
    answer = await sent(url, [])
    assert answer.outcome is Outcome.ENDPOINT
    assert "is not a public address; `allow_networks` of the settings may name it" in answer.error


def test_what_apprise_does_not_know_shows_no_secret() -> None:
    with pytest.raises(Unready, match=r"^nowhere://…: apprise does not know such a URL$"):
        Service("nowhere://secret@host/secret", [])
