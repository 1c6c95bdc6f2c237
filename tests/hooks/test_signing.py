"""Signatures: what the public library of Standard Webhooks verifies."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from flowbatch.errors import InputError
from flowbatch.hooks.signing import headers, signing_key

OLD, NEW = (f"whsec_{base64.b64encode(bytes([letter]) * 32).decode()}" for letter in b"on")
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def verify(secret: str, body: bytes, sent: dict[str, str]) -> object:
    with patch("standardwebhooks.webhooks.datetime") as clock:
        clock.now.return_value = NOW
        clock.fromtimestamp = datetime.fromtimestamp
        return Webhook(secret).verify(body, sent)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=4), st.integers(-299, 299))
def test_the_public_library_verifies_what_is_signed(content: dict[str, str], late: int) -> None:
    import json

    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    sent = headers([signing_key(NEW, "hmac")], "evt_01", int(NOW.timestamp()) + late, body)
    assert verify(NEW, body, sent) == json.loads(body)


def test_while_a_secret_is_changed_both_verify() -> None:
    keys = [signing_key(secret, "hmac") for secret in (NEW, OLD)]
    sent = headers(keys, "evt_01", int(NOW.timestamp()), b"{}")
    assert verify(OLD, b"{}", sent) == verify(NEW, b"{}", sent) == {}


def test_another_body_id_time_or_secret_does_not() -> None:
    sent = headers([signing_key(NEW, "hmac")], "evt_01", int(NOW.timestamp()), b"{}")
    for secret, body, changed in (
        (OLD, b"{}", {}),
        (NEW, b"[]", {}),
        (NEW, b"{}", {"webhook-id": "evt_02"}),
        (NEW, b"{}", {"webhook-timestamp": str(int(NOW.timestamp()) + 1)}),
    ):
        with pytest.raises(WebhookVerificationError):
            verify(secret, body, sent | changed)


@pytest.mark.parametrize("secret", [NEW.removeprefix("whsec_"), NEW.rstrip("="), "abcd" * 8])
def test_the_same_text_is_the_same_key_to_the_public_library(secret: str) -> None:
    sent = headers([signing_key(secret, "hmac")], "evt_01", int(NOW.timestamp()), b"{}")
    assert verify(secret, b"{}", sent) == {}


def test_without_a_secret_nothing_is_signed() -> None:
    assert headers([], "evt_01", 5, b"{}") == {"webhook-id": "evt_01", "webhook-timestamp": "5"}


@pytest.mark.parametrize(
    ("secret", "wrong"),
    [
        ("whsec_***", "is no base64"),
        ("whsec_c2hvcnQ=", "has 5 bytes"),
        ("short", "is no base64"),
        ("a text of at least 24 bytes", "is no base64"),
        ("ž" * 32, "is no base64"),
        ("xxxx" * 22, "has 66 bytes"),
    ],
)
def test_a_secret_that_is_none_is_told_without_its_value(secret: str, wrong: str) -> None:
    with pytest.raises(InputError, match=wrong) as raised:
        signing_key(secret, "hmac")
    assert secret not in str(raised.value)
