"""`audit`: who called what, as CloudTrail has it, and whether the log is whole (aws-batch.md §12, security.md §8)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import clean, print_json, print_table, time_text
from flowbatch.errors import StoreDamaged

if TYPE_CHECKING:
    from flowbatch.model.access import AuditRow

PAGE: Final = 1000
PRUNED: Final = "flowbatch:PruneAudit"


@click.group(invoke_without_command=True)
@click.option("--last", default=50, show_default=True, type=click.IntRange(1), help="So many records from the end.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, a CloudTrail record each.")
@click.pass_context
def audit(ctx: click.Context, last: int, as_json: bool) -> int:
    """Print the audit log: every call of the server, allowed or denied."""
    if ctx.invoked_subcommand is not None:
        return 0
    place: Place = ctx.obj
    with place.reader() as reader:
        rows = reader.audit(after=max(0, reader.last_audit() - last), limit=last)
    if as_json:
        from flowbatch.http.records import record

        for seq, row, digest in rows:
            click.echo(json.dumps(record(seq, row, digest)))
    elif rows:
        headers = ["AT", "WHO", "WHAT", "ON", "DECISION"]
        print_table(headers, [[clean(cell) for cell in cells(row)] for _, row, _ in rows])
    else:
        click.echo("Nothing was called here yet.")
    return 0


@audit.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def verify(place: Place, as_json: bool) -> int:
    """Check that no record was changed, taken out or put in: each holds the hash of the one before."""
    from flowbatch.store.access import link

    with place.reader() as reader:
        pruned, before = reader.audit_pruned()
        seq, said = pruned, pruned == 0
        while rows := reader.audit(after=seq, limit=PAGE):
            for number, row, digest in rows:
                if number != seq + 1:
                    raise StoreDamaged(f"the audit log lacks record {seq + 1}: after {seq} comes {number}")
                if link(before, number, row) != digest:
                    raise StoreDamaged(
                        f"record {number} of the audit log is not what was written, or one before it was changed"
                    )
                said = said or (row.action == PRUNED and prunes(row) == (pruned, reader.audit_pruned()[1]))
                seq, before = number, digest
    if not said:
        raise StoreDamaged(
            f"the first {pruned} records of the audit log are gone, and none of those that are left says that they were let go"
        )
    if as_json:
        print_json({"records": seq - pruned, "pruned": pruned, "sequence": seq, "hash": before})
        return 0
    gone = f", behind {pruned} that were let go by `retention`" if pruned else ""
    click.echo(f"{seq - pruned} records, whole{gone}. The last one's hash: {before}")
    return 0


def prunes(row: AuditRow) -> tuple[int, str] | None:
    """The last record that this one let go, and its hash."""
    found = json.loads(row.response) if row.response else {}
    return (found["sequence"], found["hash"]) if {"sequence", "hash"} <= found.keys() else None


def cells(row: AuditRow) -> list[str]:
    decision = "allowed" if row.allowed else "DENIED"
    return [time_text(row.at), row.principal.rpartition("/")[2], row.action, row.resource, row.error or decision]
