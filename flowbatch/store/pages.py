"""Jobs by queue, a page at a time: ListJobs of the server. Each page goes by an index from where the one before ended."""

from __future__ import annotations

from typing import Final, NamedTuple

from pydantic_core import to_json

from flowbatch.model.ids import JobId, Millis
from flowbatch.model.status import Status
from flowbatch.store import server_queries
from flowbatch.store.session import Session

FOR_EVER: Final = 2**62
HIGHEST: Final = "\U0010ffff"


class Listed(NamedTuple):
    """A job of a page; of a single with how its task stands. As SQLite gives it: a page has up to a thousand."""

    no: int
    id: JobId
    status: int
    rest: int
    rest_reason: str | None
    cancelled: int
    terminated: int
    status_reason: str | None
    created_at: Millis
    started_at: Millis | None
    stopped_at: Millis | None
    name: str
    size: int | None  # None: a single
    definition: str
    share: str  # empty: none
    exit_code: int | None
    reason: str | None
    task_reason: str | None


def by_status(session: Session, queue: str, status: Status, before: int | None, limit: int) -> list[int]:
    """Numbers of jobs, the newest first, below `before`."""
    return [no for (no,) in session.rows(server_queries.LISTED, queue, status, before or FOR_EVER, limit)]


def by_share(
    session: Session, queue: str, share: str, status: Status | None, before: int | None, limit: int
) -> list[int]:
    """Of any status where none is given."""
    last = before or FOR_EVER
    if status is None:
        rows = session.rows(server_queries.LISTED_BY_SHARE, queue, share, last, limit)
    else:
        rows = session.rows(server_queries.LISTED_BY_SHARE_STATUS, queue, share, status, last, limit)
    return [no for (no,) in rows]


def by_token(session: Session, token: str, before: int | None, limit: int) -> list[tuple[int, Status, str]]:
    """Jobs that need a consumable resource, the newest first: number, status, name."""
    rows = session.rows(server_queries.LISTED_BY_TOKEN, token, before or FOR_EVER, limit)
    return [(no, Status(status), name) for no, status, name in rows]


def created_before(
    session: Session, queue: str, at: int, before: tuple[int, int] | None, limit: int
) -> list[tuple[int, int]]:
    """Numbers and times, the newest first, of what was created before `at`; `before`: the last of the page before, as (time, number)."""
    return [(no, made) for no, made in session.rows(server_queries.LISTED_BEFORE, queue, *(before or (at, 0)), limit)]


def created_after(
    session: Session, queue: str, at: int, before: tuple[int, int] | None, limit: int
) -> list[tuple[int, int]]:
    last = before or (FOR_EVER, FOR_EVER)
    return [(no, made) for no, made in session.rows(server_queries.LISTED_AFTER, queue, at, *last, limit)]


def by_name(session: Session, queue: str, name: str, before: int | None, limit: int) -> list[int]:
    """Whatever its letters' case; the newest first."""
    return [no for (no,) in session.rows(server_queries.LISTED_BY_NAME, queue, name, before or FOR_EVER, limit)]


def by_name_prefix(
    session: Session, queue: str, prefix: str, after: tuple[str, int] | None, limit: int
) -> list[tuple[int, str]]:
    """Grouped by name."""
    name, no = after or (prefix, 0)
    return [
        (each, found)
        for each, found in session.rows(
            server_queries.LISTED_BY_NAME_PREFIX, queue, name, prefix + HIGHEST, name, no, limit
        )
    ]


def by_definition(session: Session, queue: str, revision: str, before: int | None, limit: int) -> list[int]:
    return [
        no for (no,) in session.rows(server_queries.LISTED_BY_DEFINITION, queue, revision, before or FOR_EVER, limit)
    ]


def by_definitions(
    session: Session, queue: str, first: str, beyond: str, after: tuple[str, int] | None, limit: int
) -> list[tuple[int, str]]:
    """Of all revisions from `first` on and before `beyond`."""
    name, no = after or (first, 0)
    return [
        (each, found)
        for each, found in session.rows(server_queries.LISTED_BY_DEFINITIONS, queue, name, beyond, name, no, limit)
    ]


def listed(session: Session, numbers: list[int]) -> tuple[list[Listed], dict[int, dict[Status, int]]]:
    """In the order of the numbers; and of each array, by its number, how many of its children are in which status."""
    with session.snapshot():
        found = list(map(Listed._make, session.rows(server_queries.JOBS_OF_PAGE, to_json(numbers).decode())))
        arrays = [each for each in found if each.size is not None]
        counts: dict[int, dict[Status, int]] = {each.no: {} for each in arrays}
        if arrays:
            for job, status, count in session.rows(server_queries.COUNTS_OF_PAGE, to_json(list(counts)).decode()):
                counts[job][Status(status)] = count
    for each in arrays:
        held = counts[each.no]
        rest = Status(each.rest)
        held[rest] = held.get(rest, 0) + (each.size or 0) - sum(held.values())
    return found, counts
