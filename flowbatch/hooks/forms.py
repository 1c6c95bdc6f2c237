"""Messages: an event, a digest or a batch in the form that a receiver takes. Pure; a repeat is the same to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from msgspec import Struct
from pydantic_core import to_json

from flowbatch.hooks import escaping
from flowbatch.hooks.detail import BODY_BYTES, VERSION, Details, Json, job_id, more_of, resources, shortened
from flowbatch.hooks.filters import is_failed_attempt
from flowbatch.hooks.moulds import Moulds
from flowbatch.hooks.words import AMBER, GREEN, RED, Tally, Words, subject, where, words_of
from flowbatch.model.event_ids import batch_id, digest_id, event_id
from flowbatch.model.events import EventKind, LoggedEvent, kind_of
from flowbatch.model.ids import Millis
from flowbatch.model.notify import Form

JSON: Final = "application/json"
CLOUDEVENT: Final = "application/cloudevents+json"
CLOUDEVENTS: Final = "application/cloudevents-batch+json"
TEXT: Final = "text/plain; charset=utf-8"
BATCH_BYTES: Final = 256_000
SECTION_CHARS: Final = 3000  # of a block's text in Slack
CARD_BYTES: Final = 8000  # of text: Teams takes 28 KB a message, and counts two bytes a letter where it must
FIRING_MS: Final = 24 * 3600 * 1000  # an alert that nobody resolves is over then
PAGED: Final = ("failed", "succeeded", "dead", "gap", "disabled", "blocked")
DETAIL_TYPES: Final = {
    EventKind.RUN: "Flowbatch Run State Change",
    EventKind.QUEUE: "Batch Job Queue Blocked",
    EventKind.SINK: "Flowbatch Delivery",
}
COLOURS: Final = {GREEN: "Good", RED: "Attention", AMBER: "Warning"}


class Message(Struct, frozen=True):
    """One request. `path` is added to the receiver's URL; `title` is for those who take it apart from the body."""

    id: str
    body: bytes
    content_type: str = JSON
    path: str = ""
    title: str = ""
    kind: str = ""


class Page(NamedTuple):
    """What a pager is told of."""

    identity: str
    kind: str
    at: int
    alias: str  # the incident's own key, which stays
    subject: str
    workflow: str | None
    words: Words


