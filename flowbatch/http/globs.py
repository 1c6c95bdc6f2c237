"""Wildcards as IAM has them, also over the parts of an ARN."""

from __future__ import annotations

from flowbatch.model.globs import matches

__all__ = ["arn_matches", "matches"]


def arn_matches(pattern: str, arn: str) -> bool:
    """Part by part, so that a wildcard never reaches over a colon of the first five (aws-batch.md §13)."""
    if pattern == "*":
        return True
    wanted, found = pattern.split(":", 5), arn.split(":", 5)
    return len(wanted) == 6 == len(found) and all(map(matches, wanted, found))
