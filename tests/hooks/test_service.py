"""Apprise's services, and what is said where apprise is not installed."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from ipaddress import ip_network
from typing import Any

import anyio
import anyio.to_thread
import pytest

from flowbatch.hooks.addresses import Network, Refused
from flowbatch.hooks.forms import Message
from flowbatch.hooks.guard import Guard
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


class Rebinding:
    """A resolver that says something public to who asks first, and somewhere inside to who asks then."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked = 0
        self.real = socket.getaddrinfo

    def __call__(self, host: str, *args: Any, **more: Any) -> Any:
        if host != "rebind.example":
            return self.real(host, *args, **more)
        self.asked += 1
        address = "8.8.8.8" if self.asked == 1 else LOOP
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, self.port))]


@pytest.mark.parametrize("allowed", [[], HERE])
async def test_a_name_that_leads_elsewhere_the_second_time_is_no_way_in(
    allowed: list[Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiver() as server:
        resolver = Rebinding(server.port)
        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        answer = await sent(f"json://rebind.example:{server.port}/ok", allowed)
        assert resolver.asked == 2, "looked up before, which says nothing, and by the library"
        assert len(server.got) == len(allowed), "with leave it gets there: the test can fail"
    if not allowed:
        assert answer.outcome is Outcome.ENDPOINT
        assert answer.error.startswith(f"{LOOP} is not a public address")


@pytest.mark.parametrize("url", ["json://{0}/ok, json://{0}/ok", "xml://{0}/ok"])
async def test_many_in_one_url_are_all_looked_at(url: str) -> None:
    """More than one is sent by threads of the library's own."""
    async with receiver() as server:
        answer = await sent(url.format(f"{LOOP}:{server.port}"), [])
        assert not server.got
        assert "is not a public address" in answer.error
        answer = await sent(url.format(f"{LOOP}:{server.port}"), HERE)
        assert len(server.got) == url.count("{0}")


def test_pools_and_datagrams_are_looked_at_too() -> None:
    guard, tried = Guard([]), list[type[BaseException]]()

    def connect() -> None:
        for kind, host in ((socket.SOCK_STREAM, LOOP), (socket.SOCK_STREAM, "localhost"), (socket.SOCK_DGRAM, LOOP)):
            with socket.socket(socket.AF_INET, kind) as made:
                try:
                    (made.connect if kind == socket.SOCK_STREAM else partial(made.sendto, b"x"))((host, 9))
                except OSError as error:
                    tried.append(type(error))

    with guard.watching(), ThreadPoolExecutor(1) as threads:
        threads.submit(copy_context().run, connect).result()
    assert tried == [Refused] * 3
    assert guard.refused.startswith(f"{LOOP} is not a public address")
    tried.clear()
    connect()
    assert Refused not in tried, "who is not watched goes where he likes"


def test_what_apprise_does_not_know_shows_no_secret() -> None:
    with pytest.raises(Unready, match=r"^nowhere://…: apprise does not know such a URL$"):
        Service("nowhere://secret@host/secret", [])
