"""Policies in the shape of IAM's, and the one function that says who may do what.

Nothing is allowed until a statement allows it; a statement that denies wins over all that allow (security.md §1).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from flowbatch.http.conditions import Condition, Context, parse_condition
from flowbatch.http.globs import arn_matches, matches

VERSIONS: Final = ("2012-10-17", "2008-10-17")
POLICY_BYTES: Final = 10_240  # as IAM's managed policies, with room
STATEMENT_KEYS: Final = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})


class PolicyInvalid(ValueError):
    """What is wrong with a policy's text, and where in it."""


class Statement(Struct, frozen=True):
    id: str  # its Sid, else the policy's name and its place there
    allow: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    all_but_actions: bool = False  # NotAction
    all_but_resources: bool = False  # NotResource
    conditions: tuple[Condition, ...] = ()

    def names(self, action: str) -> bool:
        low = action.casefold()
        named = any(each == "*" or matches(each.casefold(), low) for each in self.actions)
        return named != self.all_but_actions

    def covers(self, resource: str, context: Context) -> bool:
        meant = "*" in self.resources or (
            resource != "*" and any(arn_matches(each, resource) for each in self.resources)
        )
        if meant == self.all_but_resources:
            return False
        return all(each.holds(context) for each in self.conditions)


class Policy(Struct, frozen=True):
    name: str
    statements: tuple[Statement, ...]


def looks_at_tags(policies: Iterable[Policy]) -> bool:
    """Whether anything of them depends on the tags of resources, which have to be looked up."""
    return any(
        condition.key.startswith("aws:resourcetag/")
        for policy in policies
        for statement in policy.statements
        for condition in statement.conditions
    )


class Decision(Struct, frozen=True):
    allowed: bool
    statement: str | None  # the one that decided; None: none did, which denies
    resource: str = "*"  # on a denial, what was not allowed

    @property
    def because(self) -> str:
        """As AWS says it (aws-batch.md §13.3)."""
        return "with an explicit deny" if self.statement is not None else "because no identity-based policy allows it"


class Target(Struct, frozen=True):
    """A resource that an action touches: its ARN, or `*` where the action has none, and what conditions may ask of it."""

    arn: str
    context: Context


def naming(policies: Iterable[Policy], action: str) -> tuple[Statement, ...]:
    """The statements that are about an action."""
    return tuple(each for policy in policies for each in policy.statements if each.names(action))


def authorize(policies: Iterable[Policy], action: str, targets: Sequence[Target]) -> Decision:
    """Every target must be allowed, and none denied."""
    return judge(naming(policies, action), targets)


def judge(statements: Sequence[Statement], targets: Sequence[Target]) -> Decision:
    """By the statements that are about the action."""
    allowing: str | None = None
    for target in targets:
        decision = decide(statements, target)
        if not decision.allowed:
            return decision
        allowing = decision.statement
    return Decision(allowing is not None, allowing)


def decide(statements: Sequence[Statement], target: Target) -> Decision:
    allowing: str | None = None
    for statement in statements:
        if statement.covers(target.arn, target.context):
            if not statement.allow:
                return Decision(False, statement.id, target.arn)
            allowing = allowing or statement.id
    return Decision(allowing is not None, allowing, target.arn)


def parse_policy(name: str, text: str | bytes) -> Policy:
    """Raises PolicyInvalid: a policy that is not understood in full is refused as a whole."""
    if len(text) > POLICY_BYTES:
        raise PolicyInvalid(f"policy {name}: {len(text)} bytes, at most {POLICY_BYTES} are taken")
    try:
        document = json.loads(text, object_pairs_hook=no_duplicates)
    except (ValueError, RecursionError) as error:
        raise PolicyInvalid(f"policy {name}: {error}") from None
    if not isinstance(document, dict):
        raise PolicyInvalid(f"policy {name}: an object with Version and Statement is needed")
    unknown = set(document) - {"Version", "Id", "Statement"}
    if unknown:
        raise PolicyInvalid(f"policy {name}: unknown element {min(unknown)!r}; known are Version, Id, Statement")
    if document.get("Version", VERSIONS[0]) not in VERSIONS:
        raise PolicyInvalid(f"policy {name}: Version is {VERSIONS[0]!r}, not {document['Version']!r}")
    found = document.get("Statement")
    statements = [found] if isinstance(found, dict) else found
    if not isinstance(statements, list) or not statements:
        raise PolicyInvalid(f"policy {name}: Statement is a list of at least one statement")
    return Policy(name, tuple(parse_statement(f"{name}[{at}]", each) for at, each in enumerate(statements)))


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is there twice")
        found[key] = value
    return found


def parse_statement(place: str, value: Any) -> Statement:
    if not isinstance(value, dict):
        raise PolicyInvalid(f"statement {place}: an object is needed")
    unknown = set(value) - STATEMENT_KEYS
    if unknown:
        raise PolicyInvalid(
            f"statement {place}: unknown element {min(unknown)!r}; known are {', '.join(sorted(STATEMENT_KEYS))}"
        )
    effect = value.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise PolicyInvalid(f"statement {place}: Effect is Allow or Deny, not {effect!r}")
    sid = value.get("Sid", place)
    if not isinstance(sid, str):
        raise PolicyInvalid(f"statement {place}: Sid is a string")
    actions, all_but_actions = one_of(place, value, "Action", "NotAction")
    resources, all_but_resources = one_of(place, value, "Resource", "NotResource")
    for action in actions:
        if action != "*" and ":" not in action:
            raise PolicyInvalid(f"statement {place}: {action!r} is no action; one reads batch:SubmitJob")
    for resource in resources:
        if resource != "*" and (not resource.startswith("arn:") or resource.count(":") < 5):
            raise PolicyInvalid(
                f"statement {place}: {resource!r} is no ARN; one reads arn:aws:batch:*:*:job-queue/NAME"
            )
    return Statement(
        sid,
        effect == "Allow",
        actions,
        resources,
        all_but_actions,
        all_but_resources,
        parse_conditions(place, value.get("Condition", {})),
    )


def one_of(place: str, value: dict[str, Any], name: str, opposite: str) -> tuple[tuple[str, ...], bool]:
    if (name in value) == (opposite in value):
        raise PolicyInvalid(f"statement {place}: exactly one of {name} and {opposite} is needed")
    key = name if name in value else opposite
    found = strings(value[key])
    if not found:
        raise PolicyInvalid(f"statement {place}: {key} is a string or a list of strings")
    return found, key == opposite


def parse_conditions(place: str, value: Any) -> tuple[Condition, ...]:
    if not isinstance(value, dict):
        raise PolicyInvalid(f"statement {place}: Condition is an object")
    found = []
    for operator, keys in value.items():
        if not isinstance(keys, dict):
            raise PolicyInvalid(f"statement {place}: Condition.{operator} is an object of keys and values")
        for key, wanted in keys.items():
            try:
                found.append(parse_condition(operator, key, strings(wanted)))
            except ValueError as error:
                raise PolicyInvalid(f"statement {place}: {error}") from None
    return tuple(found)


def strings(value: Any) -> tuple[str, ...]:
    """A string or a list of them; booleans and numbers are taken as JSON writes them. Empty where it is anything else."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, (str, bool, int, float)) for each in values):
        return ()
    return tuple(each if isinstance(each, str) else json.dumps(each) for each in values)
