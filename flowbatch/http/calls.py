"""A request on its way through the server: who sent it, what it may, and the record that is made of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, field
from pydantic_core import to_json

from flowbatch.clock import WallClock
from flowbatch.http.failures import AccessDenied, ClientFailure, Failure
from flowbatch.http.policies import Decision, Policy, Statement, Target, judge, naming
from flowbatch.http.signature import Signed
from flowbatch.model.access import AuditRow
from flowbatch.model.ids import Millis
from flowbatch.model.stimuli import Audited, Stimulus

if TYPE_CHECKING:
    from flowbatch.http.service import Service

PARAMS_MAX: Final = 4096  # characters of a request that the audit log keeps
HIDDEN: Final = frozenset({"environment", "secrets"})
WALL: Final = WallClock()
Answer = Mapping[str, Any]


class Request(Signed, frozen=True):
    """As it came, whole."""

    address: str | None  # of the caller; None: over the unix socket


class Principal(Struct, frozen=True, eq=False):
    """Who somebody is, and what policies say about them."""

    arn: str
    name: str
    key_id: str | None
    policies: tuple[Policy, ...]
    tagged: bool = False  # they look at the tags of resources
    statements: dict[str, tuple[Statement, ...]] = field(default_factory=dict)  # by the action they name

    def may(self, action: str, targets: Sequence[Target]) -> Decision:
        """As `authorize` has it; which statements are about an action is found out once, and of actions there are a few dozen."""
        statements = self.statements.get(action)
        if statements is None:
            statements = self.statements[action] = naming(self.policies, action)
        return judge(statements, targets)


class Call(Struct):
    """One request of one principal. `allow` comes before anything that it asks of the engine."""

    service: Service
    request: Request
    request_id: str
    principal: Principal
    action: str
    given: dict[str, Any]  # the body, or what stands for it
    decision: Decision | None = None
    resource: str = "*"
    recorded: bool = False

    def allow(self, *targets: Target) -> None:
        """Raises AccessDenied unless all of them are allowed. Without a target the action has no resource."""
        checked = targets or (self.target("*"),)
        decision = self.decided(checked)
        if not decision.allowed:
            raise self.denied(decision)

    def tries(self, *targets: Target) -> bool:
        """As `allow`, and says whether it is; if not, nothing is decided yet."""
        before = self.resource, self.decision
        if self.decided(targets or (self.target("*"),)).allowed:
            return True
        self.resource, self.decision = before
        return False

    def decided(self, targets: Sequence[Target]) -> Decision:
        self.resource = targets[0].arn
        self.decision = decision = self.principal.may(self.action, targets)
        return decision

    def still_valid(self) -> bool:
        """Whether its key still opens the door: of an answer that goes on."""
        if self.principal.key_id is None:
            return True
        key = self.service.state.keys.get(self.principal.key_id)
        return key is not None and key.valid(Millis(WALL.now()))

    def allows(self, target: Target, action: str | None = None) -> bool:
        return self.principal.may(action or self.action, (target,)).allowed

    def denied(self, decision: Decision, action: str | None = None) -> AccessDenied:
        """As AWS says it (aws-batch.md §13.3)."""
        name = action or self.action
        return AccessDenied(
            f"User: {self.principal.arn} is not authorized to perform: {name} on resource: {decision.resource} "
            f"{decision.because.replace('allows it', f'allows the {name} action')}"
        )

    def also(self, action: str, *targets: Target) -> None:
        """A second action that the call comes to (batch:TagResource of a tagged creation). Raises AccessDenied."""
        decision = self.principal.may(action, targets)
        if not decision.allowed:
            raise self.denied(decision, action)

    def target(self, arn: str, context: Mapping[str, Sequence[str]] | None = None) -> Target:
        """With what every request has, and what this resource has beside it."""
        known: dict[str, Sequence[str]] = {"aws:username": (self.principal.name,)}
        if self.request.address is not None:
            known["aws:sourceip"] = (self.request.address,)
        if context:
            known.update(context)
        return Target(arn, known)

    def tags_of(self, kind: str, name: str, made_with: Callable[[], Mapping[str, str]]) -> Mapping[str, Sequence[str]]:
        """What conditions may ask of a resource's tags; looked up only where one does."""
        return context_of_tags(self.service.tags(kind, name, made_with)) if self.principal.tagged else {}

    async def ask(self, command: Callable[[int], Stimulus]) -> Any:
        """The engine's answer, durable with its record. Raises ClientFailure where it refuses."""
        if self.decision is None or not self.decision.allowed:
            raise AssertionError(f"{self.action}: asked of the engine before it was allowed")
        self.recorded = True
        answer = await self.service.engine.ask(lambda ticket: Audited(command(ticket), self.row()))
        if answer.error is not None:
            raise ClientFailure(answer.error)
        return answer.value

    def row(self, error: Failure | None = None) -> AuditRow:
        shown = to_json(without_values(self.given)).decode()
        return AuditRow(
            Millis(self.service.now()),
            self.principal.arn,
            self.principal.key_id,
            self.request.address,
            self.request.headers.get("user-agent", "")[:256] or None,
            self.action,
            self.resource,
            self.decision is not None and self.decision.allowed,
            None if self.decision is None else self.decision.statement,
            self.request_id,
            shown if len(shown) <= PARAMS_MAX else None,
            self.request.digest,
            error=None if error is None else f"{error.code}: {error}"[:1024],
        )


def context_of_tags(tags: Mapping[str, str]) -> dict[str, Sequence[str]]:
    return {f"aws:resourcetag/{key}".casefold(): (value,) for key, value in tags.items()}


def context_of_request(tags: Mapping[str, str]) -> dict[str, Sequence[str]]:
    """Of the tags that the request gives."""
    found: dict[str, Sequence[str]] = {f"aws:requesttag/{key}".casefold(): (value,) for key, value in tags.items()}
    return {**found, "aws:tagkeys": tuple(tags)} if tags else {}


def without_values(value: Any) -> Any:
    """The request without what may be secret: the values of variables."""
    if isinstance(value, dict):
        return {
            key: [{"name": each.get("name")} for each in item if isinstance(each, dict)]
            if key in HIDDEN and isinstance(item, list)
            else without_values(item)
            if isinstance(item, dict | list)
            else item
            for key, item in value.items()
        }
    return [without_values(each) for each in value] if isinstance(value, list) else value


def on_loopback(address: str | None) -> bool:
    return address is None or ipaddress.ip_address(address).is_loopback


class Route(Struct, frozen=True):
    """An operation: what it is called, which action it needs, and the function that does it."""

    name: str
    action: str
    act: Callable[[Call], Awaitable[Answer]]
    reads: bool = False
    body_max: int = 256 * 1024
