"""What receivers document that they take (fields, limits), held against the longest and strangest that there is to say."""

from __future__ import annotations

import json
from typing import Any, Final

import jsonschema
import pytest

from flowbatch.hooks.forms import CLOUDEVENTS, Forms, Message
from flowbatch.hooks.words import Tally
from flowbatch.model.events import EventKind, LoggedEvent
from flowbatch.model.notify import Form
from flowbatch.model.status import RunStatus, Status
from tests.hooks import told

Json = dict[str, Any]
LONG: Final = ("@channel <!here> https://a.example/ *b* _c_ `d` [e](f) ž漢😀 " * 200)[:9000]
KEY: Final = "0" * 32  # PagerDuty's have that length


def text(most: int, least: int = 1) -> Json:
    return {"type": "string", "minLength": least, "maxLength": most}


def exactly(required: Json, optional: Json | None = None) -> Json:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


TIME: Final[Json] = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$"}
BLOCK: Final = exactly(
    {"type": {"const": "section"},
     "text": exactly({"type": {"const": "plain_text"}, "text": text(3000), "emoji": {"type": "boolean"}})}
)  # fmt: skip
BLOCKS: Final[Json] = {"type": "array", "items": BLOCK, "minItems": 1, "maxItems": 50}
RUN: Final = exactly(
    {"type": {"const": "TextRun"}, "text": text(30_000)},
    {"weight": {"enum": ["Lighter", "Default", "Bolder"]},
     "color": {"enum": ["Default", "Dark", "Light", "Accent", "Good", "Warning", "Attention"]}},
)  # fmt: skip
CARD: Final = exactly(
    {"$schema": {"type": "string"}, "type": {"const": "AdaptiveCard"}, "version": {"const": "1.4"},
     "body": {"type": "array", "items": exactly(
         {"type": {"const": "RichTextBlock"}, "inlines": {"type": "array", "items": RUN, "minItems": 1}})}}
)  # fmt: skip
SCHEMAS: Final[dict[Form, Json]] = {
    Form.SLACK: exactly(
        {"text": text(40_000), "blocks": BLOCKS, "unfurl_links": {"const": False}, "unfurl_media": {"const": False}},
        {"attachments": {"type": "array", "maxItems": 20, "items": exactly(
            {"color": {"type": "string", "pattern": "^#[0-9a-f]{6}$"}, "blocks": BLOCKS})}},
    ),
    Form.DISCORD: exactly(
        {"allowed_mentions": {"const": {"parse": []}},
         "embeds": {"type": "array", "minItems": 1, "maxItems": 10, "items": exactly(
             {"title": text(256), "description": text(4096, 0), "color": {"type": "integer", "maximum": 0xFFFFFF}})}},
    ),
    Form.TEAMS: exactly(
        {"type": {"const": "message"}, "attachments": {"type": "array", "minItems": 1, "maxItems": 1, "items": exactly(
            {"contentType": {"const": "application/vnd.microsoft.card.adaptive"}, "content": CARD})}},
    ),
    Form.PAGERDUTY: exactly(
        {"routing_key": text(32, 32), "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
         "dedup_key": text(255),
         "payload": exactly(
             {"summary": text(1024), "source": text(1024), "severity": {"enum": ["critical", "error", "warning", "info"]}},
             {"timestamp": TIME, "component": text(1024), "group": text(1024), "class": text(1024),
              "custom_details": {"type": "object"}})},
        {"client": text(100), "client_url": text(2000), "links": {"type": "array"}, "images": {"type": "array"}},
    ),
    Form.ALERTMANAGER: {"type": "array", "minItems": 1, "items": exactly(
        {"labels": {"type": "object", "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}, "required": ["alertname"],
                    "additionalProperties": {"type": "string", "minLength": 1}}},
        {"annotations": {"type": "object", "additionalProperties": {"type": "string"}}, "startsAt": TIME, "endsAt": TIME,
         "generatorURL": {"type": "string"}})},
    Form.CLOUDEVENTS: {
        "type": "object",
        "required": ["specversion", "id", "source", "type"],
        "properties": {"specversion": {"const": "1.0"}, "id": text(200), "source": text(200), "type": text(200),
                       "subject": text(1000), "time": TIME, "datacontenttype": {"const": "application/json"}},
        "propertyNames": {"pattern": "^[a-z0-9]{1,20}$"},
    },
}  # fmt: skip
OPSGENIE: Final = exactly(
    {"message": text(130), "alias": text(512)},
    {"description": text(15_000, 0), "entity": text(512), "source": text(100), "details": {"type": "object"},
     "tags": {"type": "array", "maxItems": 20, "items": text(50)}, "priority": {"enum": ["P1", "P2", "P3", "P4", "P5"]}},
)  # fmt: skip
CLOSING: Final = exactly({"source": text(100), "note": text(25_000)}, {"user": text(100)})

