"""Signatures of webhooks as Standard Webhooks has them: any receiver can verify with the public library.

What is signed is `<id>.<timestamp>.<body>`, with HMAC-SHA256; each secret in force gives one `v1,<base64>`, separated by blanks, so that
a receiver may hold the old or the new one while a secret is changed.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from typing import Final

from flowbatch.errors import InputError

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = range(24, 65)  # as the standard has it
SECRETS_MAX: Final = 2
MAKING: Final = '`echo "whsec_$(openssl rand -base64 32)"` makes one'


def signing_key(secret: str, name: str) -> bytes:
    """The key in a secret: base64, with or without `whsec_` before it, as the public libraries read the same text. `name`: what to
    call it. Raises InputError."""
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:  # binascii.Error is one, and so is what is no ASCII
        raise InputError(f"the secret {name} is no base64, which the key of a signature is; {MAKING}") from None
    if len(key) not in SECRET_BYTES:
        raise InputError(
            f"the secret {name} has {len(key)} bytes; a webhook is signed with {SECRET_BYTES[0]} to {SECRET_BYTES[-1]}; {MAKING}"
        )
    return key


def signature(keys: Sequence[bytes], event_id: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`. `timestamp` in seconds."""
    signed = b"%s.%d.%s" % (event_id.encode(), timestamp, body)
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}" for key in keys)


def headers(keys: Sequence[bytes], event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """All three headers, or the two that go without a secret."""
    found = {"webhook-id": event_id, "webhook-timestamp": str(timestamp)}
    if keys:
        found["webhook-signature"] = signature(keys, event_id, timestamp, body)
    return found
