"""Secrets by reference: values are resolved where they are used, and stored nowhere (semantics.md 29)."""

from __future__ import annotations

from msgspec import Struct


class SecretSource(Struct, frozen=True):
    """Where a secret's value comes from; exactly one is set. The value itself is never stored."""

    env: str | None = None
    file: str | None = None  # absolute
    command: tuple[str, ...] | None = None
