"""Bodies: the same to the byte whenever they are made, within their limits, and nothing in them but text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbatch.hooks.detail import BODY_BYTES
from flowbatch.hooks.event_schema import event_schema
from flowbatch.hooks.forms import FIRING_MS, Forms
from flowbatch.hooks.words import AMBER, GREEN, GROUPS_MAX, RED, Tally
from flowbatch.model.event_ids import batch_id, digest_id, event_id, seq_of
from flowbatch.model.events import EventKind, LoggedEvent, SinkChange
from flowbatch.model.notify import Form
from flowbatch.model.secret import SecretSource
from flowbatch.model.status import RunStatus, Status
from tests.hooks import told

ROOT = Path(__file__).parents[2]
INSTANCE = "0123456789abcdef"
EVENTS = [
    told.run(), told.run(RunStatus.RUNNING), told.run(RunStatus.SUCCEEDED), told.job(), told.job(Status.RUNNING), told.child(),
    told.job(Status.RUNNABLE, attempt=1, exit_code=1, status_reason="x"), told.dead(),
]  # fmt: skip
VALIDATOR = jsonschema.Draft202012Validator(event_schema())


def body(form: Form, event: LoggedEvent, key: str = "") -> Any:
    message = Forms(INSTANCE, form, key=key).message(event)
    assert message is not None
    return json.loads(message.body)


def test_the_schema_is_not_stale() -> None:
    """Write it again with `flowbatch schema event > schemas/event.schema.json`."""
    written = (ROOT / "schemas" / "event.schema.json").read_text(encoding="utf-8")
    assert written == json.dumps(event_schema(), indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("form", [Form.EVENTBRIDGE, Form.CLOUDEVENTS])
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_bodies_satisfy_the_schema(form: Form, event: LoggedEvent) -> None:
    VALIDATOR.validate(body(form, event))


def test_the_schema_can_fail() -> None:
    made = body(Form.EVENTBRIDGE, told.job())
    for wrong in (
        {**made, "id": "1"},
        {**made, "detail": {**made["detail"], "status": "DONE"}},
        {**made, "flowbatch": {}},
    ):
        assert not VALIDATOR.is_valid(wrong)


def test_a_job_in_the_shape_of_eventbridge() -> None:
    made = body(Form.EVENTBRIDGE, told.job(detail='{"started_at": 1700000001000}'))
    assert made["id"] == event_id(INSTANCE, 1, told.T0 + 5000)
    assert (made["detail-type"], made["source"], made["time"]) == (
        "Batch Job State Change", "aws.batch", "2023-11-14T22:13:25Z",
    )  # fmt: skip
    assert made["resources"] == [f"arn:aws:batch:us-east-1:000000000000:job/{told.JOB}"]
    detail = made["detail"]
    assert detail["attempts"] == [
        {
            "container": {"exitCode": 3},
            "stoppedAt": told.T0 + 5000,
            "statusReason": "Essential container in task exited",
        }
    ]
    assert (detail["startedAt"], detail["stoppedAt"], detail["createdAt"]) == (told.T0 + 1000, told.T0 + 5000, told.T0)
    assert detail["container"]["resourceRequirements"] == [
        {"value": "2", "type": "VCPU"}, {"value": "512", "type": "MEMORY"},
    ]  # fmt: skip
    assert detail["jobDefinition"].endswith(":job-definition/film--render:3")
    assert detail["tags"] == {"resourceArn": made["resources"][0]}
    assert made["flowbatch"] == {
        "version": 1, "seq": 1, "at": told.T0 + 5000, "kind": "job.failed", "subject": "film-render/render",
    }  # fmt: skip


def test_a_child_and_its_parent() -> None:
    child = body(Form.EVENTBRIDGE, told.child())["detail"]
    assert (child["jobId"], child["arrayProperties"]) == (f"{told.JOB}:17", {"size": 0, "index": 17})
    counts = '{"children": {"SUCCEEDED": 988, "FAILED": 12}}'
    parent = told.job(of=told.spec(size=1000), detail=counts, attempt=None, exit_code=None)
    assert body(Form.EVENTBRIDGE, parent)["detail"]["arrayProperties"] == {
        "size": 1000, "statusSummary": {"SUCCEEDED": 988, "FAILED": 12},
    }  # fmt: skip
    assert "children: 988 succeeded, 12 failed" in Forms(INSTANCE, Form.TEXT).message(parent).body.decode()  # type: ignore[union-attr]


def test_secrets_are_names_alone() -> None:
    hidden = told.spec(secrets=(("TOKEN", SecretSource(env="CANARY")),))
    for form in Form:
        message = Forms(INSTANCE, form, key="k").message(told.job(of=hidden))
        assert message is not None
        assert b"CANARY" not in message.body


@given(
    st.lists(st.tuples(st.text(max_size=30), st.text(max_size=4000)), max_size=20), st.lists(st.text(max_size=9000), max_size=5),
    st.text(max_size=5000),
)  # fmt: skip
def test_no_body_is_longer_than_its_limit(env: list[tuple[str, str]], command: list[str], reason: str) -> None:
    event = told.job(of=told.spec(env=tuple(env), command=tuple(command)), reason=reason, status_reason=reason)
    for form in Form:
        message = Forms(INSTANCE, form).message(event)
        assert message is not None
        assert len(message.body) <= BODY_BYTES, form
        again = Forms(INSTANCE, form).message(event)
        assert again == message


def test_what_was_cut_says_so() -> None:
    made = body(Form.EVENTBRIDGE, told.job(of=told.spec(env=(("A", "x" * 30_000),))))
    assert made["detail"]["truncated"] is True
    assert made["detail"]["container"]["environment"] == []
    assert made["detail"]["container"]["command"] == ["true"]


# --- ids


@given(st.integers(1, 2**47), st.integers(0, 2**47))
def test_an_id_holds_its_number(seq: int, at: int) -> None:
    made = event_id(INSTANCE, seq, at)
    assert seq_of(INSTANCE, made) == seq
    assert (len(made), made[:4]) == (30, "evt_")
    assert "." not in made


def test_ids_are_in_the_order_of_time() -> None:
    assert sorted(event_id(INSTANCE, 100 - at, at) for at in range(100)) == [
        event_id(INSTANCE, 100 - at, at) for at in range(100)
    ]


@pytest.mark.parametrize("text", ["evt_1", "1", "evt_" + "U" * 26, event_id("other", 1, 2)])
def test_what_is_no_id_here(text: str) -> None:
    with pytest.raises(ValueError, match=r"no event's id|another state folder"):
        seq_of(INSTANCE, text)


def test_ids_of_many() -> None:
    assert batch_id(INSTANCE, [1, 2]) == batch_id(INSTANCE, [1, 2])
    assert (
        len(
            {batch_id(INSTANCE, [1, 2]), batch_id(INSTANCE, [2, 1]), batch_id(INSTANCE, [1]), batch_id("other", [1, 2])}
        )
        == 4
    )
    assert digest_id(INSTANCE, "s", 1, 2) != digest_id(INSTANCE, "s", 1, 3)


# --- people

NASTY = (
    "<!channel> @everyone <https://evil.example|click> *b* `c` [x](https://evil.example) \u202e\x1b[2J www.evil.example"
)


@pytest.mark.parametrize("form", [Form.SLACK, Form.DISCORD, Form.TEAMS, Form.TEXT])
def test_reasons_are_text_alone(form: Form) -> None:
    message = Forms(INSTANCE, form).message(told.job(reason=NASTY))
    assert message is not None
    text = message.body.decode() if form is Form.TEXT else json.dumps(json.loads(message.body), ensure_ascii=False)
    text = text.replace("http://adaptivecards.io", "")
    for live in ("@everyone", "https://", "http://", "www.evil", "\u202e", "\x1b"):
        assert live not in text, live
    assert "evil" in text  # it is told, and does nothing


def test_slack_is_plain_text() -> None:
    made = body(Form.SLACK, told.job(reason=NASTY))
    sections = [made["blocks"][0], *made["attachments"][0]["blocks"]]
    assert {section["text"]["type"] for section in sections} == {"plain_text"}
    assert made["text"] == "film-render/render FAILED"
    assert made["attachments"][0]["color"] == "#e01e5a"


def test_discord_mentions_nobody() -> None:
    made = body(Form.DISCORD, told.job(reason=NASTY))
    assert made["allowed_mentions"] == {"parse": []}
    assert r"\*b\*" in made["embeds"][0]["description"]


def test_text_says_what_happened_and_where_to_look() -> None:
    message = Forms(INSTANCE, Form.TEXT).message(told.job(detail='{"started_at": 1700000001000}'))
    assert message is not None
    assert message.body.decode().splitlines() == [
        "film-render/render FAILED", "after 4.0 s", "exit 3: Essential container in task exited",
        "flowbatch show 1a2b3c4d/render",
    ]  # fmt: skip
    assert message.title == "film-render/render FAILED"


# --- pagers


def test_a_pager_is_opened_and_closed_by_one_key() -> None:
    opened, closed = (body(Form.PAGERDUTY, told.job(status), "routing") for status in (Status.FAILED, Status.SUCCEEDED))
    assert (opened["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == closed["dedup_key"] == told.JOB
    assert opened["routing_key"] == "routing"
    assert opened["payload"]["summary"] == "film-render/render FAILED"


def test_opsgenie_closes_by_its_alias() -> None:
    forms = Forms(INSTANCE, Form.OPSGENIE)
    opened, closed = forms.message(told.child()), forms.message(told.child(status=Status.SUCCEEDED))
    assert opened is not None
    assert closed is not None
    assert json.loads(opened.body)["alias"] == f"{told.JOB}:17"
    assert (opened.path, closed.path) == ("", f"/{told.JOB}%3A17/close?identifierType=alias")


def test_alertmanager_resolves_the_same_labels() -> None:
    [firing], [resolved] = (
        body(Form.ALERTMANAGER, told.run(status)) for status in (RunStatus.FAILED, RunStatus.SUCCEEDED)
    )
    assert firing["labels"] == resolved["labels"]
    assert (firing["startsAt"], resolved["endsAt"]) == ("2023-11-14T22:13:25.000Z", "2023-11-14T22:13:25.000Z")
    assert firing["endsAt"] > firing["startsAt"]
    assert FIRING_MS > 0


@pytest.mark.parametrize("form", [Form.PAGERDUTY, Form.OPSGENIE, Form.ALERTMANAGER])
def test_a_pager_has_nothing_to_say_to_a_start(form: Form) -> None:
    assert Forms(INSTANCE, form).message(told.job(Status.RUNNING)) is None


def test_who_asked_for_failed_attempts_is_paged_for_them() -> None:
    attempt = told.job(Status.RUNNABLE, attempt=1, exit_code=3, status_reason="Essential container in task exited")
    assert Forms(INSTANCE, Form.PAGERDUTY).message(attempt) is None
    message = Forms(INSTANCE, Form.PAGERDUTY, final=False).message(attempt)
    assert message is not None
    page = json.loads(message.body)
    assert (page["event_action"], page["dedup_key"]) == ("trigger", told.JOB)
    assert page["payload"]["summary"] == "film-render/render: attempt 1 FAILED, another one follows"


def test_what_blocks_a_queue_is_closed_by_its_job() -> None:
    blocked = told.event(EventKind.QUEUE, Status.RUNNABLE, job=told.spec(), status_reason="MISCONFIGURATION")
    opened, closed = (body(Form.PAGERDUTY, event, "k") for event in (blocked, told.job(Status.SUCCEEDED)))
    assert opened["dedup_key"] == closed["dedup_key"]


def test_what_ails_a_receiver_is_no_matter_of_its_run() -> None:
    lost = told.event(EventKind.SINK, SinkChange.GAP, detail='{"sink": "1a/slack", "first": 4, "last": 9}')
    for event, sink in ((told.dead(), "slack"), (lost, "1a/slack")):
        page = body(Form.PAGERDUTY, event, "k")
        assert (page["event_action"], page["dedup_key"]) == ("trigger", f"flowbatch-deliveries-{sink}")


@pytest.mark.parametrize("form", [Form.PAGERDUTY, Form.OPSGENIE, Form.ALERTMANAGER])
def test_a_test_of_a_pager_opens_and_closes(form: Form) -> None:
    opened, closed = Forms(INSTANCE, form, key="k").tests(told.T0)
    assert b"A test of flowbatch" in opened.body
    if form is Form.PAGERDUTY:
        assert [json.loads(each.body)["event_action"] for each in (opened, closed)] == ["trigger", "resolve"]
    elif form is Form.OPSGENIE:
        assert (opened.path, closed.path) == ("", f"/flowbatch-test-{told.T0}/close?identifierType=alias")
    else:
        assert json.loads(opened.body)[0]["labels"] == json.loads(closed.body)[0]["labels"]


# --- many at once


RETRIED: Final = told.job(Status.RUNNABLE, attempt=1, exit_code=3, status_reason="Essential container in task exited")


def tally_of(*events: LoggedEvent) -> Tally:
    tally = Tally()
    for event in events:
        tally.add(event)
    return tally


def test_a_digest_counts_and_groups() -> None:
    events = [
        told.child(index, seq=index + 1, reason="OutOfMemoryError: x" if index % 4 == 0 else None)
        for index in range(412)
    ]
    events.append(told.run(seq=500))
    message = Forms(INSTANCE, Form.TEXT).digest("s", 1, 500, tally_of(*events), told.T0)
    assert message.body.decode().splitlines() == [
        "film-render: 413 events, 413 failures", "film-render/render (children): 412 failed", "film-render: 1 failed",
        "309 × film-render/render failed: exit 3, Essential container in task exited (e.g. render:1)",
        "103 × film-render/render failed: exit 3, OutOfMemoryError: x (e.g. render:0)", "flowbatch show 1a2b3c4d",
    ]  # fmt: skip
    some = tally_of(told.job(Status.RUNNING), told.job(Status.SUCCEEDED), RETRIED, told.job())
    assert [line.rpartition(" ")[2] for line in some.words().lines[:4]] == ["failed", "retried", "succeeded", "running"]
    made = json.loads(Forms(INSTANCE, Form.EVENTBRIDGE).digest("s", 1, 500, tally_of(*events), told.T0).body)
    VALIDATOR.validate(made)
    assert made["detail"]["failures"][0]["count"] == 103
    for form in (Form.SLACK, Form.DISCORD, Form.TEAMS):
        assert len(Forms(INSTANCE, form).digest("s", 1, 500, tally_of(*events), told.T0).body) < BODY_BYTES


@pytest.mark.parametrize(
    ("events", "colour"),
    [
        ([told.job(Status.RUNNING), told.job(Status.SUCCEEDED)], GREEN),
        ([told.job(Status.SUCCEEDED), RETRIED], AMBER),
        ([RETRIED, told.job()], RED),
    ],
)
def test_a_digest_has_the_colour_of_the_worst(events: list[LoggedEvent], colour: int) -> None:
    assert tally_of(*events).words().colour == colour


def test_a_digest_does_not_grow_with_what_is_in_it() -> None:
    tally = tally_of(*(told.child(index, reason=f"reason {index}") for index in range(10_000)))
    assert len(tally.failures) == GROUPS_MAX
    assert tally.others == 10_000 - GROUPS_MAX
    assert "… and 9,990 more failures" in tally.words().lines


def test_a_batch_is_an_array_of_bodies() -> None:
    forms = Forms(INSTANCE, Form.CLOUDEVENTS)
    events = [told.child(index, seq=index + 1) for index in range(3)]
    message = forms.batch(events, [forms.encoded(event) for event in events])
    assert message.content_type == "application/cloudevents-batch+json"
    assert [each["id"] for each in json.loads(message.body)] == [forms.id_of(event) for event in events]
    assert message.id.startswith("bat_")
