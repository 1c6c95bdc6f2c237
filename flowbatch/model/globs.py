"""Wildcards: `*` is any run of characters, `?` any single one. Never by a regular expression."""

from __future__ import annotations


def matches(pattern: str, text: str) -> bool:
    """Goes back to the last `*` alone, so that its cost is at most the product of the lengths, whatever the pattern."""
    at = star = 0
    here = back = 0
    seen_star = False
    while here < len(text):
        if at < len(pattern) and pattern[at] == "*":
            seen_star, star, back = True, at, here
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[here]):
            at += 1
            here += 1
        elif seen_star:
            back += 1
            at, here = star + 1, back
        else:
            return False
    return all(letter == "*" for letter in pattern[at:])
