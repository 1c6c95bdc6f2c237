"""Who sent a request: the key that signed it, the bearer of one, or the folder's owner over the unix socket (security.md §2)."""

from __future__ import annotations

import hmac
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from flowbatch.http import keys
from flowbatch.http.arns import Account
from flowbatch.http.calls import Principal, Request
from flowbatch.http.failures import NotAuthentic, TooManyRequests
from flowbatch.http.policies import Policy, PolicyInvalid, looks_at_tags, parse_policy
from flowbatch.http.signature import SignatureRefused, verify
from flowbatch.model.ids import Millis

if TYPE_CHECKING:
    from flowbatch.core.state import State
    from flowbatch.model.access import KeyRow, PolicyRow

ADMINISTRATOR: Final = "administrator"
EVERYTHING: Final = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Sid": "everything", "Effect": "Allow", "Action": "*", "Resource": "*"}]}
)
FAILURES_MAX: Final = 10  # of one address in a minute
MINUTE_MS: Final = 60_000
ADDRESSES_MAX: Final = 10_000
INVALID: Final = "The security token included in the request is invalid."


class Failures(Struct):
    """Failed attempts of each address within the last minute or so."""

    counts: OrderedDict[str, tuple[int, int]] = field(default_factory=OrderedDict)  # address → (since, how many)

    def full(self, address: str, now: int) -> bool:
        since, count = self.counts.get(address, (0, 0))
        return count >= FAILURES_MAX and now - since < MINUTE_MS

    def add(self, address: str, now: int) -> None:
        since, count = self.counts.pop(address, (now, 0))
        self.counts[address] = (since, count + 1) if now - since < MINUTE_MS else (now, 1)
        if len(self.counts) > ADDRESSES_MAX:
            self.counts.popitem(last=False)


class Authenticator:
    """`master`: the server's master key. `open_to_all`: nobody is asked who they are (`--insecure-no-auth`)."""

    def __init__(
        self, state: Callable[[], State], master: bytes, account: Account, *, open_to_all: bool = False
    ) -> None:
        self._state = state
        self._master = master
        self._account = account
        self._open = open_to_all
        self._failures = Failures()
        self._parsed: dict[str, tuple[PolicyRow, Policy]] = {}
        self._principals: dict[str, tuple[KeyRow, tuple[PolicyRow | None, ...], Principal]] = {}
        self._owner = self.local("owner")
        self._nobody = self.local("anonymous")

    def local(self, name: str, policies: Sequence[str] | None = None) -> Principal:
        """One without a key, with these policies as they are now; None: who may everything. One that is not there allows nothing."""
        if policies is None:
            return Principal(self.user_arn(name), name, None, (parse_policy(ADMINISTRATOR, EVERYTHING),))
        rows = map(self._state().policies.get, policies)
        found = tuple(self._policy(row) for row in rows if row is not None)
        return Principal(self.user_arn(name), name, None, found, looks_at_tags(found))

    def user_arn(self, name: str) -> str:
        return f"arn:{self._account.partition}:iam::{self._account.number}:user/{name}"

    def principal(self, request: Request, now: int) -> Principal:
        """`now` in milliseconds. Raises NotAuthentic, TooManyRequests."""
        if request.address is None:
            return self._owner
        if self._open:
            return self._nobody
        if self._failures.full(request.address, now):
            raise TooManyRequests("Too many failed attempts to authenticate; wait a minute", MINUTE_MS / 1000)
        try:
            return self._known(self._key_of(request, now))
        except SignatureRefused as error:
            self._failures.add(request.address, now)
            raise NotAuthentic(error.code, str(error)) from None

    def _key_of(self, request: Request, now: int) -> KeyRow:
        header = request.headers.get("authorization", "")
        scheme, _, rest = header.partition(" ")
        if scheme.lower() == "bearer":
            return self._bearer(rest.strip(), now)
        claim = verify(request, lambda key_id: self._secret(key_id.removeprefix(keys.PREFIX), now), now / 1000)
        return self._state().keys[claim.key_id.removeprefix(keys.PREFIX)]

    def _bearer(self, text: str, now: int) -> KeyRow:
        token = keys.parse_token(text)
        known = None if token is None else self._secret(token.id, now)
        given = token.secret if token is not None else ""
        if not hmac.compare_digest(given.encode(), (known or "no such key").encode()) or token is None:
            raise SignatureRefused("UnrecognizedClientException", INVALID, None if token is None else token.id)
        return self._state().keys[token.id]

    def _secret(self, key_id: str, now: int) -> str | None:
        key = self._state().keys.get(key_id)
        if key is None or not key.valid(Millis(now)):
            return None
        return keys.secret_of(self._master, key_id, key.generation)

    def _known(self, key: KeyRow) -> Principal:
        """With its policies as they are now: a change of one is in force with the next request."""
        rows = tuple(map(self._state().policies.get, key.policies))
        held = self._principals.get(key.id)
        if held is not None and held[0] is key and held[1] == rows:
            return held[2]
        policies = tuple(self._policy(row) for row in rows if row)
        made = Principal(self.user_arn(key.name), key.name, key.id, policies, looks_at_tags(policies))
        self._principals[key.id] = (key, rows, made)
        return made

    def _policy(self, row: PolicyRow) -> Policy:
        """What is stored was understood when it was stored; one that is not any more allows nothing."""
        held = self._parsed.get(row.name)
        if held is not None and held[0] is row:
            return held[1]
        try:
            policy = parse_policy(row.name, row.document)
        except PolicyInvalid as error:
            raise NotAuthentic("AccessDeniedException", f"{error}; no request of its keys is allowed") from None
        self._parsed[row.name] = (row, policy)
        return policy


def claimed_key(headers: Mapping[str, str]) -> str | None:
    """The id of the key that a request says it is signed with, for the record of one that was refused."""
    header = headers.get("authorization", "")
    if "Credential=" in header:
        found = header.partition("Credential=")[2].partition("/")[0]
        return found[:64] or None
    token = keys.parse_token(header.partition(" ")[2].strip())
    return None if token is None else token.id
