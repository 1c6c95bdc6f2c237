"""Names of images: what Docker would take, and the full name that an allow-list is held against."""

from __future__ import annotations

import re
from typing import Final

from flowbatch.spec.scalars import shown

LENGTH_MAX: Final = 255
HUB: Final = "docker.io"
_CHARACTERS: Final = re.compile(r"[A-Za-z0-9_.:/#@-]+", re.ASCII)
_PART: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?", re.ASCII)
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST: Final = re.compile(r"sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})", re.ASCII)


def full_name(image: str) -> str:
    """`busybox` is docker.io/library/busybox:latest. Raises ValueError, with a sentence, for what is no image's name."""
    if not image or len(image) > LENGTH_MAX:
        raise ValueError(f"the name of an image has 1 to {LENGTH_MAX} characters, found {len(image)}")
    if not _CHARACTERS.fullmatch(image):
        raise ValueError(f"{shown(image)} is no image; its name has letters, digits and - _ : . / # @ only")
    name, at, digest = image.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError(f"{shown(image)}: after the @ of an image stands its digest, sha256: and 64 hex digits")
    slash = name.rfind("/")
    colon = name.find(":", slash + 1)
    tag = name[colon + 1 :] if colon >= 0 else ""
    if colon >= 0:
        name = name[:colon]
        if not _TAG.fullmatch(tag):
            raise ValueError(f"{shown(image)}: {shown(tag)} is no tag of an image")
    host, parts = _split(name)
    if not _HOST.fullmatch(host) or not parts or not all(_PART.fullmatch(part) for part in parts):
        small = "; repositories are written in small letters" if name != name.lower() else ""
        raise ValueError(f"{shown(image)} is no image; write name, name:tag or registry/name:tag{small}")
    if host == HUB and len(parts) == 1:
        parts = ["library", *parts]
    whole = "/".join([host, *parts])
    return (
        f"{whole}:{tag}@{digest}" if tag and digest else f"{whole}@{digest}" if digest else f"{whole}:{tag or 'latest'}"
    )


def _split(name: str) -> tuple[str, list[str]]:
    """The first part is a registry where it looks like a host, as Docker has it."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return (HUB if first == "index.docker.io" else first), rest.split("/")
    return HUB, name.split("/")


def moves(image: str) -> bool:
    """What it names may be another image tomorrow."""
    return full_name(image).endswith(":latest")
