"""Text of others (names, reasons) that must be nothing but text where it is shown: no markup, no mention, no link, no control."""

from __future__ import annotations

import re
from typing import Final

BREAK: Final = "\u200b"  # a blank of no width: what it parts is no mention and no link any more
_UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udfff]"
)
_DISCORD: Final = re.compile(r"([\\*_~`|>\[\]()#<:-])")


def plain(text: str, limit: int = 1000) -> str:
    """One line without controls and without marks that reorder or hide text; at most so many characters."""
    line = " ".join(_UNSEEN.sub(" ", text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def inert(text: str) -> str:
    """Where neither markup nor escapes are known: mentions and links are broken, to the eye they stay what they are."""
    return text.replace("@", f"@{BREAK}").replace("://", f":{BREAK}//").replace("www.", f"www{BREAK}.")


def slack(text: str) -> str:
    """For `text`, whose control sequences all begin with `<`; markup goes by the blank of no width before its letter."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return inert(re.sub(r"([*_~`])", rf"{BREAK}\1", safe))


def discord(text: str) -> str:
    return inert(_DISCORD.sub(r"\\\1", text))
