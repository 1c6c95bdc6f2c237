"""ARNs of AWS Batch, and names or ARNs as its operations take them (aws-batch.md §13.1, §14.6)."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from flowbatch.http.failures import ClientFailure

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
JOB_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
KINDS: Final = (
    "compute-environment",
    "job-queue",
    "job-definition",
    "job",
    "scheduling-policy",
    "consumable-resource",
)


class Arn(Struct, frozen=True):
    kind: str
    name: str  # of a definition NAME or NAME:REVISION; of a job its id, a child's or node's too


class Account(Struct, frozen=True):
    """Whose resources these are, as ARNs say it."""

    number: str = "000000000000"
    region: str = "us-east-1"
    partition: str = "aws"

    def arn(self, kind: str, name: str) -> str:
        return f"arn:{self.partition}:batch:{self.region}:{self.number}:{kind}/{name}"

    def parse(self, arn: str) -> Arn:
        """Raises ClientFailure where it is no ARN of a resource here."""
        parts = arn.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn" or parts[2] != "batch":
            raise ClientFailure(f"{arn} is no ARN of AWS Batch")
        _, partition, _, region, number, rest = parts
        if (partition, region, number) != (self.partition, self.region, self.number):
            raise ClientFailure(
                f"{arn} is of account {number} in {region}; this server's is {self.number} in {self.region}"
            )
        kind, _, name = rest.partition("/")
        if kind not in KINDS or not name:
            raise ClientFailure(f"{arn} is no ARN of a known kind: {', '.join(KINDS)}")
        return Arn(kind, name)

    def name_of(self, kind: str, name_or_arn: str) -> str:
        """The name in a parameter that takes a name or an ARN of that kind. Raises ClientFailure."""
        if not name_or_arn.startswith("arn:"):
            return name_or_arn
        found = self.parse(name_or_arn)
        if found.kind != kind:
            raise ClientFailure(f"{name_or_arn} is a {found.kind}; a {kind} is needed")
        return found.name


def check_name(what: str, name: str) -> str:
    """Raises ClientFailure. `what`: the parameter."""
    if not NAME.fullmatch(name):
        raise ClientFailure(
            f"{what} must be 1 to 128 letters, digits, hyphens and underscores, and {name[:200]!r} is not"
        )
    return name
