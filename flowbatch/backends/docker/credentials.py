"""Credentials for registries from Docker's own configuration, helpers included. Never logged, never kept."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

HUB: Final = "https://index.docker.io/v1/"
HELPER_S: Final = 10.0


def registry_of(image: str) -> str:
    """As Docker reads a reference: the first part is a registry where it looks like a host."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return HUB if first in ("docker.io", "index.docker.io") else first
    return HUB


def auth_header(image: str) -> str | None:
    """The value of X-Registry-Auth, or None where nothing is configured. Blocks: for a thread."""
    folder = os.environ.get("DOCKER_CONFIG")
    path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict):
        return None
    registry = registry_of(image)
    found = _from_helper(config, registry) or _from_file(config, registry)
    if found is None:
        return None
    return base64.urlsafe_b64encode(json.dumps({**found, "serveraddress": registry}).encode()).decode()


def _from_helper(config: dict[str, Any], registry: str) -> dict[str, str] | None:
    helper = (config.get("credHelpers") or {}).get(registry) or config.get("credsStore")
    if not helper:
        return None
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=registry.encode(),
            capture_output=True,
            timeout=HELPER_S,
            check=True,
        )
        answer = json.loads(done.stdout)
        return _identity(answer["Username"], answer["Secret"])
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return None  # as Docker itself: the pull says then what is missing


def _from_file(config: dict[str, Any], registry: str) -> dict[str, str] | None:
    entries = config.get("auths") or {}
    for name in (registry, f"https://{registry}", f"http://{registry}", f"https://{registry}/v1/"):
        entry = entries.get(name)
        if not entry:
            continue
        if entry.get("identitytoken"):
            return {"identitytoken": entry["identitytoken"]}
        try:
            user, _, password = base64.b64decode(entry.get("auth", ""), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        if user:
            return {"username": user, "password": password.rstrip("\0")}
    return None


def _identity(user: str, secret: str) -> dict[str, str]:
    return {"identitytoken": secret} if user == "<token>" else {"username": user, "password": secret}
