"""Dropping a run that ended long ago, in transactions of at most some 10,000 rows each."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Final

from flowbatch.model.ids import Millis
from flowbatch.store import statements

RUNS_A_CALL: Final = 20
EVENTS_A_STEP: Final = 20_000
JOBS_A_CALL: Final = 200

Step = Callable[[sqlite3.Connection], None]


def collectable(db: sqlite3.Connection, before: Millis) -> list[int]:
    return [number for (number,) in db.execute(statements.COLLECTABLE, (before, RUNS_A_CALL)).fetchall()]


def collectable_jobs(db: sqlite3.Connection, before: Millis) -> list[tuple[int, str]]:
    """Without a run."""
    return [(no, job_id) for no, job_id in db.execute(statements.COLLECTABLE_JOBS, (before, JOBS_A_CALL)).fetchall()]


def drop_alone(db: sqlite3.Connection, job: int, job_id: str) -> None:
    drop(db, statements.DROP_EVENTS_ALONE, (job,))
    db.execute(statements.DELETE_TAGS, ("job", job_id))
    drop_job(db, job)


def steps(db: sqlite3.Connection, run: int) -> list[Step]:
    """Children before parents, as the foreign keys have it. The plan goes first: without it the run shows nowhere, so that
    nobody meets it half gone; the run's own row goes last, so that a crash leaves it collectable."""
    found: list[Step] = [partial(drop, statement=statements.DROP_RUN_PLAN, parameters=(run,))]
    found += [partial(drop_job, job=job) for (job,) in db.execute(statements.JOBS_TO_DROP, (run,)).fetchall()]
    first, last = db.execute(statements.EVENTS_TO_DROP, (run,)).fetchone()
    if first is not None:
        for low in range(first, last + 1, EVENTS_A_STEP):
            high = min(low + EVENTS_A_STEP - 1, last)
            found.append(partial(drop, statement=statements.DROP_EVENTS, parameters=(run, low, high)))
    found.append(partial(drop_sinks, run=run))
    found.append(partial(drop, statement=statements.DROP_TOKENS, parameters=(run,)))
    found.append(partial(drop, statement=statements.DROP_RUN, parameters=(run,)))
    return found


def drop(db: sqlite3.Connection, statement: str, parameters: tuple[int, ...]) -> None:
    db.execute(statement, parameters)


def drop_job(db: sqlite3.Connection, job: int) -> None:
    for statement in (
        statements.DROP_IMAGES,
        statements.DROP_MEMBERS,
        statements.DROP_ATTEMPTS,
        statements.DROP_TASKS,
        statements.DROP_JOB_TOKENS,
        statements.DROP_JOB_PLAN,
        statements.DROP_JOB,
    ):
        db.execute(statement, (job,))


def drop_sinks(db: sqlite3.Connection, run: int) -> None:
    for statement in (
        statements.DROP_DELIVERIES_OF_RUN,
        statements.DROP_GAPS_OF_RUN,
        statements.DROP_DEAD_OF_RUN,
        statements.DROP_PARKED_OF_RUN,
        statements.DROP_SINKS_OF_RUN,
    ):
        db.execute(statement, (run,))


def shrink(db: sqlite3.Connection) -> None:
    """Gives freed pages back to the disk. The statement frees a page a step, and only a script is stepped to its end."""
    db.executescript(statements.INCREMENTAL_VACUUM)
