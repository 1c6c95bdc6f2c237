"""AWS's Signature Version 4, as a server checks it: whether a request was signed with the secret of the key it names.

The rules are those of AWS's documents for header authentication (security.md §2): the path is encoded once more than it was sent, the
host and the date must be signed, and the hash is that of the body as it came.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Final
from urllib.parse import quote, unquote

from msgspec import Struct

ALGORITHM: Final = "AWS4-HMAC-SHA256"
SKEW_S: Final = 300
SERVICES: Final = ("batch", "logs")
INCOMPLETE: Final = "Authorization needs Credential, SignedHeaders and Signature, each once"


class SignatureRefused(Exception):
    """`code` is AWS's (aws-batch.md §14.2); all are answered with 403."""

    def __init__(self, code: str, message: str, key_id: str | None = None) -> None:
        self.code = code
        self.key_id = key_id
        super().__init__(message)


class Signed(Struct, frozen=True, dict=True):
    """A request as it came. `path` and `query` are undecoded, header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the body, in hexadecimal."""
        return hashlib.sha256(self.body).hexdigest()


class Claim(Struct, frozen=True):
    """What an Authorization header says beside the signature: the same in all requests that a client signs on a day."""

    key_id: str
    date: str  # YYYYMMDD
    region: str
    service: str
    signed_headers: tuple[str, ...]
    scope: str


def read_claim(header: str) -> tuple[Claim, str]:
    """And the signature. Raises SignatureRefused where the header is not whole."""
    head, name, rest = header.strip().rpartition("Signature=")
    signature, _, more = rest.partition(",")  # clients write it last, and need not
    claim = claim_of(head + more if name else rest)
    if not name or not signature:
        raise SignatureRefused("IncompleteSignatureException", INCOMPLETE)
    return claim, signature.strip()


def signature_in(headers: Mapping[str, str]) -> str | None:
    """What a request was signed with, however the header around it is written; None where it is not signed."""
    _, name, rest = headers.get("authorization", "").rpartition("Signature=")
    return rest.partition(",")[0].strip() if name else None


@lru_cache(maxsize=256)
def claim_of(head: str) -> Claim:
    """Of the header without its signature. Raises SignatureRefused."""
    algorithm, _, rest = head.partition(" ")
    if algorithm != ALGORITHM:
        raise SignatureRefused("IncompleteSignatureException", f"The authorization must be {ALGORITHM} or Bearer")
    said = [part.strip().partition("=")[::2] for part in rest.split(",") if part.strip()]
    parts = dict(said)
    scope = parts.get("Credential", "").rsplit("/", 4)
    names = tuple(filter(None, parts.get("SignedHeaders", "").split(";")))
    if len(scope) != 5 or not all(scope) or not names or not len(parts) == len(said) == 2:
        raise SignatureRefused("IncompleteSignatureException", INCOMPLETE)
    key_id, date, region, service, end = scope
    if end != "aws4_request" or service not in SERVICES:
        raise SignatureRefused(
            "InvalidSignatureException",
            f"Credential should be scoped to service batch or logs, not {service!r}",
            key_id,
        )
    for name in ("host", "x-amz-date"):
        if name not in names:
            raise SignatureRefused("IncompleteSignatureException", f"The header {name} must be signed", key_id)
    return Claim(key_id, date, region, service, names, f"{date}/{region}/{service}/{end}")


def verify(request: Signed, secret_of: Callable[[str], str | None], now: float) -> Claim:
    """`secret_of` gives a key's secret, None where there is no such key; `now` in seconds. Raises SignatureRefused.

    An unknown key costs what a wrong secret does: the time taken tells nobody which ids exist.
    """
    header = request.headers.get("authorization")
    if header is None:
        raise SignatureRefused("MissingAuthenticationTokenException", "Missing Authentication Token")
    claim, signature = read_claim(header)
    stamp = request.headers.get("x-amz-date", "")
    for name in claim.signed_headers:
        if name not in request.headers:
            raise SignatureRefused("IncompleteSignatureException", f"The signed header {name} is missing", claim.key_id)
    check_time(claim, stamp, now)
    secret = secret_of(claim.key_id)
    expected = signature_of(request, claim, stamp, secret if secret is not None else "no such key")
    matching = hmac.compare_digest(expected.encode(), signature.encode())
    if secret is None:
        raise SignatureRefused(
            "UnrecognizedClientException", "The security token included in the request is invalid.", claim.key_id
        )
    if not matching:
        raise SignatureRefused(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method.",
            claim.key_id,
        )
    return claim


def check_time(claim: Claim, stamp: str, now: float) -> None:
    try:
        signed_at = time_of(stamp)
    except ValueError:
        raise SignatureRefused(
            "IncompleteSignatureException", "x-amz-date is YYYYMMDD'T'HHMMSS'Z'", claim.key_id
        ) from None
    if not stamp.startswith(claim.date + "T"):
        raise SignatureRefused(
            "InvalidSignatureException", "The credential's date is not that of x-amz-date", claim.key_id
        )
    if abs(now - signed_at) > SKEW_S:
        ours = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        word = "expired" if now > signed_at else "not yet current"
        raise SignatureRefused(
            "InvalidSignatureException",
            f"Signature {word}: {stamp} is more than {SKEW_S // 60} min from {ours}, the server's time",
            claim.key_id,
        )


@lru_cache(maxsize=1024)
def time_of(stamp: str) -> float:
    """Many requests are of the same second. Raises ValueError."""
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def signature_of(request: Signed, claim: Claim, stamp: str, secret: str) -> str:
    digest = hashlib.sha256(canonical(request, claim.signed_headers).encode("utf-8", "surrogateescape")).hexdigest()
    signing = signer(secret, claim.date, claim.region, claim.service).copy()
    signing.update(f"{ALGORITHM}\n{stamp}\n{claim.scope}\n{digest}".encode())
    return signing.hexdigest()


@lru_cache(maxsize=1024)
def signer(secret: str, date: str, region: str, service: str) -> hmac.HMAC:
    """The same for all requests of a day: four hashes, and the fifth's key, that only the first of them pays for. To be copied."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")


def canonical(request: Signed, names: Sequence[str]) -> str:
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in names)
    return "\n".join(
        (
            request.method,
            canonical_path(request.path),
            canonical_query(request.query) if request.query else "",
            headers,
            ";".join(names),
            request.digest,
        )
    )


@lru_cache(maxsize=256)
def canonical_path(path: str) -> str:
    return quote(normal_path(path), safe="/-_.~")


def normal_path(path: str) -> str:
    """Without empty, `.` and `..` segments; a slash at the end stays."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")


def canonical_query(query: str) -> str:
    pairs = [
        (quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~")) for name, value in parse_pairs(query)
    ]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def parse_pairs(query: str) -> list[tuple[str, str]]:
    """Undecoded: a plus sign is one, and not a space."""
    found = []
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            found.append((name, value))
    return found
