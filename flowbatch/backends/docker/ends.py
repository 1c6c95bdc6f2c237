"""What the Engine's answers about a container mean: pure functions, each rule with its row of the notes.

137 alone proves nothing (D13): it is an out-of-memory kill only with the Engine's flag, our own kill only with our record of
it, and the daemon's or the machine's doing where one of them went away around that moment. What nobody can know has no exit code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from flowbatch.backends.docker.names import BOOT, NO_BOOT
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import Millis

KILLED: Final = 137  # by SIGKILL
KILLS: Final = (
    KILLED,
    143,
    255,
)  # what a container shows that its daemon, or a machine's crash, has ended (D16 to D18)
BEFORE_MS: Final = 2_000  # a daemon that stops goes deaf at once, but a poll may notice later than an event
AFTER_MS: Final = 5_000
VANISHED: Final = Evidence(lost=True, detail="Container removed externally")
INIT_FAILED: Final = re.compile(rb"\d+ e \[FATAL tini \(\d+\)\] exec (.*) failed: ([^\n]*)\n", re.DOTALL)
FOREIGN_FORMAT: Final = b"exec format error"
FOREIGN_HINT: Final = "exec format error: the program, or the image, is for another kind of processor"
NO_GPUS: Final = 'could not select device driver "nvidia"'
NO_GPUS_HINT: Final = " (the Engine has no GPUs to give: install NVIDIA's container toolkit there)"
UNSEEN: Final = Evidence(lost=True, detail="it began after all, and was over and gone before anybody saw it")
NO_CODE: Final = Evidence(detail="stopped before it began")
CHILD_OOM: Final = "a process in the container was killed due to memory usage"
DAEMON_AWAY: Final = "the Docker Engine went away while it ended"
QUIET: Final = "the Docker Engine was away when it ended: what it said last may be lost"
REBOOTED: Final = "this machine restarted"


class Look(NamedTuple):
    """What one inspection showed."""

    id: str
    name: str
    status: str  # created | running | paused | restarting | removing | exited | dead
    exit_code: int
    oom: bool
    error: str
    started_at: Millis | None
    finished_at: Millis | None
    labels: Mapping[str, str]
    stop_signal: str = "SIGTERM"
    address: str = ""
    image: str = ""  # its id: sha256:…
    reference: str = ""  # what was asked for
    pid: int = 0  # of its first process, as the Engine's machine counts; 0: none runs

    @property
    def begun(self) -> bool:
        return self.started_at is not None

    @property
    def startable(self) -> bool:
        return self.status == "created" and not self.begun and not self.error

    @property
    def over(self) -> bool:
        """Ended, or never to begin (D01 to D03: it stays `created`, with an error, and no event ever comes). The Engine says `removing`
        of what does not run alone: what has begun by then is over."""
        if self.status == "removing":
            return self.begun
        return self.status in ("exited", "dead") or (self.status == "created" and bool(self.error))

    @property
    def leaving(self) -> bool:
        """It never began, never will, and is gone in a moment: its name is not free yet."""
        return self.status == "removing" and not self.begun

    @property
    def removed(self) -> bool:
        """It is being taken away, or that was begun."""
        return self.status in ("removing", "dead")


class Outage(NamedTuple):
    """The Engine could not be asked from `since` to `until`; only what began before `restarted_at` can have suffered."""

    since: int
    until: int
    restarted_at: int
    over: bool = True  # False: it lasts, and whether the daemon itself went is not known yet


class Boot(NamedTuple):
    """Of the machine that the Engine runs on; the id is "-" where that is another one than ours."""

    id: str
    at: Millis


def parse(answer: Mapping[str, Any], ahead_ms: int = 0) -> Look:
    """`ahead_ms`: how much the clock of the Engine's machine is ahead of ours. Times come out as ours: timeouts run from them, and absences
    are held against them."""
    state = answer["State"]
    return Look(
        answer["Id"],
        str(answer["Name"]).removeprefix("/"),
        state["Status"],
        state["ExitCode"],
        bool(state.get("OOMKilled")),
        state.get("Error") or "",
        ours(parse_time(state.get("StartedAt", "")), ahead_ms),
        ours(parse_time(state.get("FinishedAt", "")), ahead_ms),
        answer["Config"].get("Labels") or {},
        answer["Config"].get("StopSignal") or "SIGTERM",
        address_of(answer.get("NetworkSettings") or {}),
        str(answer.get("Image") or ""),
        str(answer["Config"].get("Image") or ""),
        int(state.get("Pid") or 0),
    )


def address_of(settings: Mapping[str, Any]) -> str:
    """While it runs on a network that gives one."""
    found = (network.get("IPAddress") for network in (settings.get("Networks") or {}).values())
    return next((str(address) for address in found if address), "")


def ours(at: Millis | None, ahead_ms: int) -> Millis | None:
    return None if at is None else Millis(at - ahead_ms)


def parse_time(text: str) -> Millis | None:
    """RFC 3339 with nanoseconds; the year 1 stands for never."""
    if not text or text.startswith("0001-"):
        return None
    whole, dot, rest = text.partition(".")
    fraction = rest.rstrip("Z") if dot else ""
    offset = ""
    for sign in "+-":
        fraction, found, offset = fraction.partition(sign)
        if found:
            offset = sign + offset
            break
    base = datetime.fromisoformat(whole.rstrip("Z") + offset)
    if base.tzinfo is None:
        base = base.replace(tzinfo=UTC)
    return Millis(int(base.timestamp()) * 1000 + int((fraction + "000")[:3]))


def evidence(look: Look, boot: Boot, outages: Sequence[Outage], *, stopped: bool, oom_event: bool = False) -> Evidence:
    """Of a container that is over. `stopped`: we asked it to end, so that its code is the answer to that."""
    code = look.exit_code
    if not look.begun:
        hint = NO_GPUS_HINT if NO_GPUS in look.error else ""
        return Evidence(exit_code=code or None, start_error=f"CannotStartContainerError: {look.error}{hint}")
    finished = look.finished_at or Millis(0)
    marked = look.labels.get(BOOT, NO_BOOT)
    if NO_BOOT not in (marked, boot.id) and marked != boot.id and finished >= boot.at:
        return Evidence(lost=True, detail=REBOOTED)  # whatever the code: 255, or even 0 (D18)
    oom = look.oom or oom_event
    quiet = QUIET if any(unheard(look, outage) for outage in outages) else None
    if code == 0:
        return Evidence(0, detail=CHILD_OOM if oom else quiet)
    if oom:
        return Evidence(code, oom=True)
    if not stopped and code == KILLED and look.removed:
        return VANISHED  # by `docker rm -f`, which kills first (D36); a code of its own is true
    if not stopped and code in KILLS and any(suffered(look, outage) for outage in outages):
        return Evidence(lost=True, detail=DAEMON_AWAY)
    return Evidence(code, detail=quiet)


def read_from_log(seen: Evidence, beginning: bytes, *, truncated: bool) -> Evidence:
    """What the Engine leaves to be read. With an init process a command that is not there is no start error to it (D01 and D02
    were seen without one): the init starts, finds nothing to run, says so and exits with 127 or 126."""
    if seen.exit_code in (126, 127) and (words := INIT_FAILED.fullmatch(beginning)) is not None:
        program, why = (word.decode("utf-8", "replace") for word in words.groups())
        return Evidence(seen.exit_code, start_error=f'CannotStartContainerError: exec: "{program}": {why}')
    if seen.exit_code == 1 and seen.detail is None and FOREIGN_FORMAT in beginning:
        return replace(seen, detail=FOREIGN_HINT, truncated=truncated)  # just another 1 to the Engine (D05)
    return replace(seen, truncated=truncated) if truncated else seen


def suffered(look: Look, outage: Outage) -> bool:
    started, finished = look.started_at or 0, look.finished_at or 0
    if started >= outage.restarted_at:
        return False
    return outage.since - BEFORE_MS <= finished <= outage.until + AFTER_MS


def unheard(look: Look, outage: Outage) -> bool:
    """It ended while there was no daemon to take its output: its code is kept, what it said meanwhile is not (seen on 20.10.24, with
    and without live-restore; what outlives the daemon's absence loses nothing). Only an absence whose beginning was seen tells."""
    started, finished = look.started_at or 0, look.finished_at or 0
    return outage.over and 0 < outage.since <= finished <= outage.until and started < outage.restarted_at