class Forms:
    """Makes the messages of one sink. `key` is a secret that some bodies must hold: PagerDuty's. `final`: what another attempt follows
    is no failure yet."""

    def __init__(self, instance: str, form: Form, *, key: str = "", final: bool = True) -> None:
        self.instance = instance
        self.form = form
        self._key = key
        self._details = Details()
        self._moulds = Moulds(self._encoded, self._spelled)
        self._pages = form.pager
        self._final = final

    def id_of(self, event: LoggedEvent) -> str:
        return event_id(self.instance, event.seq, event.row.at)

    def speaks(self, event: LoggedEvent) -> bool:
        """Whether the form has anything to say to it."""
        if not self._pages or kind_of(event.row).partition(".")[2] in PAGED:
            return True
        return not self._final and is_failed_attempt(event.row)

    def message(self, event: LoggedEvent) -> Message | None:
        """None where the form has nothing to say to such an event: a pager to one that neither fails nor succeeds."""
        identity, kind = self.id_of(event), kind_of(event.row)
        match self.form:
            case Form.EVENTBRIDGE | Form.CLOUDEVENTS:
                kind_of_body = JSON if self.form is Form.EVENTBRIDGE else CLOUDEVENT
                return Message(identity, self.encoded(event), kind_of_body, kind=kind)
            case Form.PAGERDUTY | Form.OPSGENIE | Form.ALERTMANAGER:
                return self._page(identity, kind, event)
            case _:
                return self._spoken(identity, kind, words_of(event))

    def digest(self, sink: str, first: int, last: int, tally: Tally, at: int) -> Message:
        """Of all events of the closed range that the sink wants; `at` is the last one's."""
        identity, kind = digest_id(self.instance, sink, first, last), "digest"
        if self.form in (Form.EVENTBRIDGE, Form.CLOUDEVENTS):
            detail: Json = {"firstSeq": first, "lastSeq": last, **tally.detail()}
            body = self._enveloped(identity, kind, "Flowbatch Digest", [], last, at, detail, tally.words().title)
            return Message(identity, to_json(body), JSON if self.form is Form.EVENTBRIDGE else CLOUDEVENT, kind=kind)
        return self._spoken(identity, kind, tally.words())

    def batch(self, events: Sequence[LoggedEvent], bodies: Sequence[bytes]) -> Message:
        """A JSON array of bodies that `encoded` gave."""
        identity = batch_id(self.instance, [event.seq for event in events])
        kind = CLOUDEVENTS if self.form is Form.CLOUDEVENTS else JSON
        return Message(identity, b"[" + b",".join(bodies) + b"]", kind, kind="batch")

    def tests(self, at: int) -> list[Message]:
        """What `notify test` sends: in its form, and about nothing. A pager's incident is closed again."""
        identity, text = event_id(self.instance, 0, at), "A test of flowbatch: this receiver works"
        if self.form in (Form.EVENTBRIDGE, Form.CLOUDEVENTS):
            detail: Json = {"change": "test", "reason": text}
            body = self._enveloped(identity, "test", "Flowbatch Delivery", [], 0, at, detail, "flowbatch")
            return [
                Message(identity, to_json(body), JSON if self.form is Form.EVENTBRIDGE else CLOUDEVENT, kind="test")
            ]
        words = Words(text, (), GREEN)
        if self.form.pager:
            about = Page(identity, "test", at, f"flowbatch-test-{at}", "flowbatch", None, words)
            return [self._paged(about, resolves=False), self._paged(about, resolves=True)]
        return [self._spoken(identity, "test", words)]

    def lines(self, events: Sequence[LoggedEvent], bodies: Sequence[bytes]) -> Message:
        """For a file of JSON lines."""
        identity = batch_id(self.instance, [event.seq for event in events])
        return Message(identity, b"".join(body + b"\n" for body in bodies), "application/jsonl", kind="batch")

    def encoded(self, event: LoggedEvent) -> bytes:
        """The body of eventbridge and cloudevents, at most BODY_BYTES long."""
        return self._moulds.body(event)

    def _encoded(self, event: LoggedEvent) -> bytes:
        row, detail = event.row, self._details.of(event)
        what = DETAIL_TYPES.get(row.kind, "Batch Job State Change")

        def body(detail: Json) -> bytes:
            return to_json(
                self._enveloped(
                    self.id_of(event), kind_of(row), what, resources(event), event.seq, row.at, detail, subject(event)
                )
            )

        made = body(detail)
        return made if len(made) <= BODY_BYTES else body(shortened(detail, len(made)))

    def _spelled(self, seq: int, at: Millis) -> tuple[object, ...]:
        """An event's id, time and number as its body has them."""
        cloud = self.form is Form.CLOUDEVENTS
        return event_id(self.instance, seq, at), moment(at, milliseconds=cloud), f"{seq:020d}" if cloud else seq

    def _enveloped(
        self, identity: str, kind: str, what: str, arns: list[str], seq: int, at: int, detail: Json, about: str
    ) -> Json:
        if self.form is Form.CLOUDEVENTS:
            return {
                "specversion": "1.0", "id": identity, "source": f"/flowbatch/{self.instance}",
                "type": f"flowbatch.{kind}", "subject": about, "time": moment(at, milliseconds=True),
                "datacontenttype": JSON, "sequence": f"{seq:020d}", "data": detail,
            }  # fmt: skip
        return {
            "version": "0", "id": identity, "detail-type": what,
            "source": "aws.batch" if what.startswith("Batch ") else "flowbatch",
            "account": "000000000000", "time": moment(at), "region": "us-east-1", "resources": arns, "detail": detail,
            "flowbatch": {"version": VERSION, "seq": seq, "at": at, "kind": kind, "subject": about},
        }  # fmt: skip

    # --- people

    def _spoken(self, identity: str, kind: str, words: Words) -> Message:
        body: object
        match self.form:
            case Form.SLACK:
                body = slack(words)
            case Form.DISCORD:
                body = discord(words)
            case Form.TEAMS:
                body = teams(words)
            case _:
                text = escaping.inert("\n".join((words.title, *words.lines)))
                return Message(identity, text.encode(), TEXT, title=escaping.inert(words.title), kind=kind)
        return Message(identity, to_json(body), title=words.title, kind=kind)

    # --- pagers

    def _page(self, identity: str, kind: str, event: LoggedEvent) -> Message | None:
        """Opened by a failure and closed by a success of the same job or run, by a key of its own that stays."""
        if not self.speaks(event):
            return None
        workflow = None if event.run is None else event.run.workflow
        about = Page(identity, kind, event.row.at, alias_of(event), subject(event), workflow, words_of(event))
        return self._paged(about, resolves=kind.endswith(".succeeded"))

    def _paged(self, about: Page, *, resolves: bool) -> Message:
        identity, kind, at, alias, of, workflow, words = about
        match self.form:
            case Form.PAGERDUTY:
                page: Json = {
                    "routing_key": self._key, "event_action": "resolve" if resolves else "trigger", "dedup_key": alias,
                    "payload": {
                        "summary": escaping.plain(words.title, 1024), "source": f"flowbatch/{self.instance}",
                        "severity": "error", "timestamp": moment(at, milliseconds=True),
                        "component": of, "class": kind,
                        "custom_details": {"details": list(words.lines), "event": identity},
                    },
                    "client": "flowbatch",
                }  # fmt: skip
                return Message(identity, to_json(page), kind=kind)
            case Form.OPSGENIE if resolves:
                close = {"source": "flowbatch", "note": words.title}
                return Message(
                    identity, to_json(close), path=f"/{quote(alias, safe='')}/close?identifierType=alias", kind=kind
                )
            case Form.OPSGENIE:
                alert: Json = {
                    "message": escaping.plain(words.title, 130), "alias": alias, "description": "\n".join(words.lines),
                    "source": "flowbatch", "entity": of, "tags": ["flowbatch", kind],
                    "details": {"event": identity},
                }  # fmt: skip
                return Message(identity, to_json(alert), kind=kind)
            case _:
                ends = at + (0 if resolves else FIRING_MS)
                labels = {
                    "alertname": "FlowbatchFailed",
                    "instance": self.instance,
                    "subject": of,
                    "key": alias,
                }
                if workflow is not None:
                    labels["workflow"] = workflow
                one = {
                    "labels": labels,
                    "annotations": {"summary": words.title, "description": "\n".join(words.lines), "event": identity},
                    "startsAt": moment(at, milliseconds=True),
                    "endsAt": moment(ends, milliseconds=True),
                }
                if resolves:
                    del one["startsAt"]  # it began when it began
                return Message(identity, to_json([one]), kind=kind)


