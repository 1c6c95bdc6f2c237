"""One POST a message, against a real server with every fault of F30, and the addresses of F33 from end to end."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from flowbatch.clock import SystemClock
from flowbatch.hooks.forms import Forms, Message
from flowbatch.hooks.health import Answer, Outcome
from flowbatch.hooks.signing import signing_key
from flowbatch.hooks.webhook import READ_BYTES, Webhook, judged, make_session, wait_ms
from flowbatch.model.ids import Millis
from flowbatch.model.notify import Form
from tests.hooks import told
from tests.hooks.receiver import LOOP, receiver, self_signed

HERE = (ip_network(LOOP),)
MESSAGE = Message("evt_1", b'{"a": 1}')
OLD, NEW = "whsec_" + "b2xkIHNlY3JldCBvZiBlbm91Z2ggYnl0ZXMh", "bmV3IHNlY3JldCBvZiBhdCBsZWFzdCAyNCBieXRlcw=="


@asynccontextmanager
async def session(allowed: Any = HERE, **more: Any) -> AsyncIterator[aiohttp.ClientSession]:
    made = make_session(allowed, **more)
    try:
        yield made
    finally:
        await made.close()


async def send(url: str, message: Message = MESSAGE, allowed: Any = HERE, **more: Any) -> Answer:
    async with session(allowed, **more) as made:
        return await Webhook(made, url, SystemClock().now).send(message)


async def test_a_message_arrives_signed_and_the_public_library_verifies_it() -> None:
    message = Forms("1234", Form.EVENTBRIDGE).message(told.job())
    assert message is not None
    async with receiver() as server, session() as made:
        keys = [signing_key(NEW, "new"), signing_key(OLD, "old")]
        answer = await Webhook(made, server.url("ok"), SystemClock().now, keys=keys).send(message)
        assert (answer.outcome, answer.status) == (Outcome.DELIVERED, 200)
        [(_, headers, body)] = server.got
    assert body == message.body
    assert headers["user-agent"].startswith("flowbatch/")
    assert headers["webhook-id"] == message.id
    assert Verifier(OLD).verify(body, headers)["id"] == message.id  # the old secret is still good
    with pytest.raises(WebhookVerificationError):
        Verifier(OLD).verify(body.replace(b"FAILED", b"SUCCEE"), headers)


async def test_a_bearer_token_and_a_path() -> None:
    async with receiver() as server, session() as made:
        hook = Webhook(made, server.url("v2/alerts"), SystemClock().now, authorization="GenieKey k")
        await hook.send(Message("evt_2", b"{}", path="/x%3A1/close?identifierType=alias"))
        [(path, headers, _)] = server.got
    assert (path, headers["authorization"]) == ("v2/alerts/x:1/close", "GenieKey k")


@pytest.mark.parametrize(
    ("path", "outcome", "error"),
    [
        ("status/500", Outcome.ENDPOINT, "500 no [2J good"),
        ("status/400", Outcome.MESSAGE, "400 no [2J good"),
        ("status/413", Outcome.MESSAGE, "413 no [2J good"),
        ("status/422", Outcome.MESSAGE, "422 no [2J good"),
        ("status/404", Outcome.ENDPOINT, "404 no [2J good"),
        ("reset", Outcome.ENDPOINT, "it hung up before it answered"),
        ("gone", Outcome.GONE, "410"),
        ("redirect", Outcome.ENDPOINT, "302: redirects are not followed"),
    ],
)
async def test_what_an_answer_means(path: str, outcome: Outcome, error: str) -> None:
    async with receiver() as server:
        answer = await send(server.url(path))
        assert (answer.outcome, answer.error) == (outcome, error)
        assert [where for where, _, _ in server.got] == [path], "and nobody else was asked"


async def test_it_waits_no_longer_than_it_said() -> None:
    async with receiver() as server:
        with anyio.fail_after(5):
            answer = await send(server.url("hang"), total_s=0.1)
    assert (answer.outcome, answer.error) == (Outcome.ENDPOINT, "no answer in time")


async def test_retry_after() -> None:
    async with receiver() as server:
        answer = await send(server.url("later"))
    assert (answer.outcome, answer.retry_after_ms) == (Outcome.ENDPOINT, 120_000)
    assert wait_ms("Wed, 21 Oct 2015 07:28:00 GMT", Millis(1_445_412_470_000)) == 10_000
    assert wait_ms("Wed, 21 Oct 2015 07:28:00 GMT", Millis(1_500_000_000_000)) == 0
    assert wait_ms("soon", Millis(0)) is None
    assert judged(503, "7", None, b"", 1, Millis(0)).retry_after_ms == 7000


async def test_of_a_gigabyte_little_is_read() -> None:
    """The server wants to send 1 GB; the connection is dropped behind the first bytes."""
    async with receiver() as server, session() as made:
        answer = await Webhook(made, server.url("huge"), SystemClock().now).send(MESSAGE)
        assert answer.outcome is Outcome.DELIVERED
        assert not made.connector._conns, "a connection with a gigabyte behind it is not used again"  # type: ignore[union-attr]
    assert READ_BYTES <= 4096


@pytest.mark.slow
async def test_a_body_that_drips_is_not_waited_for() -> None:
    async with receiver() as server:
        with anyio.fail_after(5):
            answer = await send(server.url("drip"))
    assert answer.outcome is Outcome.DELIVERED


@pytest.mark.slow
async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    async with receiver(self_signed(tmp_path)) as server:
        answer = await send(server.url("ok"))
        assert answer.outcome is Outcome.ENDPOINT
        assert "certificate verify failed" in answer.error
        assert server.got == []


async def test_nobody_is_there() -> None:
    with socket.socket() as free:
        free.bind((LOOP, 0))
        answer = await send(f"http://{LOOP}:{free.getsockname()[1]}/")
    assert answer.outcome is Outcome.ENDPOINT
    assert answer.error.startswith("no connection: ")


async def test_a_connection_is_used_again() -> None:
    async with receiver() as server, session() as made:
        hook = Webhook(made, server.url("ok"), SystemClock().now)
        for _ in range(3):
            await hook.send(MESSAGE)
        assert made.connector is not None
        assert sum(map(len, made.connector._conns.values())) == 1


# --- forgery (F33)

INSIDE = [
    "http://{}:{}/".format(host, "{port}")
    for host in (
        "127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "０x7f.1",
        "127.0.0.1.", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0.0.0.0", "0", "[::]",
    )
]  # fmt: skip


@pytest.mark.parametrize("url", INSIDE)
async def test_nothing_inside_is_reached_whatever_its_spelling(url: str) -> None:
    async with receiver() as server:
        answer = await send(url.replace("{port}", str(server.port)), allowed=(), total_s=2)
        assert answer.outcome is Outcome.ENDPOINT
        assert server.got == []


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest/meta-data", "http://10.0.0.1/", "http://192.168.1.1:443/", "http://1.1.1.1:22/",
     "http://[fd00:ec2::254]/", "http://100.100.100.200/", "http://198.18.0.1/", "http://[fe80::1]/"],
)  # fmt: skip
async def test_no_address_that_is_not_public_and_no_other_port(url: str) -> None:
    answer = await send(url, allowed=(), total_s=2)
    assert answer.outcome is Outcome.ENDPOINT
    assert "`allow_networks` of the settings may name" in answer.error


class Rebinding(AbstractResolver):
    """A name that leads elsewhere each time it is asked for."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.addresses[min(self.asked, len(self.addresses) - 1)]
        self.asked += 1
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_name_that_leads_inside_is_not_followed() -> None:
    async with receiver() as server:
        resolver = Rebinding(LOOP)
        answer = await send(f"http://hook.example:{server.port}/", allowed=(), resolver=resolver)
        assert resolver.asked == 1
        assert f"{LOOP} is not a public address" in answer.error
        assert server.got == []


async def test_a_name_is_judged_each_time_it_is_resolved() -> None:
    """Allowed the first time, elsewhere the second: the very address that is connected to is what counts."""
    async with receiver() as server, session(HERE, resolver=Rebinding(LOOP, "127.0.0.2")) as made:
        hook = Webhook(made, f"http://hook.example:{server.port}/status/500", SystemClock().now)
        assert (await hook.send(MESSAGE)).status == 500
        for held in list(made.connector._conns.values()):  # type: ignore[union-attr]
            held.clear()
        assert "127.0.0.2 is not a public address" in (await hook.send(MESSAGE)).error


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as server, receiver() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url(""))
        assert (await send(server.url("ok"))).status == 200
        assert proxy.got == []


async def test_a_url_that_is_none_shows_no_secret() -> None:
    answer = await send("http://hook.example:port/SECRET")
    assert answer.outcome is Outcome.ENDPOINT
    assert "SECRET" not in json.dumps(answer.error)
