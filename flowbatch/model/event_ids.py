"""Ids of events: the same for every try, every sink and every life, and in the order of their times.

`evt_` and 26 letters of Crockford's base 32, as a ULID has them: 48 bits of time, 32 that name the state folder, 48 of the event's
number, so that the number can be read back. A digest's id has the numbers of its first and last event, a batch's what is in it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

PREFIX: Final = "evt_"
LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
PAIRS: Final = tuple(first + second for first in LETTERS for second in LETTERS)
VALUES: Final = {letter: value for value, letter in enumerate(LETTERS)}
LENGTH: Final = 26
SEQ_BITS: Final = 48
FOLDER_BITS: Final = 32


def event_id(instance: str, seq: int, at: int) -> str:
    head, rest = _head(instance, at)
    low = rest | seq & (1 << SEQ_BITS) - 1
    return "".join(
        (head, PAIRS[low >> 40], PAIRS[low >> 30 & 1023], PAIRS[low >> 20 & 1023], PAIRS[low >> 10 & 1023], PAIRS[low & 1023])
    )  # fmt: skip


@lru_cache(64)  # thousands of events have a millisecond in common
def _head(instance: str, at: int) -> tuple[str, int]:
    """The letters that come of the time and the folder alone, and the bits of the folder in the next letter."""
    number = (at & (1 << 48) - 1) << FOLDER_BITS + SEQ_BITS | zlib.crc32(instance.encode()) << SEQ_BITS
    return PREFIX + spelled(number)[:16], number & (1 << 50) - 1


def spelled(number: int) -> str:
    """128 bits in 26 letters, two at a time."""
    high, low = divmod(number, 1 << 60)
    return "".join(
        (
            PAIRS[high >> 60 & 1023], PAIRS[high >> 50 & 1023], PAIRS[high >> 40 & 1023], PAIRS[high >> 30 & 1023],
            PAIRS[high >> 20 & 1023], PAIRS[high >> 10 & 1023], PAIRS[high & 1023],
            PAIRS[low >> 50], PAIRS[low >> 40 & 1023], PAIRS[low >> 30 & 1023], PAIRS[low >> 20 & 1023],
            PAIRS[low >> 10 & 1023], PAIRS[low & 1023],
        )
    )  # fmt: skip


def seq_of(instance: str, text: str) -> int:
    """The number of the event of that id. Raises ValueError where it is no id of this state folder."""
    letters = text.removeprefix(PREFIX).upper()
    if not text.startswith(PREFIX) or len(letters) != LENGTH or not set(letters) <= VALUES.keys():
        raise ValueError(f"{text!r} is no event's id; it reads {PREFIX} and {LENGTH} letters")
    number = 0
    for letter in letters:
        number = number << 5 | VALUES[letter]
    if number >> SEQ_BITS & (1 << FOLDER_BITS) - 1 != zlib.crc32(instance.encode()):
        raise ValueError(f"{text} is an event of another state folder")
    return number & (1 << SEQ_BITS) - 1


def digest_id(instance: str, sink: str, first: int, last: int) -> str:
    return _hashed("dig_", f"{instance} {sink} {first} {last}")


def batch_id(instance: str, seqs: Sequence[int]) -> str:
    """The same events in the same order make the same id, and the same body."""
    return _hashed("bat_", f"{instance} {seqs}")


def _hashed(prefix: str, text: str) -> str:
    return prefix + spelled(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16]))
