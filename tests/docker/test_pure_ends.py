"""What the Engine's answers mean, as a table; no Engine is asked."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from flowbatch.backends.docker.checks import cgroups, numbers
from flowbatch.backends.docker.credentials import HUB, registry_of
from flowbatch.backends.docker.disk import reserve_of
from flowbatch.backends.docker.ends import (
    QUIET,
    VANISHED,
    Boot,
    Look,
    Outage,
    evidence,
    parse_time,
    read_from_log,
)
from flowbatch.backends.docker.names import BOOT
from flowbatch.backends.docker.pulls import is_permanent, split
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import Millis

NOW = 1_000_000_000
HERE = Boot("this-boot", Millis(NOW - 500_000))
AWAY = Outage(NOW - 1_000, NOW + 20_000, NOW + 20_000)
LOST = Evidence(lost=True, detail="the Docker Engine went away while it ended")
REBOOTED = Evidence(lost=True, detail="this machine restarted")


def look(code: int, **changes: Any) -> Look:
    made = Look("id", "name", "exited", code, False, "", Millis(NOW - 60_000), Millis(NOW), {BOOT: "this-boot"})
    return made._replace(**changes)


TABLE: list[tuple[str, Look, list[Outage], bool, Evidence]] = [
    ("exit 0", look(0), [], False, Evidence(0)),
    ("exit 7", look(7), [], False, Evidence(7)),
    ("D04: the shell finds nothing", look(127), [], False, Evidence(127)),
    ("D13: out of memory", look(137, oom=True), [], False, Evidence(137, oom=True)),
    ("D13: killed by somebody", look(137), [], False, Evidence(137)),
    ("D13: killed by us", look(137), [AWAY], True, Evidence(137, detail=QUIET)),
    ("D36: killed by its removal", look(137, status="removing"), [], False, VANISHED),
    ("D36: which did not come to its end", look(137, status="dead"), [], False, VANISHED),
    ("removed after it had ended by itself", look(7, status="removing"), [], False, Evidence(7)),
    ("killed by us, and removed by somebody", look(137, status="removing"), [], True, Evidence(137)),
    ("out of memory, and removed", look(137, status="removing", oom=True), [], False, Evidence(137, oom=True)),
    ("D14: a child's, and all is well", look(0, oom=True), [], False, replace(Evidence(0), detail="")),
    ("D16: the daemon stopped it", look(137), [AWAY], False, LOST),
    ("D16: and it took the TERM for its end", look(143), [AWAY], False, LOST),
    ("D17: ended meanwhile, with a code of its own", look(7), [AWAY], False, Evidence(7, detail=QUIET)),
    ("D17: and well", look(0), [AWAY], False, Evidence(0, detail=QUIET)),
    ("ended just before the daemon went", look(7, finished_at=Millis(AWAY.since - 1)), [AWAY], False, Evidence(7)),
    ("D22: perhaps it only stands still", look(7), [AWAY._replace(over=False)], False, Evidence(7)),
    ("D22: but a kill is doubtful", look(137), [AWAY._replace(over=False)], False, LOST),
    ("ended before anybody looked", look(7), [AWAY._replace(since=0)], False, Evidence(7)),
    ("D17: killed when the daemon came back", look(137, finished_at=Millis(NOW + 20_500)), [AWAY], False, LOST),
    ("an outage long before its end", look(137, finished_at=Millis(NOW + 60_000)), [AWAY], False, Evidence(137)),
    ("begun by the daemon that came back", look(137, started_at=Millis(NOW + 20_100)), [AWAY], False, Evidence(137)),
    ("out of memory during an outage", look(137, oom=True), [AWAY], False, Evidence(137, oom=True)),
    ("D18: another boot, 255", look(255, labels={BOOT: "earlier"}), [], False, REBOOTED),
    ("D18: another boot, even 0", look(0, labels={BOOT: "earlier"}), [], False, REBOOTED),
    ("ended before the restart, seen after it",
     look(3, labels={BOOT: "earlier"}, finished_at=Millis(NOW - 600_000)), [], False, Evidence(3)),
    ("a daemon elsewhere", look(3, labels={BOOT: "-"}), [], False, Evidence(3)),
    ("D01: it never began",
     look(127, status="created", error="no such file", started_at=None), [], False,
     Evidence(127, start_error="CannotStartContainerError: no such file")),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "outages", "stopped", "expected"), [row[1:] for row in TABLE], ids=lambda each: None)
def test_an_end_is_classified(seen: Look, outages: list[Outage], stopped: bool, expected: Evidence) -> None:
    found = evidence(seen, HERE, outages, stopped=stopped)
    if expected.detail == "":
        assert found.detail
        found = replace(found, detail="")
    assert found == expected


def test_a_container_is_over_or_startable_or_neither() -> None:
    created = look(0, status="created", started_at=None, finished_at=None)
    assert (created.startable, created.over) == (True, False)
    failed = created._replace(error="no such file")
    assert (failed.startable, failed.over) == (False, True)
    for status in ("running", "paused", "restarting"):
        assert not look(0, status=status).over
    leaving = created._replace(status="removing")  # the Engine says so of what does not run alone
    assert (leaving.startable, leaving.over, leaving.leaving) == (False, False, True)
    ended = look(3, status="removing")
    assert (ended.over, ended.leaving) == (True, False)
    assert look(0, status="dead").over


def test_the_inits_own_words_are_a_start_error_and_anothers_are_not() -> None:
    words = b"1795358109531 e [FATAL tini (7)] exec /no/such failed: No such file or directory\n"
    said = read_from_log(Evidence(127), words, truncated=False)
    assert said.start_error == 'CannotStartContainerError: exec: "/no/such": No such file or directory'
    for code, text in ((127, b"1 o hello\n" + words), (1, words), (127, b""), (127, words.replace(b" e ", b" o "))):
        assert read_from_log(Evidence(code), text, truncated=False) == Evidence(code)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        ("1970-01-01T00:00:01Z", 1_000),
        ("1970-01-01T00:00:01.5Z", 1_500),
        ("1970-01-01T00:00:01.123456789Z", 1_123),
        ("1970-01-01T02:00:01.123456789+02:00", 1_123),
        ("1969-12-31T22:00:01.12-02:00", 1_120),
    ],
)
def test_times(text: str, ms: int | None) -> None:
    assert parse_time(text) == ms


@pytest.mark.parametrize(
    ("image", "name", "tag", "registry"),
    [
        ("busybox", "busybox", "latest", HUB),
        ("busybox:1.36", "busybox", "1.36", HUB),
        ("docker.io/library/busybox", "docker.io/library/busybox", "latest", HUB),
        ("localhost:5000/a/b:1", "localhost:5000/a/b", "1", "localhost:5000"),
        ("localhost:5000/a/b", "localhost:5000/a/b", "latest", "localhost:5000"),
        ("ghcr.io/a/b@sha256:00", "ghcr.io/a/b", "sha256:00", "ghcr.io"),
        ("ghcr.io/a/b:1@sha256:00", "ghcr.io/a/b", "sha256:00", "ghcr.io"),
        ("user/image", "user/image", "latest", HUB),
    ],
)
def test_references(image: str, name: str, tag: str, registry: str) -> None:
    assert split(image) == (name, tag)
    assert registry_of(image) == registry


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("manifest for localhost:5000/x:1 not found: manifest unknown", True),
        ("pull access denied for x, repository does not exist or may require 'docker login'", True),
        ("Head https://ghcr.io/v2/x/manifests/1: unauthorized", True),
        ("manifest invalid: manifest invalid", True),
        ("toomanyrequests: You have reached your pull rate limit", False),
        ("dial tcp: lookup registry-1.docker.io on 1.1.1.1:53: no such host", False),
        ("dial tcp 127.0.0.1:5000: connect: connection refused", False),
        ("net/http: TLS handshake timeout", False),
        ("received unexpected HTTP status: 503 Service Unavailable", False),
    ],
)
def test_what_a_pull_fails_with_for_good(message: str, expected: bool) -> None:
    assert is_permanent(message) is expected


@pytest.mark.parametrize(
    ("reserve_mib", "free", "total", "enough"),
    [
        (None, 3 << 30, 10 << 30, True),  # 2 GiB are more than a twentieth
        (None, 1 << 30, 10 << 30, False),
        (None, 40 << 30, 1 << 40, False),  # a twentieth is more
        (None, 60 << 30, 1 << 40, True),
        (100, 100 << 20, 1 << 40, True),
        (100, (100 << 20) - 1, 1 << 40, False),
    ],
)
def test_how_much_of_a_disk_has_to_be_free(reserve_mib: int | None, free: int, total: int, enough: bool) -> None:
    assert (free >= reserve_of(total, reserve_mib)) is enough


def test_versions() -> None:
    assert numbers("20.10.24+dfsg1") == (20, 10, 24)
    assert (23, 0, 0) <= numbers("24.0.2-ce") <= (24, 0, 2)


@pytest.mark.parametrize(
    ("info", "level", "words"),
    [
        ({}, "ok", "cgroup v1: memory and swap of containers are limited"),
        ({"CgroupVersion": "2", "SwapLimit": True}, "ok", "cgroup v2: memory and swap"),
        ({"CgroupVersion": "2", "SwapLimit": False}, "note", "cgroup v2, without swap accounting"),
        ({"MemoryLimit": False}, "warning", "memory limits of containers do not hold"),
        ({"PidsLimit": False}, "warning", "nothing holds a fork bomb"),
    ],
)
def test_what_limits_hold(info: dict[str, Any], level: str, words: str) -> None:
    found = cgroups(info)
    assert found.level == level
    assert words in found.text


def test_gpus_that_the_engine_cannot_give_say_what_to_do() -> None:
    error = 'could not select device driver "nvidia" with capabilities: [[gpu]]'
    seen = evidence(look(128, status="created", started_at=None, error=error), HERE, (), stopped=False)
    assert (seen.start_error or "").endswith(
        "[[gpu]] (the Engine has no GPUs to give: install NVIDIA's container toolkit there)"
    )
