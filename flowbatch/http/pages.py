"""Pages of lists: what a token holds is ours, so it is signed; and it belongs to the list that it was made for."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Sequence
from typing import Final

from flowbatch.http.failures import ClientFailure

MAC_BYTES: Final = 16
Cursor = Sequence[str | int]


class Pages:
    """`key` is the server's: a token of another server is refused."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"flowbatch page tokens", "sha256")

    def token(self, question: object, cursor: Cursor) -> str:
        """Goes on behind `cursor` in the list that answers `question` (JSON, without its token and page size)."""
        body = json.dumps(list(cursor), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._mac(question, body) + body).decode().rstrip("=")

    def cursor(self, question: object, token: str) -> list[str | int]:
        """Raises ClientFailure."""
        try:
            data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        mac, body = data[:MAC_BYTES], data[MAC_BYTES:]
        if not body or not hmac.compare_digest(mac, self._mac(question, body)):
            raise ClientFailure("nextToken is not of this list; call without it to begin anew")
        found: list[str | int] = json.loads(body)
        return found

    def _mac(self, question: object, body: bytes) -> bytes:
        asked = json.dumps(question, sort_keys=True, separators=(",", ":")).encode()
        return hmac.digest(self._key, len(asked).to_bytes(4, "big") + asked + body, "sha256")[:MAC_BYTES]


def page_size(given: int | None, most: int = 100) -> int:
    """Raises ClientFailure."""
    if given is None:
        return most
    if not 1 <= given <= most:
        raise ClientFailure(f"maxResults must be 1 to {most}, and {given} is not")
    return given
