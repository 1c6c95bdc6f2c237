"""What `doctor` says of the Engine, and what it means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from flowbatch.backends.docker.api import HOW_TO_GET_ONE, HOW_TO_REACH_IT, TESTED_MAX, Api
from flowbatch.backends.docker.disk import Room, root_of
from flowbatch.backends.docker.errors import EngineError
from flowbatch.errors import BackendUnavailable
from flowbatch.ports import Finding

SAYS_SUCCESS: Final = ((23, 0, 0), (24, 0, 2))  # moby #45788: exit code 0 for what a crash of the host killed


async def reach(api: Api) -> None:
    """Raises BackendUnavailable, in one sentence, where no Engine answers."""
    api.open()
    try:
        await api.ping()
        await api.negotiate()
    except EngineError as error:
        why = "you may not use its socket" if denied(api.socket_path) else error.message
        raise BackendUnavailable(
            f"jobs with an image need a Docker Engine, and the one at {api.where} cannot be reached ({why}): "
            f"{how_to_reach(api)}"
        ) from None


def how_to_reach(api: Api) -> str:
    if api.socket_path is not None:
        return HOW_TO_GET_ONE
    if api.where.startswith("ssh:"):
        return "see that ssh gets there without a password, and that Docker may be used by whom it gets there as"
    return HOW_TO_REACH_IT


def denied(socket_path: str | None) -> bool:
    """That is: it is there, and not for us."""
    return socket_path is not None and os.access(socket_path, os.F_OK) and not os.access(socket_path, os.R_OK | os.W_OK)


async def look(endpoint: str | None, disk_free_mib: int | None) -> list[Finding]:
    api = Api(endpoint)
    try:
        await reach(api)
        info = await api.info()
    except EngineError as error:
        raise BackendUnavailable(f"the Docker Engine at {api.where} does not answer: {error.message}") from None
    finally:
        await api.close()
    return [
        *engine(api, info),
        live_restore(info),
        cgroups(info),
        *disk(info, api.socket_path is not None, disk_free_mib),
    ]


def engine(api: Api, info: Mapping[str, Any]) -> list[Finding]:
    version = str(api.version.get("Version", "?"))
    text = (
        f"Engine {version} at {api.where}, API {api.api_version}, {info.get('NCPU')} CPUs, "
        f"{info.get('MemTotal', 0) >> 20} MiB, {info.get('Containers')} containers"
    )
    findings = [Finding("ok", "docker", text)]
    low, high = SAYS_SUCCESS
    if low <= numbers(version) <= high:
        text = (
            f"Engine {version} reports exit code 0 for containers that a crash of the machine killed; flowbatch takes them for "
            "lost, but upgrade it"
        )
        findings.append(Finding("warning", "docker", text))
    oldest = numbers(str(api.version.get("MinAPIVersion", "1.12")))[:2]
    if oldest > TESTED_MAX:
        tested = ".".join(map(str, TESTED_MAX))
        text = f"this Engine's oldest API is newer than {tested}, the newest that flowbatch was tested with"
        findings.append(Finding("note", "docker", text))
    return findings


def live_restore(info: Mapping[str, Any]) -> Finding:
    if info.get("LiveRestoreEnabled"):
        return Finding("ok", "docker", "live-restore is on: containers survive a restart of the daemon")
    text = (
        "live-restore is off: a restart of the Docker daemon kills what runs, which then counts as lost with the host; "
        'set {"live-restore": true} in /etc/docker/daemon.json'
    )
    return Finding("warning", "docker", text)


def cgroups(info: Mapping[str, Any]) -> Finding:
    version = info.get("CgroupVersion", "1")
    if not info.get("MemoryLimit", True):
        return Finding("warning", "docker", "the kernel has no memory cgroup: memory limits of containers do not hold")
    if not info.get("PidsLimit", True):
        return Finding("warning", "docker", "the kernel has no pids cgroup: nothing holds a fork bomb in a container")
    if not info.get("SwapLimit", True):
        text = f"cgroup v{version}, without swap accounting: a container may swap beyond its memory limit"
        return Finding("note", "docker", text)
    return Finding("ok", "docker", f"cgroup v{version}: memory and swap of containers are limited")


def disk(info: Mapping[str, Any], local: bool, reserve_mib: int | None) -> list[Finding]:
    root = root_of(info, local=local)
    if root is None:
        return []
    try:
        room = Room(root, reserve_mib)
    except OSError:
        return []  # not for us to look into
    if not room.enough:
        return [Finding("warning", "docker", str(room))]
    return [Finding("ok", "docker", f"{room.free_bytes >> 30} GiB free for images and containers in {root}")]


def numbers(version: str) -> tuple[int, ...]:
    parts = []
    for part in version.split("+")[0].split("-")[0].split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)
