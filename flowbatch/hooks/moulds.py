"""Bodies of an array's children: thousands that are the same but for the event's number and time and the child's index.

The second event of such a kind is encoded with numbers of ours in these places; what stands between them is the mould of all that
follow. It is used only where filling it gives what encoding gives: a job whose own texts hold our numbers is encoded each time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from operator import itemgetter
from typing import Any, Final

from msgspec import Struct

from flowbatch.model.events import EventKind, LoggedEvent
from flowbatch.model.ids import Millis

KEPT: Final = 256  # of at most BODY_BYTES each
STARTED: Final = re.compile(r'\{"started_at": (\d+)\}')  # the whole of a child's `detail`, where it has one
# Numbers of ours: of the event, of its time, of the child, of the time it started.
SEQ, AT, IDX, STARTED_AT = 271_828_182_845_904, Millis(8_314_462_618_153), 141_421_356, 6_626_070_150_040


class Filling(Struct, frozen=True):
    """What makes an event out of its mould. `slots`: texts and numbers as they stand in the body."""

    kind: Hashable  # events of one kind have one mould
    slots: tuple[object, ...]


class Mould:
    def __init__(self, body: bytes, slots: Sequence[object]) -> None:
        """`body`: where these slots, and nothing else, read as they do."""
        texts = [str(slot) for slot in slots]
        parts = re.split(f"({'|'.join(map(re.escape, texts))})", body.decode())
        self._pattern = "%s".join(part.replace("%", "%%") for part in parts[::2])
        self._pick: Callable[[tuple[object, ...]], Any] = itemgetter(*(texts.index(text) for text in parts[1::2]))
        self.fits = False  # until it was tried

    def filled(self, slots: tuple[object, ...]) -> bytes:
        body: str = self._pattern % self._pick(slots)
        return body.encode()


class Moulds:
    """`encode` makes a body, `spell` the id, the time and the number of an event as that body has them."""

    def __init__(
        self, encode: Callable[[LoggedEvent], bytes], spell: Callable[[int, Millis], tuple[object, ...]]
    ) -> None:
        self._encode = encode
        self._spell = spell
        self._moulds: dict[Hashable, Mould | None] = {}  # None: one such event was seen

    def body(self, event: LoggedEvent) -> bytes:
        """What `encode` gives, to the byte, and quicker."""
        filling = self._filling(event)
        if filling is None:
            return self._encode(event)
        kind = filling.kind
        mould = self._moulds.get(kind)
        if mould is not None and mould.fits:
            return mould.filled(filling.slots)
        body = self._encode(event)
        if kind not in self._moulds:
            if len(self._moulds) >= KEPT:
                del self._moulds[next(iter(self._moulds))]
            self._moulds[kind] = None
        elif mould is None:
            mould = self._moulds[kind] = self._cast(event)
            mould.fits = mould.filled(filling.slots) == body
        return body

    def _filling(self, event: LoggedEvent) -> Filling | None:
        """None: there are not many like it."""
        row = event.row
        if row.kind is not EventKind.CHILD or event.job is None:
            return None
        started: object = None
        if row.detail is not None:
            found = STARTED.fullmatch(row.detail)
            if found is None:
                return None
            started = found[1]
        kind = (event.job.id, row.status, row.attempt, row.exit_code, row.reason, row.status_reason, started is None)
        return Filling(kind, (*self._spell(event.seq, row.at), row.at, row.idx, started))

    def _cast(self, event: LoggedEvent) -> Mould:
        row = event.row
        detail = None if row.detail is None else f'{{"started_at": {STARTED_AT}}}'
        ours = LoggedEvent(SEQ, row._replace(at=AT, idx=IDX, detail=detail), event.run, event.job)
        return Mould(self._encode(ours), (*self._spell(SEQ, AT), AT, IDX, STARTED_AT))