def alias_of(event: LoggedEvent) -> str:
    """What blocks a queue is the job: its success closes that too. A receiver's troubles are its own, whoever's events it lacks."""
    if event.row.kind is EventKind.SINK:
        return f"flowbatch-deliveries-{more_of(event.row).get('sink', '?')}"
    if event.job is not None:
        return job_id(event.job, event.row)
    return f"flowbatch-run-{event.run.id}" if event.run is not None else f"flowbatch-event-{event.seq}"


def moment(at: int, *, milliseconds: bool = False) -> str:
    second = second_text(at // 1000)
    return f"{second}.{at % 1000:03d}Z" if milliseconds else f"{second}Z"


@lru_cache(64)  # thousands of events have a second in common
def second_text(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")


def slack(words: Words) -> Json:
    """Blocks of plain_text know no markup, mention or link; `text` is what a notification shows."""
    lines = "\n".join(words.lines)
    blocks: list[Json] = [plain_section(words.title)]
    attachment: Json = {"color": f"#{words.colour:06x}", "blocks": [plain_section(lines)]} if lines else {}
    made: Json = {"text": escaping.slack(words.title), "blocks": blocks, "unfurl_links": False, "unfurl_media": False}
    return made | ({"attachments": [attachment]} if lines else {})


def plain_section(text: str) -> Json:
    return {
        "type": "section",
        "text": {"type": "plain_text", "text": escaping.inert(text)[:SECTION_CHARS], "emoji": False},
    }


def discord(words: Words) -> Json:
    return {
        "allowed_mentions": {"parse": []},
        "embeds": [
            {
                "title": escaping.discord(words.title)[:256],
                "description": escaping.discord("\n".join(words.lines))[:4000],
                "color": words.colour,
            }
        ],
    }


def teams(words: Words) -> Json:
    """An adaptive card of TextRuns, in which Markdown means nothing."""

    def run(text: str, **more: Any) -> Json:
        inline = {"type": "TextRun", "text": escaping.inert(text), **more}
        return {"type": "RichTextBlock", "inlines": [inline]}

    title = run(words.title, weight="Bolder", color=COLOURS.get(words.colour, "Default"))
    lines, room = [], CARD_BYTES - len(words.title.encode())
    for line in words.lines:
        room -= len(line.encode())
        if room < 0:
            lines.append("…")
            break
        lines.append(line)
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "body": [title, *(run(line) for line in lines)],
    }  # fmt: skip
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


__all__ = ["Forms", "Message", "Tally", "where"]
