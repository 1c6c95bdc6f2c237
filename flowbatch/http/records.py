"""The audit log as others see it: a record in CloudTrail's shape, a mirror of all records in a file, and how long they are kept
(aws-batch.md §12, security.md §8)."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from flowbatch.logs import Logger
from flowbatch.model.ids import Millis
from flowbatch.store.reader import Reader

if TYPE_CHECKING:
    from flowbatch.engine.loop import Engine
    from flowbatch.engine.verbs import Verbs
    from flowbatch.model.access import AuditRow
    from flowbatch.model.outcome import Outcome

log = Logger(__name__)

PAGE: Final = 1000
PRUNED_AT_ONCE: Final = 5_000  # records, in one transaction
PRUNE_EVERY_MS: Final = 3600 * 1000
AGAIN_MS: Final = 10_000  # after a mirror that could not be written
LINE_MAX: Final = 64 * 1024  # of the mirror's last line, from which it goes on


def record(seq: int, row: AuditRow, digest: str) -> dict[str, Any]:
    name = row.action.partition(":")[2]
    code, _, message = (row.error or "").partition(": ")
    found: dict[str, Any] = {
        "eventVersion": "1.11",
        "eventTime": datetime.fromtimestamp(row.at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": f"{row.action.partition(':')[0]}.amazonaws.com",
        "eventName": name,
        "eventType": "AwsApiCall",
        "eventCategory": "Management",
        "managementEvent": True,
        "readOnly": name.startswith(("Describe", "List", "Get", "Filter")),
        "sourceIPAddress": row.address,
        "userAgent": row.agent,
        "userIdentity": {
            "type": "IAMUser",
            "arn": row.principal,
            "accessKeyId": None if row.key_id is None else f"fbk_{row.key_id.removeprefix('fbk_')}",
            "userName": row.principal.rpartition("/")[2],
        },
        "requestParameters": None if row.params is None else json.loads(row.params),
        "responseElements": None if row.response is None else json.loads(row.response),
        "requestID": row.request_id,
        "eventID": f"{seq}-{digest[:16]}",
        "resources": [{"ARN": row.resource}],
        "additionalEventData": {
            "decision": "allow" if row.allowed else "deny",
            "statement": row.statement,
            "bodySha256": row.digest,
            "sequence": seq,
            "hash": digest,
        },
    }
    if row.error is not None:
        found |= {"errorCode": code, "errorMessage": message}
    return found


class Mirror:
    """A file that has every record of the log as a line of JSON. It goes on behind its own last line; where it is new, or was taken
    away, with the oldest record that is kept. A record may come twice around a rotation: `sequence` tells."""

    def __init__(self, path: Path, database: Path) -> None:
        self.path = path
        self._database = database
        self._seq: int | None = None  # of the last record in the file, once it was looked at

    def write(self) -> None:
        """All that is new. Blocks on the disk. Raises OSError."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with os.fdopen(os.open(self.path, flags, 0o600), "r+b", buffering=0) as file, Reader(self._database) as reader:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(22, "is no ordinary file", str(self.path))
            if self._seq is None:
                self._seq = last_sequence(file.fileno(), status.st_size)
            while rows := reader.audit(after=self._seq, limit=PAGE):
                lines = b"".join(json.dumps(record(*row)).encode() + b"\n" for row in rows)
                written = os.write(file.fileno(), lines)
                if written < len(lines):
                    self._seq = None  # a full disk: what is half a line goes before the next attempt
                    raise OSError(28, "No space left on device", str(self.path))
                os.fsync(file.fileno())
                self._seq = rows[-1][0]


def last_sequence(descriptor: int, size: int) -> int:
    """Of the last whole line; half a line behind it is cut off. 0 in an empty file. Raises OSError where it is no mirror."""
    begin = max(0, size - LINE_MAX)
    tail = os.pread(descriptor, LINE_MAX, begin)
    whole = tail[: tail.rfind(b"\n") + 1]
    if size and not whole and size >= LINE_MAX:
        raise OSError(22, "is no mirror of an audit log: its last line is too long")
    if len(whole) < len(tail):
        os.ftruncate(descriptor, begin + len(whole))
    if not whole:
        return 0
    try:
        return int(json.loads(whole[:-1].rpartition(b"\n")[2])["additionalEventData"]["sequence"])
    except (ValueError, KeyError, TypeError):
        raise OSError(22, "is no mirror of an audit log: name another file") from None


async def mirror(engine: Engine, make: Callable[[], Mirror | None]) -> None:
    """Never returns. `make`: by the settings as they are; None: there is no mirror."""
    news = anyio.Event()

    def look(outcome: Outcome) -> None:
        if outcome.writes.audit:
            news.set()

    engine.observe(look)
    held: Mirror | None = None
    while True:
        wanted = make()
        if wanted is None or held is None or wanted.path != held.path:
            held = wanted
        if held is not None:
            try:
                await anyio.to_thread.run_sync(held.write)
            except OSError as error:
                log.error("audit_mirror_not_written", file=str(held.path), error=error.strerror or str(error))
                await engine.clock.sleep_until(Millis(engine.clock.now() + AGAIN_MS))
                continue
        await news.wait()
        news = anyio.Event()


async def prune(ask: Callable[[str, dict[str, object]], Awaitable[object]], reader: Reader, before: int) -> int:
    """`ask`: the engine's verbs. Lets go what is older than `before` (epoch milliseconds), a bounded piece at a time. Returns how many records went."""
    first, _ = reader.audit_pruned()
    end = reader.audit_before(before, 1 << 60)  # each piece that goes is a new record, which stays
    while True:
        known, _ = reader.audit_pruned()
        found = None if end is None else reader.audit_before(before, min(PRUNED_AT_ONCE, end[0] - known))
        if found is None or found[0] <= known:
            return known - first
        await ask("prune_audit", {"seq": found[0], "hash": found[1]})


async def retain(engine: Engine, verbs: Verbs, reader: Reader, retention_ms: Callable[[], int | None]) -> None:
    """Never returns: looks once an hour. The clock of records is the wall's, as the engine's is."""
    while True:
        kept = retention_ms()
        if kept is not None:
            count = await prune(verbs.call, reader, engine.clock.now() - kept)
            if count:
                log.info("audit_pruned", records=count)
        await engine.clock.sleep_until(Millis(engine.clock.now() + PRUNE_EVERY_MS))
