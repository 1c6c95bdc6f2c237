"""Nodes and containers of an attempt, for the verbs that show them; addresses name them after an `@`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from flowbatch.cli.output import print_table, status_text, time_text
from flowbatch.cli.rows import shortened, took_text
from flowbatch.core.ending import EXITED
from flowbatch.errors import InputError
from flowbatch.model.ids import AttemptKey
from flowbatch.model.status import Status

if TYPE_CHECKING:
    from flowbatch.cli.logsource import LogSource
    from flowbatch.cli.records import Records
    from flowbatch.model.jobspec import JobSpec
    from flowbatch.store.results import Found, JobView, MemberView, TaskView

HEADERS: Final = ("NODE", "STATUS", "ADDRESS", "EXIT", "STARTED", "TOOK", "REASON")
SHOWN: Final = 20


def one_of(reader: Records, found: Found, address: str) -> MemberView:
    """The one that the address names. Raises InputError where its attempt has not begun."""
    job, index, member = found.job, found.index, found.member
    assert job is not None
    assert index is not None
    had = reader.task(job, index).attempts
    if found.attempt is not None and found.attempt > had:
        raise InputError(f"{address}: there was no attempt {found.attempt}; it has had {had or 'none yet'}")
    for each in reader.members(job, index, found.attempt):
        if each.key.member == member:
            if not each.key.attempt:
                raise InputError(f"{address}: no attempt has begun; `flowbatch why` says what the job waits for")
            return each
    raise InputError(f"{address}: there is no such node or container")


def member_reason(each: MemberView) -> str:
    if each.reason:
        return each.reason
    return "" if each.status_reason == EXITED and each.exit_code is not None else each.status_reason or ""


def cells(each: MemberView) -> list[str]:
    return [
        f"{each.label} (main)" if each.main and each.node is not None else each.label,
        status_text(each.status.name),
        each.address or "-",
        "-" if each.exit_code is None else str(each.exit_code),
        time_text(each.started_at),
        took_text(each.started_at, each.stopped_at),
        shortened(member_reason(each)),
    ]


def print_members(members: list[MemberView]) -> None:
    """Of many, the main ones and those that failed by themselves come before the others are counted."""
    headers = HEADERS if members[0].node is not None else ("CONTAINER", *HEADERS[1:])
    chosen = members
    if len(members) > SHOWN:
        telling = [each for each in members if each.main or each.status is Status.FAILED]
        chosen = (telling or members)[:SHOWN]
    print_table(list(headers), [cells(each) for each in chosen])
    if len(chosen) < len(members):
        counts = {status: sum(each.status is status for each in members) for status in Status}
        words = ", ".join(f"{count} {status.name}" for status, count in counts.items() if count)
        click.echo(f"… of {len(members)}: {words}; --json has all of them")


def member_object(each: MemberView, logs: LogSource) -> dict[str, object]:
    return {
        "id": each.id,
        "label": each.label,
        "node": each.node,
        "main": each.main,
        "attempt": each.key.attempt,
        "status": each.status.name,
        "address": each.address,
        "started_at": each.started_at,
        "stopped_at": each.stopped_at,
        "exit_code": each.exit_code,
        "reason": each.reason,
        "status_reason": each.status_reason,
        "image": each.image,
        "log": logs.path(each.key) if each.key.attempt else None,
        "truncated": each.truncated,
    }


def member_cells(job: JobView, each: MemberView) -> list[str]:
    """In the table of jobs."""
    return [
        f"{job.name}@{each.label}",
        status_text(each.status.name),
        "-",
        str(each.key.attempt),
        "-" if each.exit_code is None else str(each.exit_code),
        time_text(each.started_at),
        took_text(each.started_at, each.stopped_at),
        shortened(member_reason(each)),
    ]


def member_child(job: JobView, each: MemberView) -> dict[str, object]:
    """In the list of jobs: what a child of an array has, and its label."""
    return {
        "id": each.id,
        "job": job.name,
        "index": None,
        "member": each.label,
        "status": each.status.name,
        "status_reason": each.status_reason,
        "exit_code": each.exit_code,
        "attempts": each.key.attempt,
        "created_at": job.row.created_at,
        "started_at": each.started_at,
        "stopped_at": each.stopped_at,
    }


def telling(reader: Records, job: JobView, task: TaskView) -> AttemptKey:
    """Whose log says most of how a task ended: its own, or that of the first of the main node that failed."""
    alone = AttemptKey(job.id, task.index or 0, task.attempts)
    main = [each for each in reader.members(job, alone.idx) if each.main]
    begun = [each for each in main if each.started_at is not None] or main
    failed = [each for each in begun if each.status is Status.FAILED]
    first = min(failed, key=lambda each: each.stopped_at or 0) if failed else begun[0] if begun else None
    return alone if first is None else first.key


def words_on(spec: JobSpec) -> list[str]:
    """What a job consists of, group by group."""
    members = spec.members
    if members is None:
        return []
    words = []
    if members.nodes is not None:
        words.append(f"{members.nodes} nodes, node {members.main} is the main one")
    for group in members.groups:
        parts = [part for part in group.parts if not part.holder]
        where = ""
        if members.nodes is not None:
            where = f"node {group.first}: " if group.first == group.last else f"nodes {group.first} to {group.last}: "
        for part in parts:
            name = f"{part.name}: " if part.name else ""
            image = "" if part.spec.container is None else f", image {part.spec.container.image}"
            light = "" if part.essential else ", not essential"
            after = [
                f"{group.parts[each.part].name} ({each.condition.value})"
                for each in part.after
                if not group.parts[each.part].holder
            ]
            waits = f", after {' and '.join(after)}" if after else ""
            words.append(f"{where}{name}{part.spec.resources}{image}{light}{waits}")
    return words


def members_object(spec: JobSpec) -> dict[str, object] | None:
    """As `check --json` and `show --json` have it."""
    from flowbatch.cli.containers import container_object

    members = spec.members
    if members is None:
        return None
    return {
        "nodes": members.nodes,
        "main": members.main if members.nodes is not None else None,
        "groups": [
            {
                "first": group.first,
                "last": group.last,
                "containers": [
                    {
                        "name": part.name or None,
                        "command": list(part.spec.command),
                        "container": container_object(part.spec.container),
                        "vcpus": part.spec.resources.vcpus_milli / 1000,
                        "memory_mib": part.spec.resources.memory_mib,
                        "gpus": part.spec.resources.gpus,
                        "essential": part.essential,
                        "needs": [
                            {"container": group.parts[each.part].name, "when": each.condition.value}
                            for each in part.after
                            if not group.parts[each.part].holder
                        ],
                        "start_timeout_ms": part.start_timeout_ms,
                        "env": dict(part.spec.env),
                        "secrets": [name for name, _ in part.spec.secrets],
                    }
                    for part in group.parts
                    if not part.holder
                ],
            }
            for group in members.groups
        ],
    }


def note_on(spec: JobSpec) -> str | None:
    """Two that must both exit with 0, of which the first to exit stops the other: rarely what was meant."""
    if spec.members is None:
        return None
    for group in spec.members.groups:
        needful = [part.name for part in group.parts if part.essential]
        if len(needful) > 1:
            names = f"{', '.join(needful[:-1])} and {needful[-1]}"
            return (
                f"{spec.key}: {names} are all essential: the first to exit stops the others, and all must exit with 0; "
                "`essential: false` for those that only help."
            )
    return None
