"""The name of a state folder among the labels of containers: made with the first container, kept beside the store."""

from __future__ import annotations

import json
import os
from pathlib import Path
from uuid import uuid4


def instance_file(folder: Path) -> Path:
    return folder / "instance"


def instance_of(folder: Path) -> str:
    """A copy of a state folder is another instance, or two engines would take each other's containers for strays: so the
    folder's inode is kept with the name."""
    file = instance_file(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    inode = folder.stat().st_ino
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["inode"] == inode:
            return str(kept["instance"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    made = uuid4().hex
    part = file.with_name("instance.part")
    with part.open("w", encoding="utf-8") as out:
        out.write(json.dumps({"instance": made, "inode": inode}) + "\n")
        out.flush()
        os.fsync(out.fileno())
    part.rename(file)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return made
