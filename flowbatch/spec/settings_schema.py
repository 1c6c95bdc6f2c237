"""flowbatch.yaml: what an engine offers and how far it may go. Its environments and queues are those of a workflow file."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from msgspec.structs import replace
from pydantic import Field, PlainValidator

from flowbatch.errors import Problem
from flowbatch.model.events import ChildEvents
from flowbatch.model.jobspec import Environment, Queue
from flowbatch.model.notify import Notify
from flowbatch.model.resources import Resources
from flowbatch.spec.container_values import DevicePath, Driver
from flowbatch.spec.deferred import Lazy
from flowbatch.spec.environment_schema import EnvironmentModel, HostModel
from flowbatch.spec.findings import Findings
from flowbatch.spec.notify_schema import NotifyModel, WebhooksModel
from flowbatch.spec.places import Places, Surroundings, judge_places
from flowbatch.spec.policy import Policy, Root, Rule, plain, root_of
from flowbatch.spec.positions import Positions
from flowbatch.spec.queue_schema import QueueModel
from flowbatch.spec.scalars import shown
from flowbatch.spec.schema import SecretModel
from flowbatch.spec.schema_parts import Strict
from flowbatch.spec.serve_schema import AuditModel, Retention, ServeModel, serve_of
from flowbatch.spec.serving import Serve
from flowbatch.spec.token_schema import Tokens
from flowbatch.spec.values import Name, SizeMib


def _children(value: object) -> int:
    if isinstance(value, bool):
        return ChildEvents.ALL if value else ChildEvents.NONE
    if isinstance(value, str) and value.upper() in ChildEvents.__members__:
        return ChildEvents[value.upper()]
    raise ValueError(f"none, ends or all is needed, found {shown(value)}")


class LimitsModel(Strict):
    """What a single task or request may take."""

    log: SizeMib | None = Field(None, description="Of one attempt's log; the newest is kept. 64 MiB unless given.")
    disk_free: SizeMib | None = Field(
        None,
        description="Free space of Docker's disk below which no container starts. Unless given, 2 GiB or 5 %, whichever is more.",
    )


class EventsModel(Strict):
    """What goes into the event log."""

    children: Annotated[int, PlainValidator(_children, json_schema_input_type=Literal["none", "ends", "all"])] = Field(
        0,
        description="Changes of single array children: none, their ends, or all.",
        json_schema_extra={"default": "none"},
    )


def _root(value: object) -> Root:
    if isinstance(value, str):
        return root_of(value)
    if not isinstance(value, dict) or not {"source"} <= set(value) <= {"source", "readonly"}:
        raise ValueError("a folder that may be mounted is {source: /data, readonly: true}, or /data:ro")
    source, readonly = value["source"], value.get("readonly", False)
    if not isinstance(source, str) or not source.startswith("/") or not isinstance(readonly, bool):
        raise ValueError("`source` is an absolute path, `readonly` is true or false")
    return Root(plain(source), readonly)


class RootModel(Strict):
    """A folder of this machine that may be mounted, with all below it."""

    source: str = Field(description="An absolute path.", pattern="^/")
    readonly: bool = Field(False, description="Only read.")


class AllowModel(Strict):
    """What jobs may ask for beyond the folder of their workflow and volumes of their own."""

    mounts: list[Annotated[Root, PlainValidator(_root, json_schema_input_type=str | Lazy[RootModel])]] | None = Field(
        None, description="Folders of this machine that may be mounted: {source: /data, readonly: true}."
    )
    privileged: bool = Field(False, description="Privileged containers: they are root on this machine.")
    network: Literal["host"] | None = Field(None, description="host: the network of this machine.")
    devices: list[DevicePath] | None = Field(None, description="Devices, or folders of them: /dev/fuse, /dev/dri.")
    logs: list[Driver] | None = Field(None, description="Log drivers that send logs elsewhere: gelf, syslog.")
    images: list[str] | None = Field(
        None, min_length=1, description="The only images, by full name: docker.io/library/*, registry.local/*:v?, *@*."
    )
    processes: bool | None = Field(
        None,
        description="Of a server: jobs without an image, which are processes of the server's own user. true unless given.",
    )

    def allowed(self, *, processes: bool) -> Policy:
        """`processes`: unless it says so itself."""
        return Policy(
            tuple(self.mounts or ()),
            self.privileged,
            () if self.network is None else (self.network,),
            tuple(self.devices or ()),
            tuple(self.logs or ()),
            tuple(self.images or ()),
            processes=processes if self.processes is None else self.processes,
        )


class RuleModel(AllowModel):
    """More for some: what jobs in these queues, of these principals of a server, may ask for beside the rest."""

    queues: list[str] | None = Field(None, min_length=1, description="Names of queues, with * and ?. All unless given.")
    principals: list[str] | None = Field(
        None, min_length=1, description="Names of keys and of folders' principals, with * and ?. All unless given."
    )


class PolicyModel(AllowModel):
    """What jobs may ask for, and what more some of them may."""

    rules: list[Lazy[RuleModel]] | None = Field(None, max_length=64, description="More for some queues and principals.")

    def policy(self) -> Policy:
        rules = tuple(
            Rule(each.allowed(processes=False), tuple(each.queues or ()), tuple(each.principals or ()))
            for each in self.rules or ()
        )
        return replace(self.allowed(processes=True), rules=rules)


class SettingsModel(Strict):
    """The settings of an engine, in flowbatch.yaml beside its state folder."""

    environments: dict[Name, Lazy[EnvironmentModel]] | None = Field(None, description="Compute environments.")
    queues: dict[Name, Lazy[QueueModel]] | None = Field(None, description="Job queues.")
    tokens: Tokens | None = Field(None, description="Consumable resources that all runs share: {licence: 5}.")
    host: Lazy[HostModel] | None = Field(
        None, description="What everything that runs on this machine may hold together."
    )
    limits: Lazy[LimitsModel] | None = Field(None, description="Limits.")
    events: Lazy[EventsModel] | None = Field(None, description="The event log.")
    policy: Lazy[PolicyModel] | None = Field(None, description="What containers may ask for.")
    secrets: dict[Name, Lazy[SecretModel]] | None = Field(None, description="Where secret values come from.")
    notify: list[Lazy[NotifyModel]] | None = Field(None, max_length=64, description="Where events of all runs go.")
    webhooks: Lazy[WebhooksModel] | None = Field(None, description="How far webhooks may go.")
    serve: Lazy[ServeModel] | None = Field(None, description="The server.")
    audit: Lazy[AuditModel] | None = Field(None, description="The record of who called what.")
    allow_workflow_environments: bool = Field(
        False, description="Of a server: files may bring environments and queues of their own."
    )
    allow_paths: list[Annotated[str, Field(pattern="^/")]] | None = Field(
        None, description="Of a server: folders, beside a workflow's own, whose files an array may read (lines, glob)."
    )
    retention: Retention | None = Field(
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
    judge_places(environments, queues, environments or ["default"], findings, of_settings=True)
    made = Places.of(environments, queues, base, ())
    return tuple(made.environments.values()), tuple(made.queues.values()), findings.problems


def served(model: SettingsModel, folder: str, home: str, positions: Positions) -> tuple[Serve, list[Problem]]:
    """`folder`: the settings' own."""
    if model.serve is None:
        return Serve(), []
    findings = Findings(positions)
    return serve_of(model.serve, Surroundings(folder, home), findings), findings.problems


def receivers(
    model: SettingsModel, folder: str, home: str, positions: Positions
) -> tuple[tuple[Notify, ...], list[Problem], list[Problem]]:
    """Where events of all runs go; what is wrong with it, and what is unwise."""
    from flowbatch.spec.drafts import judge_sources
    from flowbatch.spec.notify import NotifyMaker

    findings = Findings(positions)
    judge_sources(model.secrets or {}, findings)
    made = NotifyMaker(model.secrets or {}, Surroundings(folder, home), findings, lasting=True).sinks(
        model.notify or []
    )
    for number, text in enumerate((model.webhooks.allow_networks if model.webhooks is not None else None) or ()):
        try:
            ip_network(text)
        except ValueError as error:
            findings.problem(("webhooks", "allow_networks", number), f"{error}; write 10.0.0.0/8 or 127.0.0.1")
    return made, findings.problems, findings.warnings
