"""An Engine as the notes have seen it: what it answers, what it says to nobody, and what becomes of its containers.

Synchronous, and told the time: each request is carried out at one instant. Requests that change something are carried out whether
anybody still waits for them or not.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct, field

RING: Final = 256  # events that it remembers (D23)
NEVER: Final = "0001-01-01T00:00:00Z"
FULL: Final = "write /var/lib/docker/containers: no space left on device"


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


class Script(Struct, frozen=True):
    """What a container does. `duration_s` None: until it is stopped. `start_error`: the code that comes instead (D01 to D03)."""

    code: int = 0
    duration_s: float | None = 1.0
    start_error: int | None = None
    oom: bool = False
    deaf: bool = False  # to TERM (D12)
    lines: int = 0


class Box(Struct, eq=False):
    id: str
    name: str
    labels: dict[str, str]
    script: Script
    status: str = "created"
    code: int = 0
    error: str = ""
    oom: bool = False
    started: float | None = None
    finished: float | None = None
    starts: int = 0
    pid: int = 0
    ended_by: str = ""  # itself | us | somebody | daemon | host
    removing_until: float | None = None
    said: list[tuple[float, str]] = field(default_factory=list)
    shown: str = "created"  # by the list


class FakeEngine:
    def __init__(self, rng: random.Random, clock: Callable[[], float], at: Callable[..., object]) -> None:
        self.rng = rng
        self.clock = clock
        self.at = at  # (seconds from now, function, *arguments)
        self.boxes: dict[str, Box] = {}
        self.gone: list[Box] = []
        self.scripts: dict[str, Script] = {}  # by name
        self.images: set[str] = {"here"}
        self.pulls: dict[str, list[str]] = {}  # by image: what goes wrong first
        self.up = True
        self.live_restore = False
        self.full = False
        self.stale = False  # its list shows what was, for ever (D25)
        self.near = True  # its machine's processes can be looked at
        self.boot = 1
        self.booted = clock()
        self.started_at = clock()
        self.down_since = 0.0
        self.events: list[dict[str, Any]] = []
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self.count = 0
        self.pids = 0
        self.forced = 0
        self.haunted: set[str] = set()  # names of containers that a call of an ended life has reached
        self.slow_removals = 0.4

    # --- requests

    def handle(self, method: str, path: str, params: Mapping[str, str], data: str | None) -> Any:
        """Raises Refusal."""
        head, _, rest = path.partition("/")
        name, _, verb = rest.rpartition("/") if "/" in rest else (rest, "", "")
        match (method, head, verb):
            case ("GET", "version", _):
                return {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"}
            case ("GET", "info", _):
                return {}
            case ("GET", "volumes", _):
                return {"Volumes": []}
            case ("GET", "containers", "") if name == "json":
                return self.listed_in(json.loads(params["filters"]).get("status"))
            case ("POST", "containers", "") if name == "create":
                return self.create(params["name"], json.loads(data or "{}"))
            case ("GET", "containers", "json"):
                return self.inspected(self.find(name))
            case ("POST", "containers", "start"):
                return self.start(self.find(name))
            case ("POST", "containers", "kill"):
                return self.kill(self.find(name), params["signal"])
            case ("DELETE", "containers", ""):
                return self.remove(self.find(name), params)
        raise AssertionError(f"who asks for {method} {path}?")

    def haunt(self, path: str) -> None:
        head, _, rest = path.partition("/")
        if head == "containers":
            self.haunted |= {box.name for box in self.boxes.values() if rest.split("/")[0] in (box.id, box.name)}

    def find(self, word: str) -> Box:
        for box in self.boxes.values():
            if word in (box.id, box.name):
                return box
        raise Refusal(404, f"No such container: {word}")

    def listed(self, box: Box) -> dict[str, Any]:
        state = box.shown if self.stale else box.status
        return {"Id": box.id, "Names": [f"/{box.name}"], "Labels": box.labels, "State": state}

    def listed_in(self, states: list[str] | None) -> list[dict[str, Any]]:
        every = [self.listed(box) for box in self.boxes.values()]
        return [item for item in every if states is None or item["State"] in states]

    def lives(self, container: str, pid: int) -> bool:
        box = self.boxes.get(container)
        return self.near and box is not None and box.status == "running" and box.pid == pid

    def inspected(self, box: Box) -> dict[str, Any]:
        return {
            "Id": box.id,
            "Name": f"/{box.name}",
            "State": {
                "Status": "removing" if box.removing_until is not None else box.status,
                "ExitCode": box.code,
                "OOMKilled": box.oom,
                "Error": box.error,
                "StartedAt": stamp(box.started),
                "FinishedAt": stamp(box.finished),
                "Pid": box.pid if box.status == "running" else 0,
            },
            "Config": {"Labels": box.labels},
        }

    def create(self, name: str, body: Mapping[str, Any]) -> dict[str, str]:
        holder = next((box for box in self.boxes.values() if box.name == name), None)
        if holder is not None:
            raise Refusal(409, f'Conflict. The container name "/{name}" is already in use by container "{holder.id}".')
        if body["Image"] not in self.images:
            raise Refusal(404, f"No such image: {body['Image']}")
        if self.full:
            raise Refusal(500, FULL)
        assert body["HostConfig"]["AutoRemove"] is False
        self.count += 1
        box = Box(f"{self.count:064x}", name, body["Labels"], self.scripts[name])
        self.boxes[box.id] = box
        return {"Id": box.id}

    def start(self, box: Box) -> None:
        if box.removing_until is not None:
            raise Refusal(409, "container is marked for removal and cannot be started")
        if box.status == "running":
            return  # 304 (D09)
        if self.full:
            raise Refusal(500, FULL)
        if box.script.start_error is not None:
            box.code, box.error = box.script.start_error, "exec failed: no such file or directory"
            raise Refusal(400, box.error)
        box.starts += 1  # also one that had ended (D09)
        self.pids += 1
        box.pid = self.pids
        now = self.clock()
        box.status = box.shown = "running"
        box.started, box.finished = now, None
        box.said = []
        self.emit(box, "start")
        script, began = box.script, box.starts
        ends_after = script.duration_s
        for number in range(script.lines):
            moment = (ends_after if ends_after is not None else 30.0) * (number + 1) / (script.lines + 1)
            self.at(moment, self.say, box, began, f"line {number}")
        if ends_after is not None:
            self.at(ends_after, self.end, box, began, script.code, "itself")

    def say(self, box: Box, began: int, text: str) -> None:
        if box.status == "running" and box.starts == began:
            box.said.append((self.clock(), text))

    def end(self, box: Box, began: int, code: int, by: str) -> None:
        if box.status != "running" or box.starts != began or box.id not in self.boxes:
            return
        box.status, box.code, box.ended_by = "exited", code, by
        box.finished = self.clock()
        if box.script.oom and by == "itself":
            box.oom = True
            self.emit(box, "oom")
        if not self.up and not self.live_restore:
            box.said = [entry for entry in box.said if entry[0] < self.down_since]
        self.emit(box, "die")

    def kill(self, box: Box, signal: str) -> None:
        if box.status != "running":
            raise Refusal(409, f"Container {box.id} is not running")
        if signal == "SIGKILL":
            self.end(box, box.starts, 137, "us")
        elif not box.script.deaf:
            self.at(self.rng.random(), self.end, box, box.starts, 143, "us")

    def remove(self, box: Box, params: Mapping[str, str]) -> None:
        self.forced += "force" in params
        if box.status == "running":
            raise Refusal(409, f"You cannot remove a running container {box.id}")
        if box.removing_until is not None:
            raise Refusal(409, f"removal of container {box.id} is already in progress")
        if self.rng.random() < self.slow_removals:
            box.removing_until = self.clock() + 3
            self.at(3, self.drop, box)
            raise Refusal(500, "device or resource busy")
        self.drop(box)

    def force_away(self, box: Box) -> None:
        """Somebody's `docker rm -f`: marked first, then killed, then gone (D36)."""
        box.removing_until = self.clock() + 0.1
        self.end(box, box.starts, 137, "somebody")
        self.at(0.1, self.drop, box)

    def drop(self, box: Box) -> None:
        if self.boxes.pop(box.id, None) is not None:
            self.gone.append(box)
            self.emit(box, "destroy")

    # --- streams

    def emit(self, box: Box, action: str) -> None:
        if not self.up:
            return
        actor = {"ID": box.id, "Attributes": {"name": box.name, **box.labels}}
        event = {"Action": action, "timeNano": int(self.clock() * 1e9), "Actor": actor}
        self.events = [*self.events, event][-RING:]
        for listener in list(self.listeners):
            listener(event)

    def remembered(self, params: Mapping[str, str]) -> list[dict[str, Any]]:
        only = json.loads(params["filters"]).get("container")
        since = float(params["since"]) * 1e9
        return [each for each in self.events if each["timeNano"] >= since and (not only or each["Actor"]["ID"] in only)]

    def log_of(self, word: str, params: Mapping[str, str]) -> bytes:
        box = self.find(word)
        since = float(params.get("since", "0"))
        entries = [(at, text) for at, text in box.said if at >= since]
        if "tail" in params:
            entries = entries[-int(params["tail"]) :]
        return b"".join(frame(at, text) for at, text in entries)

    # --- what happens to it

    def go_down(self, *, kill: bool) -> None:
        """TERM takes what runs along, unless live-restore is on; KILL leaves it to the next start (D16, D17, D19)."""
        self.up = False
        self.down_since = self.clock()
        if not kill and not self.live_restore:
            for box in self.running():
                self.end(box, box.starts, 143 if not box.script.deaf else 137, "daemon")

    def come_up(self) -> None:
        self.started_at = self.clock()
        self.stale = False
        if not self.live_restore:
            for box in self.running():
                self.end(box, box.starts, 137, "daemon")
        for box in self.boxes.values():
            box.shown = box.status
            if box.status == "exited" and box.finished is None:
                box.finished = self.clock()  # it is found to be dead only now (D18)
        self.events = []
        self.up = True

    def crash_machine(self) -> None:
        """Everything is dead; the codes afterwards are anybody's guess (D18)."""
        self.up = False
        self.down_since = self.clock()
        self.boot += 1
        for box in self.running():
            self.end(box, box.starts, self.rng.choice((255, 0)), "host")
            box.finished = None
        self.booted = self.clock()

    def running(self) -> list[Box]:
        return [box for box in self.boxes.values() if box.status == "running"]


def stamp(at: float | None) -> str:
    if at is None:
        return NEVER
    nanos = round(at * 1e6) * 1000
    whole = datetime.fromtimestamp(nanos // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{nanos % 10**9:09}Z"


def frame(at: float, text: str) -> bytes:
    payload = f"{stamp(at)} {text}\n".encode()
    return bytes((1, 0, 0, 0)) + len(payload).to_bytes(4, "big") + payload
