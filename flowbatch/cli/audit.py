"""`audit`: who called what, as CloudTrail has it, and whether the log is whole (aws-batch.md §12, security.md §8)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import clean, print_json, print_table, time_text
from flowbatch.errors import StoreDamaged

if TYPE_CHECKING:
    from flowbatch.model.access import AuditRow

PAGE = 1000


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
    from flowbatch.store.access import BEFORE_FIRST, link

    seq, before = 0, BEFORE_FIRST
    with place.reader() as reader:
        while rows := reader.audit(after=seq, limit=PAGE):
            for number, row, digest in rows:
                if number != seq + 1:
                    raise StoreDamaged(f"the audit log lacks record {seq + 1}: after {seq} comes {number}")
                if link(before, number, row) != digest:
                    raise StoreDamaged(
                        f"record {number} of the audit log is not what was written, or one before it was changed"
                    )
                seq, before = number, digest
    if as_json:
        print_json({"records": seq, "hash": before})
    else:
        click.echo(f"{seq} records, whole. The last one's hash: {before}")
    return 0


def cells(row: AuditRow) -> list[str]:
    decision = "allowed" if row.allowed else "DENIED"
    return [time_text(row.at), row.principal.rpartition("/")[2], row.action, row.resource, row.error or decision]


def record(seq: int, row: AuditRow, digest: str) -> dict[str, Any]:
    from datetime import UTC, datetime

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
