"""Which defaults of a server the settings have weakened, and what of it others may read (security.md §9)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from flowbatch.ports import Finding

if TYPE_CHECKING:
    from flowbatch.folder import StateFolder
    from flowbatch.settings import Settings
    from flowbatch.spec.policy import Policy
    from flowbatch.spec.serving import Folder, Serve

SUBJECT = "server"


def look_at_server(settings: Settings, folder: StateFolder) -> Iterator[Finding]:
    yield from map(warning, weakened(settings))
    if settings.policy.processes and os.path.exists(folder.master_key):  # or we may not look
        text = "whoever may submit jobs runs programs as the server's own user, who may read its keys (policy: {processes: false})"
        yield Finding("note", SUBJECT, text)
    for path, what in secret_files(settings, folder):
        loose = readable_by_others(path)
        if loose is not None:
            yield warning(f"{path}: others may {loose} {what}: `chmod go-rwx {path}`")
    for each in settings.serve.folders:
        yield from look_at_watched(each)


def warning(text: str) -> Finding:
    return Finding("warning", SUBJECT, text)


def weakened(settings: Settings) -> Iterator[str]:
    yield from weakened_serve(settings.serve)
    if settings.allow_environments:
        yield "files of watched folders may bring environments and queues of any size (allow_workflow_environments)"
    for path in settings.allow_paths:
        yield f"arrays of watched workflows may read below {path} (allow_paths)"
    for network in settings.allow_networks:
        yield f"webhooks may reach {network}, which is not public (webhooks: allow_networks)"
    if settings.audit_retention_ms is not None:
        yield f"calls are forgotten after {settings.audit_retention_ms // 86_400_000} days (audit: retention)"
    for rule in settings.policy.rules:
        who = ", ".join(rule.principals) or "everybody"
        where = ", ".join(rule.queues) or "every queue"
        for text in weakened_policy(rule.allows):
            yield f"in {where}, of {who}: {text} (policy: rules)"


def weakened_serve(serve: Serve) -> Iterator[str]:
    for text in serve.listen:
        host = text.rpartition(":")[0].removeprefix("[").removesuffix("]")
        if host not in ("", "localhost") and not on_loopback(host):
            yield f"the server listens on {text}, beyond this machine (serve: listen)"
    if serve.behind_proxy:
        yield "the server takes unencrypted requests, for a proxy's (serve: behind_proxy)"
    if not serve.strict:
        yield "AWS's limits are lifted (serve: strict)"
    for each in serve.folders:
        if each.policies is None:
            yield f"files in {each.path} may everything (serve: folders: policies)"
        if each.owners:
            yield f"files of {', '.join(map(str, each.owners))} are taken from {each.path} (serve: folders: owners)"


def weakened_policy(policy: Policy) -> Iterator[str]:
    if policy.processes:
        yield "jobs may be processes, which run as the server's own user"
    for root in policy.mounts:
        yield f"containers may {'read' if root.readonly else 'read and write'} {root.source}"
    if policy.privileged:
        yield "containers may be privileged: they are root here"
    for network in policy.networks:
        yield f"containers may use the {network} network"
    for device in policy.devices:
        yield f"containers may use {device}"
    for driver in policy.logs:
        yield f"containers may send their logs away by {driver}"
    for image in policy.images:
        yield f"images may be {image}"


def on_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False  # `serve` says what is wrong with it


def secret_files(settings: Settings, folder: StateFolder) -> Iterator[tuple[Path, str]]:
    yield folder.master_key, "the key that all others are made from"
    yield folder.admin_key, "the administrator's key"
    if settings.serve.tls is not None:
        yield Path(settings.serve.tls[1]), "the private key of the certificate"
    for name, source in settings.secrets.items():
        if source.file is not None:
            yield Path(source.file), f"the secret {name!r}"
    if settings.audit_mirror is not None:
        yield Path(settings.audit_mirror), "who called what"


def readable_by_others(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return None  # it is not there yet, or we may not look either
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "change"
    return "read" if mode & (stat.S_IRGRP | stat.S_IROTH) else None


def look_at_watched(rule: Folder) -> Iterator[Finding]:
    """As `serve` would, before it does."""
    from flowbatch.cli.watching import user_id
    from flowbatch.errors import InputError
    from flowbatch.library.folder import WatchedFolder

    try:
        owners = frozenset({0, os.geteuid(), *map(user_id, rule.owners)})
        watched = WatchedFolder(Path(rule.path), owners)
        watched.open()
    except InputError as error:
        yield Finding("error", SUBJECT, str(error))
    else:
        watched.close()
        yield Finding("ok", SUBJECT, f"watches {rule.path} as {rule.principal}")
