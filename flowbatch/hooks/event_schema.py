"""The JSON Schema of the bodies that programs get (`eventbridge`, `cloudevents`), from the same tables that make them."""

from __future__ import annotations

from typing import Final

from flowbatch.hooks.detail import VERSION
from flowbatch.hooks.forms import DETAIL_TYPES
from flowbatch.model.event_ids import LENGTH, LETTERS, PREFIX
from flowbatch.model.events import EVERY_KIND, SINK_WORDS
from flowbatch.model.status import RunStatus, Status

Json = dict[str, object]

MILLIS: Final[Json] = {"type": "integer", "description": "Milliseconds since the epoch."}
TEXT: Final[Json] = {"type": "string"}
COUNTS: Final[Json] = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}
ID: Final[Json] = {
    "type": "string",
    "pattern": f"^({PREFIX}|dig_)[{LETTERS}]{{{LENGTH}}}$",
    "description": "The same for every try and every receiver: what has been seen under it may be dropped.",
}


def event_schema() -> Json:
    """Properties that are not named here may appear at any time, as AWS has it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flowbatch event",
        "description": f"Version {VERSION}. A webhook's body, or one element of it where `batch` is above 1.",
        "anyOf": [{"$ref": "#/$defs/EventBridge"}, {"$ref": "#/$defs/CloudEvent"}],
        "$defs": {
            "EventBridge": eventbridge(),
            "CloudEvent": cloudevent(),
            "Detail": {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in ("Job", "Run", "Delivery", "Digest")]},
            "Job": job(),
            "Run": run(),
            "Delivery": delivery(),
            "Digest": digest(),
        },
    }


def kinds(prefix: str = "") -> Json:
    return {"enum": [prefix + kind for kind in (*EVERY_KIND, "digest", "test")]}


def closed(required: dict[str, object], optional: dict[str, object] | None = None, **more: object) -> Json:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required), **more}


def eventbridge() -> Json:
    own = closed(
        {"version": {"const": VERSION}, "seq": {"type": "integer"}, "at": MILLIS, "kind": kinds(), "subject": TEXT}
    )
    types = [*dict.fromkeys(["Batch Job State Change", *DETAIL_TYPES.values(), "Flowbatch Digest"])]
    return closed(
        {
            "version": {"const": "0"}, "id": ID, "detail-type": {"enum": types},
            "source": {"enum": ["aws.batch", "flowbatch"]}, "account": TEXT, "region": TEXT,
            "time": {"type": "string", "format": "date-time", "description": "To the second, as AWS has it."},
            "resources": {"type": "array", "items": TEXT}, "detail": {"$ref": "#/$defs/Detail"}, "flowbatch": own,
        },
        description="aws-batch: the envelope of Amazon EventBridge.",
    )  # fmt: skip


def cloudevent() -> Json:
    return closed(
        {
            "specversion": {"const": "1.0"}, "id": ID, "source": TEXT, "type": kinds("flowbatch."), "subject": TEXT,
            "time": {"type": "string", "format": "date-time"}, "datacontenttype": {"const": "application/json"},
            "sequence": {"type": "string", "pattern": "^[0-9]{20}$"}, "data": {"$ref": "#/$defs/Detail"},
        },
        description="CloudEvents 1.0, structured.",
    )  # fmt: skip


def job() -> Json:
    reason = {"type": "string", "maxLength": 1024}
    attempt = closed({"container": {"type": "object"}, "stoppedAt": MILLIS}, {"statusReason": reason})
    array = closed({"size": {"type": "integer"}}, {"index": {"type": "integer"}, "statusSummary": COUNTS})
    return closed(
        {"jobId": TEXT, "jobArn": TEXT, "jobName": TEXT, "jobQueue": TEXT, "createdAt": MILLIS,
         "status": {"enum": [status.name for status in Status]},
         "attempts": {"type": "array", "items": attempt, "maxItems": 1,
                      "description": "The attempt whose end this event tells of, and no other."},
         "container": {"type": "object", "properties": {"exitCode": {"type": "integer"}, "reason": reason}}},
        {"statusReason": reason, "startedAt": MILLIS, "stoppedAt": MILLIS, "attempt": {"type": "integer"},
         "arrayProperties": array, "tags": {"type": "object", "additionalProperties": TEXT},
         "truncated": {"const": True}},
        description="AWS Batch's Job State Change.",
    )  # fmt: skip


def run() -> Json:
    return closed(
        {"status": {"enum": [status.name for status in RunStatus]}},
        {
            "runId": TEXT,
            "workflow": TEXT,
            "createdAt": MILLIS,
            "stoppedAt": MILLIS,
            "statusReason": TEXT,
            "jobs": COUNTS,
        },
        **{"not": {"required": ["jobId"]}},
    )


def delivery() -> Json:
    return closed({"change": {"enum": [*SINK_WORDS, "test"]}, "reason": {"type": ["string", "null"]}}, {"sink": TEXT})


def digest() -> Json:
    count = closed({"subject": TEXT, "kind": kinds(), "count": {"type": "integer"}})
    failure = closed(
        {
            "subject": TEXT,
            "exitCode": {"type": ["integer", "null"]},
            "reason": TEXT,
            "count": {"type": "integer"},
            "example": TEXT,
        }
    )
    number: Json = {"type": "integer"}
    return closed(
        {"firstSeq": number, "lastSeq": number, "events": number, "counts": {"type": "array", "items": count},
         "failures": {"type": "array", "items": failure}, "otherFailures": number}
    )  # fmt: skip