NAMED: Final = told.spec("k" * 128, size=10_000)
EVENTS: Final = [
    told.run(status_reason=LONG), told.run(RunStatus.SUCCEEDED), told.job(reason=LONG, status_reason=LONG), told.dead(),
    told.job(Status.SUCCEEDED, of=NAMED, detail='{"started_at": 1, "children": {"SUCCEEDED": 10000, "FAILED": 0}}'),
    told.event(EventKind.CHILD, Status.FAILED, job=NAMED, idx=9_999, exit_code=1, status_reason=LONG),
    told.event(EventKind.NODE, Status.FAILED, job=told.spec(), idx=3, attempt=1, exit_code=137, reason="OutOfMemoryError: x"),
    told.event(EventKind.QUEUE, Status.RUNNABLE, job=told.spec(), status_reason=LONG),
]  # fmt: skip


def digest_of(events: list[LoggedEvent]) -> Tally:
    tally = Tally()
    for event in events:
        tally.add(event)
    return tally


def every_message(form: Form) -> list[Message]:
    forms = Forms("0123456789abcdef", form, key=KEY)
    found = [message for event in EVENTS if forms.speaks(event) and (message := forms.message(event)) is not None]
    if not form.pager:
        strange = [
            told.child(index, exit_code=index % 40, status_reason=f"{index % 40} {LONG}") for index in range(400)
        ]
        found.append(forms.digest("chat", 1, 400, digest_of([*strange, *EVENTS]), told.T0))
        for letter in ("@", "😀", "*"):  # which are longer once they are inert, encoded, or escaped
            alike = [told.child(index, exit_code=index, status_reason=letter * 9000) for index in range(100)]
            found.append(forms.digest("chat", 1, 100, digest_of(alike), told.T0))
    return [*found, *forms.tests(told.T0)]


@pytest.mark.parametrize("form", SCHEMAS, ids=str)
def test_what_a_receiver_documents_is_kept_to(form: Form) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[form])
    validator = jsonschema.Draft202012Validator(SCHEMAS[form])
    messages = every_message(form)
    assert len(messages) >= 7
    for message in messages:
        validator.validate(json.loads(message.body))


def test_opsgenie_has_one_body_for_an_alert_and_another_for_its_end() -> None:
    ends = 0
    for message in every_message(Form.OPSGENIE):
        closing = message.path.endswith("/close?identifierType=alias")
        jsonschema.validate(json.loads(message.body), CLOSING if closing else OPSGENIE)
        ends += closing
    assert ends == 3


def test_a_message_to_teams_is_below_its_limit_whatever_it_takes_for_a_letter() -> None:
    for message in every_message(Form.TEAMS):
        assert max(len(message.body), len(message.body.decode()) * 2) <= 28_000


def test_slack_adds_up_all_blocks_of_a_message() -> None:
    for message in every_message(Form.SLACK):
        made = json.loads(message.body)
        blocks = [*made["blocks"], *(block for each in made.get("attachments", ()) for block in each["blocks"])]
        assert sum(len(block["text"]["text"]) for block in blocks) <= 13_000


def test_an_embed_of_discord_is_limited_as_a_whole() -> None:
    for message in every_message(Form.DISCORD):
        [embed] = json.loads(message.body)["embeds"]
        assert len(embed["title"]) + len(embed["description"]) <= 6000


def test_a_batch_of_cloudevents_says_that_it_is_one() -> None:
    forms = Forms("1234", Form.CLOUDEVENTS)
    message = forms.batch(EVENTS, [forms.encoded(event) for event in EVENTS])
    assert message.content_type == CLOUDEVENTS == "application/cloudevents-batch+json"
    validator = jsonschema.Draft202012Validator({"type": "array", "items": SCHEMAS[Form.CLOUDEVENTS]})
    validator.validate(json.loads(message.body))
