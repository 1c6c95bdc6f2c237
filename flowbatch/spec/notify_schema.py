"""`notify:` as pydantic models: where events go, the same in a workflow file and in the settings."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from flowbatch.model.events import EVERY_KIND
from flowbatch.model.globs import matches
from flowbatch.spec.scalars import shown
from flowbatch.spec.schema_parts import Strict
from flowbatch.spec.values import Command, DurationMs, Listed, Name, Text

BATCH_MAX: Final = 1000
RATE_MAX: Final = 1000


class TargetModel(Strict):
    """Exactly one of three."""

    secret: Name | None = Field(None, description="The name of a secret whose value is the URL.")
    jsonl: Annotated[str, Field(min_length=1)] | None = Field(None, description="A file that gets a line per event.")
    exec: Command | None = Field(None, description="A program that gets the event on its standard input.")


def _target(value: object) -> object:
    """A URL, or a mapping."""
    if isinstance(value, str) and "://" not in value:
        raise ValueError(
            f"{shown(value)} is no URL; write https://…, one of apprise's (mailto://…), {{secret: name}}, {{jsonl: file}} or {{exec: [program]}}"
        )
    if not isinstance(value, str | dict):
        raise ValueError(
            f"a URL or {{secret: name}}, {{jsonl: file}}, {{exec: [program]}} is needed, found {shown(value)}"
        )
    return value


def _kind(value: str) -> str:
    if not any(matches(value, kind) for kind in EVERY_KIND):
        from flowbatch.spec.validation import did_you_mean

        raise ValueError(
            f"{value!r} matches no kind of event{did_you_mean(value, EVERY_KIND) or '; there are run.*, job.*, child.*, node.*, queue.blocked, delivery.*'}"
        )
    return value


Target = Annotated[str | TargetModel, BeforeValidator(_target)]
Glob = Annotated[str, Field(min_length=1, max_length=128)]
Kind = Annotated[Glob, AfterValidator(_kind)]


class NotifyModel(Strict):
    """A receiver of events. Each is told at least once, in order per job, or `flowbatch deliveries` says which was not."""

    name: Name | None = Field(
        None, description="What `deliveries` and `redeliver` call it; made from the rest unless given."
    )
    to: Target = Field(
        description="https://…, one of apprise's URLs (mailto://…), {secret: name}, {jsonl: file}, {exec: [program]}."
    )
    as_: (
        Literal[
            "eventbridge", "cloudevents", "slack", "discord", "teams", "pagerduty", "opsgenie", "alertmanager", "text"
        ]
        | None
    ) = Field(None, alias="as", description="The form of a message; eventbridge unless given, text for apprise.")
    events: Listed[Kind] | None = Field(
        None,
        description="Kinds of events, with * and ?: run.failed, job.*, child.failed. All unless given; of children where asked for.",
    )
    workflow: Listed[Glob] | None = Field(None, description="Names of workflows, with * and ?. (Settings.)")
    queue: Listed[Glob] | None = Field(None, description="Names of job queues, with * and ?.")
    tags: dict[str, Text] | None = Field(
        None, max_length=50, description="Tags that the job must have; values with * and ?."
    )
    final: bool = Field(True, description="false: also failures of attempts that another one follows.")
    arrays: Literal["parents", "children", "both"] | None = Field(
        None, description="Of an array: its parent's events, its children's instead, or both. parents unless given."
    )
    digest: DurationMs | None = Field(None, description="One message for all that happens within so long: 2m.")
    batch: int = Field(
        1, ge=1, le=BATCH_MAX, description="At most so many events in a request, as a JSON array of up to 256 KB."
    )
    rate: int | None = Field(
        None, ge=1, le=RATE_MAX, description="At most so many messages a second; 1 for chat unless given."
    )
    sign: Listed[Name] | None = Field(
        None,
        max_length=2,
        description="Secrets that webhooks are signed with (Standard Webhooks); two while one is changed.",
    )
    key: Name | None = Field(
        None, description="A secret: PagerDuty's routing key, Opsgenie's API key, else a bearer token."
    )


class WebhooksModel(Strict):
    """How far webhooks may go, and how long `run` waits for them."""

    allow_networks: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None, description="Networks that are not public and may be reached, on any port: 10.0.0.0/8, 127.0.0.1."
    )
    wait: DurationMs = Field(
        10_000, description="How long `run` waits at its end for its notifications; 10s unless given."
    )


__all__ = ["NotifyModel", "WebhooksModel"]
