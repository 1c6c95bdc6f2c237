"""The conditions of a policy's statements: what each operator asks of the request's context (aws-batch.md §13)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from flowbatch.http.globs import arn_matches, matches

Context = Mapping[str, Sequence[str]]  # the key in lower case → its values; a key that the request lacks is not there

MANY_VALUED: Final = frozenset({"aws:tagkeys"})
KEYS: Final = frozenset(
    {
        "aws:sourceip",
        "aws:username",
        "aws:securetransport",
        "aws:tagkeys",
        "aws:currenttime",
        "batch:image",
        "batch:user",
        "batch:privileged",
        "batch:logdriver",
        "batch:awslogscreategroup",
        "batch:awslogsgroup",
        "batch:awslogsregion",
        "batch:awslogsstreamprefix",
        "batch:shareidentifier",
        "batch:schedulingpriority",
        "batch:eksimage",
        "batch:eksnamespace",
        "batch:eksprivileged",
        "batch:eksrunasuser",
        "batch:eksrunasgroup",
        "batch:eksserviceaccountname",
    }
)
KEY_PREFIXES: Final = ("aws:resourcetag/", "aws:requesttag/")


def number(text: str) -> float:
    value = float(text)
    if value != value:
        raise ValueError(text)
    return value


def inside(wanted: str, found: str) -> bool:
    return ipaddress.ip_address(found) in ipaddress.ip_network(wanted, strict=False)


Test = Callable[[str, str], bool]  # (what the policy says, what the request has)

OPERATORS: Final[dict[str, Test]] = {
    "stringequals": lambda wanted, found: wanted == found,
    "stringequalsignorecase": lambda wanted, found: wanted.casefold() == found.casefold(),
    "stringlike": matches,
    "arnequals": arn_matches,
    "arnlike": arn_matches,
    "bool": lambda wanted, found: wanted.casefold() == found.casefold(),
    "numericequals": lambda wanted, found: number(found) == number(wanted),
    "numericlessthan": lambda wanted, found: number(found) < number(wanted),
    "numericlessthanequals": lambda wanted, found: number(found) <= number(wanted),
    "numericgreaterthan": lambda wanted, found: number(found) > number(wanted),
    "numericgreaterthanequals": lambda wanted, found: number(found) >= number(wanted),
    "ipaddress": inside,
}
NEGATED: Final[dict[str, str]] = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "arnnotequals": "arnequals",
    "arnnotlike": "arnlike",
    "numericnotequals": "numericequals",
    "notipaddress": "ipaddress",
}


class Condition(Struct, frozen=True):
    """One operator over one key: `{"StringEquals": {"aws:ResourceTag/team": ["a", "b"]}}`."""

    operator: str  # of OPERATORS
    key: str  # lower case
    wanted: tuple[str, ...]
    negated: bool = False
    if_exists: bool = False
    every: bool | None = None  # ForAllValues, ForAnyValue; None: a key with a single value
    null: bool = False  # the operator Null: "true" asks that the key is not there

    def holds(self, context: Context) -> bool:
        """A value that cannot be read as its operator needs it (no number, no address) satisfies no test."""
        found = context.get(self.key)
        if self.null:
            return (found is None) == (self.wanted[0].casefold() == "true")
        if not found:
            # AWS: of no values all are as asked and none is; a key that is not there fails a test, and satisfies a negated one.
            return self.if_exists or (self.negated if self.every is None else self.every)
        tests = [self._one(value) for value in found]
        return all(tests) if self.every else any(tests)

    def _one(self, value: str) -> bool:
        return any(self._test(wanted, value) for wanted in self.wanted) != self.negated

    def _test(self, wanted: str, value: str) -> bool:
        try:
            return OPERATORS[self.operator](wanted, value)
        except ValueError:
            return False


def parse_condition(name: str, key: str, wanted: Sequence[str]) -> Condition:
    """Raises ValueError with what is wrong: a condition that we would not understand must not seem to hold."""
    plain, every = name.casefold(), None
    for prefix, all_of_them in (("forallvalues:", True), ("foranyvalue:", False)):
        if plain.startswith(prefix):
            plain, every = plain.removeprefix(prefix), all_of_them
    low = key.casefold()
    if low not in KEYS and not low.startswith(KEY_PREFIXES):
        raise ValueError(f"the condition key {key!r} is not known here")
    if not wanted:
        raise ValueError(f"{name} of {key}: at least one value is needed")
    if plain == "null":
        if every is not None or len(wanted) != 1 or wanted[0].casefold() not in ("true", "false"):
            raise ValueError(f"Null of {key} takes true or false")
        return Condition("stringequals", low, tuple(wanted), null=True)
    if_exists = plain.endswith("ifexists")
    plain = plain.removesuffix("ifexists")
    operator = NEGATED.get(plain, plain)
    if operator not in OPERATORS:
        raise ValueError(f"the operator {name!r} is not known here")
    if low in MANY_VALUED and every is None:
        raise ValueError(f"{key} has many values: say ForAnyValue:{name} or ForAllValues:{name}")
    condition = Condition(operator, low, tuple(wanted), plain in NEGATED, if_exists, every)
    for value in wanted:
        check_value(operator, key, value)
    return condition


def check_value(operator: str, key: str, value: str) -> None:
    if operator.startswith("numeric"):
        number(value)
    elif operator == "ipaddress":
        ipaddress.ip_network(value, strict=False)
    elif operator == "bool" and value.casefold() not in ("true", "false"):
        raise ValueError(f"Bool of {key} takes true or false, not {value!r}")
    elif operator.startswith("arn") and value != "*" and value.count(":") < 5:
        raise ValueError(f"{value!r} is no ARN")
