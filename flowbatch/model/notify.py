"""Where events go: a sink as its author wrote it, resolved, with no secret's value in it."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple

from msgspec import Struct, field

from flowbatch.model.ids import Millis
from flowbatch.model.secret import SecretSource


class Form(StrEnum):
    """What a message looks like (`as:`)."""

    EVENTBRIDGE = "eventbridge"
    CLOUDEVENTS = "cloudevents"
    SLACK = "slack"
    DISCORD = "discord"
    TEAMS = "teams"
    PAGERDUTY = "pagerduty"
    OPSGENIE = "opsgenie"
    ALERTMANAGER = "alertmanager"
    TEXT = "text"

    @property
    def chat(self) -> bool:
        return self in (Form.SLACK, Form.DISCORD, Form.TEAMS)

    @property
    def pager(self) -> bool:
        return self in (Form.PAGERDUTY, Form.OPSGENIE, Form.ALERTMANAGER)


class Arrays(StrEnum):
    """Whose events of an array are meant: its parent's, or its children's instead, or both."""

    PARENTS = "parents"
    CHILDREN = "children"
    BOTH = "both"


class Filter(Struct, frozen=True):
    """An event must pass all of it; an empty tuple asks nothing."""

    events: tuple[str, ...] = ()  # globs of kinds
    workflows: tuple[str, ...] = ()  # globs
    queues: tuple[str, ...] = ()  # globs
    tags: tuple[tuple[str, str], ...] = ()  # a tag of the job, and a glob of its value
    final: bool = True  # off: also the failures of attempts that another one follows
    arrays: Arrays = Arrays.PARENTS


class Notify(Struct, frozen=True):
    """Exactly one of `url`, `secret`, `jsonl` and `command` is set."""

    name: str
    url: str | None = None  # http(s), or one of apprise's
    secret: SecretSource | None = None  # whose value is such a URL
    jsonl: str | None = None  # absolute path of a file that lines are appended to
    command: tuple[str, ...] | None = None
    workdir: str = ""  # of the command, and of commands that give secrets
    form: Form = Form.EVENTBRIDGE
    sign: tuple[SecretSource, ...] = ()  # at most two: while a secret is changed the old one is still good
    key: SecretSource | None = None  # PagerDuty's routing key, Opsgenie's API key, else a bearer token
    filter: Filter = Filter()
    digest_ms: int | None = None
    batch: int = 1  # events in a request at most
    rate: int | None = None  # messages a second at most
    public: bool = False  # named by somebody whom a server runs files for: what the settings allow beyond public addresses is not theirs

    @property
    def target(self) -> str:
        """For people; shows no secret: of a URL the host alone."""
        if self.jsonl is not None:
            return self.jsonl
        if self.command is not None:
            return f"exec {self.command[0]}"
        if self.url is None:
            return "(a secret)"
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{rest.partition('/')[0].partition('?')[0].rpartition('@')[2]}"


class SinkStatus(IntEnum):
    OPEN = 0
    CLOSED = 1  # its run has ended and all of it was told, or a redelivery is through
    DISABLED = 2  # until somebody enables it


class SinkRow(NamedTuple):
    """A sink as it is made. What becomes of it is a SinkProgress; the store keeps both in one row."""

    key: str  # of a run's own: `<run id>/<name>`; of the settings: its name; of a redelivery: `<key>~<n>`
    run: int | None  # RunRow.no: only events of it; None: of all runs
    notify: Notify
    created_at: Millis
    until: int | None = None  # a redelivery's last event; None: it has no end


class Parked(Struct, frozen=True):
    """A message that was refused while others of its sink pass, or one of the same job that waits behind it."""

    seq: int
    tries: int
    next_at: Millis | None  # None: it waits for the one before it
    error: str
    first: int | None = None  # of a digest, that was given up once and is wanted again: `seq` is its last event


class Dead(Struct, frozen=True):
    """Given up; of a digest `first` and `seq` are its events."""

    seq: int
    tries: int
    at: Millis
    error: str
    first: int | None = None
    silent: bool = False  # it told of a delivery itself: no further event tells of that


class Ack(Struct, frozen=True):
    """A delivery that succeeded: of one event, or of a digest (`seq` is its last)."""

    seq: int
    tries: int
    status: int  # of HTTP; 0 where there is none
    latency_ms: int  # from the request to its answer
    at: Millis


class Trouble(Struct, frozen=True):
    """The receiver has been failing since then."""

    since: Millis
    tries: int
    error: str


class SinkProgress(Struct, frozen=True):
    """What became of a sink's messages since the last time. All of it is one transaction."""

    key: str
    at: Millis
    cursor: int  # all events up to here are settled, or parked
    acks: tuple[Ack, ...] = ()
    park: tuple[Parked, ...] = ()  # new, or tried again
    unpark: tuple[int, ...] = ()  # settled
    dead: tuple[Dead, ...] = ()
    gaps: tuple[tuple[int, int], ...] = ()  # events of these closed ranges were collected undelivered
    failures: int = 0  # tries that failed
    trouble: Trouble | None = None
    digest: tuple[int, int] | None = None  # the closed range of the digest that is on its way; None: none is
    disable: str | None = None  # why it is disabled from now on
    close: bool = False  # nothing will come any more


class SinkCopy(NamedTuple):
    """A cursor of its own over a part of the log, to the same receiver."""

    key: str
    source: str  # whose Notify and run it has
    after: int
    until: int
    created_at: Millis


class SinkWrites(Struct):
    """A turn's changes of sinks, in the order of these fields."""

    opened: list[SinkRow] = field(default_factory=list)  # one that is known gets the new Notify, its cursor stays
    copied: list[SinkCopy] = field(default_factory=list)
    reopened: list[int] = field(default_factory=list)  # RunRow.no: its closed sinks are open again
    enabled: list[str] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)  # its dead are parked, due at once
    progress: list[SinkProgress] = field(default_factory=list)

    def extend(self, later: SinkWrites) -> None:
        self.opened += later.opened
        self.copied += later.copied
        self.reopened += later.reopened
        self.enabled += later.enabled
        self.revived += later.revived
        self.progress += later.progress

    def __bool__(self) -> bool:
        return bool(self.opened or self.copied or self.reopened or self.enabled or self.revived or self.progress)
