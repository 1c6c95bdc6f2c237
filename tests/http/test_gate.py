"""The door: hosts, origins and kinds of bodies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbatch.http.gate import host_of, make_gate

LOOPBACK = make_gate(["127.0.0.1", "::1"], ["Batch.Lab.Example"])
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "[::1]", "batch.lab.example:80",
     "batch.lab.example.", "[0:0:0:0:0:0:0:1]"],
)  # fmt: skip
def test_the_servers_own_names_are_known(host: str) -> None:
    assert LOOPBACK.refusal("GET", {"host": host}, has_body=False) is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.2", "127.1", "0x7f000001", "2130706433", "[::2]", "[::1", "[::1]x",
     "localhost:80:80", "localhost:port", "localhost:١", "0.0.0.0", "user@localhost", "localhost/x", " localhost"],
)  # fmt: skip
def test_any_other_name_is_misdirected(host: str) -> None:
    refusal = LOOPBACK.refusal("GET", {"host": host}, has_body=False)
    assert refusal is not None
    assert refusal.status == 421


def test_without_a_host_nothing_is_answered() -> None:
    refusal = LOOPBACK.refusal("GET", {}, has_body=False)
    assert refusal is not None
    assert refusal.status == 421


def test_a_server_on_all_addresses_is_known_by_any_literal_and_no_name() -> None:
    everywhere = make_gate(["0.0.0.0"], [])
    assert everywhere.refusal("GET", {"host": "192.0.2.7:8080"}, has_body=False) is None
    assert everywhere.refusal("GET", {"host": "rebound.evil.example"}, has_body=False) is not None


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"origin": "http://localhost:8080"}, None),
        ("POST", {"origin": "https://localhost:8080"}, None),
        ("GET", {"origin": "http://evil.example"}, None),  # it cannot read the answer
        ("POST", {"origin": "http://evil.example"}, 403),
        ("DELETE", {"origin": "http://localhost:9999"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("GET", {"sec-fetch-site": "cross-site"}, 403),
        ("GET", {"sec-fetch-site": "same-site"}, 403),
        ("GET", {"sec-fetch-site": "same-origin"}, None),
        ("GET", {"sec-fetch-site": "none"}, None),
    ],
)
def test_pages_of_other_sites_are_turned_away(method: str, headers: dict[str, str], status: int | None) -> None:
    refusal = LOOPBACK.refusal(method, {"host": "localhost:8080", **JSON, **headers}, has_body=method == "POST")
    assert (None if refusal is None else refusal.status) == status


@pytest.mark.parametrize(
    ("content_type", "taken"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("application/x-amz-json-1.1", True),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data", False),
        ("", False),
    ],
)
def test_a_form_cannot_speak_json(content_type: str, *, taken: bool) -> None:
    headers = {"host": "localhost", "content-type": content_type}
    refusal = LOOPBACK.refusal("POST", headers, has_body=True)
    assert (refusal is None) is taken


@given(st.text(max_size=40))
def test_no_host_header_breaks_the_gate(text: str) -> None:
    found = host_of(text)
    assert found is None or found == found.lower()
    LOOPBACK.refusal("POST", {"host": text, "origin": text, "content-type": text}, has_body=True)
