"""flowbatch.yaml: what an engine offers and how far it may go. Its environments and queues are those of a workflow file."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, PlainValidator

from flowbatch.errors import Problem
from flowbatch.model.events import ChildEvents
from flowbatch.model.jobspec import Environment, Queue
from flowbatch.model.resources import Resources
from flowbatch.spec.findings import Findings
from flowbatch.spec.places import Places, judge_places
from flowbatch.spec.positions import Positions
from flowbatch.spec.scalars import shown
from flowbatch.spec.schema import EnvironmentModel, QueueModel
from flowbatch.spec.schema_parts import Strict
from flowbatch.spec.values import Name, SizeMib

DAY_MS: Final = 24 * 3600 * 1000


def _retention(value: object) -> int:
    """`90d`, or a duration; never less than a day, for a record that somebody may still ask for."""
    from flowbatch.spec.quantities import duration_ms

    if isinstance(value, str) and value[:-1].isdigit() and value.endswith("d"):
        kept_ms = int(value[:-1]) * DAY_MS
    else:
        kept_ms = duration_ms(value)
    if kept_ms < DAY_MS:
        raise ValueError("records are kept for at least 24h; leave the key out to keep them for ever")
    return kept_ms


def _children(value: object) -> int:
    if isinstance(value, bool):
        return ChildEvents.ALL if value else ChildEvents.NONE
    if isinstance(value, str) and value.upper() in ChildEvents.__members__:
        return ChildEvents[value.upper()]
    raise ValueError(f"none, ends or all is needed, found {shown(value)}")


class LimitsModel(Strict):
    """What a single task or request may take."""

    log: SizeMib | None = Field(None, description="Of one attempt's log; the newest is kept. 64 MiB unless given.")


class EventsModel(Strict):
    """What goes into the event log."""

    children: Annotated[int, PlainValidator(_children, json_schema_input_type=Literal["none", "ends", "all"])] = Field(
        0, description="Changes of single array children: none, their ends, or all."
    )


class SettingsModel(Strict):
    """The settings of an engine, in flowbatch.yaml beside its state folder."""

    LATER: ClassVar[dict[str, str]] = {
        "notify": "notifications come with a later release",
        "keys": "keys belong to `serve`, which comes with a later release",
    }

    environments: dict[Name, EnvironmentModel] | None = Field(None, description="Compute environments.")
    queues: dict[Name, QueueModel] | None = Field(None, description="Job queues.")
    limits: LimitsModel | None = Field(None, description="Limits.")
    events: EventsModel | None = Field(None, description="The event log.")
    retention: Annotated[int, PlainValidator(_retention, json_schema_input_type=str)] | None = Field(
        None,
        description="How long ended runs are kept, at least 24h (`90d`); for ever unless given. See `flowbatch gc`.",
    )


def places(
    model: SettingsModel, machine: Resources, positions: Positions
) -> tuple[tuple[Environment, ...], tuple[Queue, ...], list[Problem]]:
    """The engine's environments and queues, and what is wrong with them."""
    findings = Findings(positions)
    base = (Environment("default", "local", machine, title="default"),)
    environments, queues = model.environments or {}, model.queues or {}
    judge_places(environments, queues, environments or ["default"], findings)
    made = Places.of(environments, queues, base, ())
    return tuple(made.environments.values()), tuple(made.queues.values()), findings.problems
