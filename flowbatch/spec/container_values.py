"""The values of container fields: what a person may write, what comes out of it, what an editor is told (aws-batch.md §6.5).

A bind's source stays as it was written: it becomes absolute where the workflow's folder is known (containers.py).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from flowbatch.model.container import Device, Mount, Tmpfs
from flowbatch.spec import images
from flowbatch.spec.quantities import size_mib
from flowbatch.spec.scalars import shown, text_of
from flowbatch.spec.values import NAME

ULIMITS: Final = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
    "sigpending", "stack",
)  # fmt: skip
FLAGS: Final = frozenset(
    {
        "defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "mand",
        "nomand", "atime", "noatime", "diratime", "nodiratime", "unbindable", "runbindable", "private", "rprivate",
        "shared", "rshared", "slave", "rslave", "relatime", "norelatime", "strictatime", "nostrictatime",
    }
)  # fmt: skip
ASSIGNED: Final = frozenset({"mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})
OTHER_MOUNTS: Final = frozenset({"bind", "rbind", "remount"})  # AWS lists them, but they would make it another mount
PERMISSIONS: Final = {"READ": "r", "WRITE": "w", "MKNOD": "m"}
OWN: Final = "/flowbatch"  # the run's own folder lies there
SHM_MAX_MIB: Final = 1 << 24
_USER: Final = re.compile(r"[a-z0-9_][a-z0-9_-]{0,30}(?::[a-z0-9_][a-z0-9_-]{0,30})?", re.ASCII)
_VOLUME: Final = re.compile(NAME[1:-1], re.ASCII)
_OPTION: Final = re.compile(r"[A-Za-z0-9:,=/_-]{1,64}", re.ASCII)
_MOUNT_SIZE: Final = re.compile(r"([0-9]{1,12})([kmg])", re.ASCII)
_LIMIT: Final = re.compile(r"-1|[0-9]{1,18}", re.ASCII)
_HINT: Final = "write ./folder:/path, /folder:/path:ro or name:/path"


def target(value: object) -> str:
    """An absolute path in the container, in its shortest form."""
    if not isinstance(value, str) or not value.startswith("/") or len(value) > 4096:
        raise ValueError(f"an absolute path in the container is needed, such as /data; found {shown(value)}")
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise ValueError(f"{shown(value)} holds a control character")
    if ".." in value.split("/"):
        raise ValueError(f"{shown(value)} must not go up (..); write the path it leads to")
    path = "/" + posixpath.normpath(value).lstrip("/")
    if path == "/":
        raise ValueError("nothing can be mounted over the container's root; write a path below it")
    if path == OWN or path.startswith(OWN + "/"):
        raise ValueError(f"{OWN} in a container is flowbatch's; write another path")
    return path


def host_path(value: object) -> str:
    """Of this machine; relative ones start at the workflow's folder."""
    if not isinstance(value, str) or not value or len(value) > 4096:
        raise ValueError(f"a path of this machine is needed, found {shown(value)}")
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise ValueError(f"{shown(value)} holds a control character")
    return value


def volume_name(value: object) -> str:
    if not isinstance(value, str) or not _VOLUME.fullmatch(value):
        raise ValueError(f"{shown(value)} is not the name of a volume; {_HINT}")
    return value


def _volume(value: object) -> Mount:
    """`./host:/ctr`, `/host:/ctr:ro`, `named:/ctr`."""
    if not isinstance(value, str):
        aws = "; AWS's spelling stands in containerProperties (volumes, mountPoints)" if isinstance(value, dict) else ""
        raise ValueError(f"text is needed, found {shown(value)}; {_HINT}{aws}")
    parts = value.split(":")
    if not 2 <= len(parts) <= 3 or not all(parts):
        more = ""
        if len(parts) > 3:
            more = "; a path with a colon fits AWS's spelling (containerProperties: volumes and mountPoints)"
        raise ValueError(f"{shown(value)} is not a volume; {_HINT}{more}")
    source, mode = parts[0], parts[2] if len(parts) == 3 else "rw"
    if mode not in ("ro", "rw"):
        raise ValueError(f"the third part of a volume is ro or rw, found {shown(mode)}")
    if source[0] in "/.~":
        return Mount(host_path(source), target(parts[1]), mode == "ro")
    if "/" in source:
        raise ValueError(f"{shown(source)} is neither a name nor a path; write ./{source} for one from this folder")
    return Mount(volume_name(source), target(parts[1]), mode == "ro", volume=True)


def tmpfs_options(options: Iterable[str]) -> tuple[str, ...]:
    given = tuple(options)
    for option in given:
        name, equals, _ = option.partition("=")
        if name in OTHER_MOUNTS:
            raise ValueError(f"{name} would make another mount of it; leave it out")
        if not (name in ASSIGNED if equals else option in FLAGS) or not _OPTION.fullmatch(option):
            raise ValueError(f"{shown(option)} is no option of a tmpfs; known: noexec, nosuid, nodev, ro, mode=1777, …")
    return given


def _tmpfs(value: object) -> Tmpfs:
    """`/scratch:size=64MiB,noexec`, as Compose has it; the size is needed, as in AWS."""
    example = "write /scratch:size=64MiB, more options after a comma"
    if not isinstance(value, str):
        raise ValueError(f"text is needed, found {shown(value)}; {example}")
    path, _, rest = value.partition(":")
    words = [word for word in rest.split(",") if word]
    sizes = [word[5:] for word in words if word.startswith("size=")]
    if len(sizes) != 1:
        raise ValueError(f"{shown(value)} needs one size; {example}")
    short = _MOUNT_SIZE.fullmatch(sizes[0])
    if short is not None:
        sizes = [short[1] + {"k": "KiB", "m": "MiB", "g": "GiB"}[short[2]]]
    elif sizes[0].isdigit():
        raise ValueError(f"the size {sizes[0]} has no unit; {example}")
    options = tmpfs_options(word for word in words if not word.startswith("size="))
    return Tmpfs(target(path), size_mib(sizes[0]), options)


def permissions(letters: Iterable[str]) -> str:
    given = set(letters)
    return "".join(letter for letter in "rwm" if letter in given)


def device_path(value: object) -> str:
    """Devices lie below /dev: anything else would be a mount by another name."""
    path = posixpath.normpath(host_path(value))
    if not path.startswith("/dev/"):
        raise ValueError(f"{shown(value)} is no device; these lie below /dev, such as /dev/fuse")
    return path


def _device(value: object) -> Device:
    """`/dev/fuse[:/dev/fuse[:rwm]]`"""
    example = "write /dev/fuse, /dev/sdb:/dev/disk or /dev/sdb:/dev/disk:r"
    if not isinstance(value, str):
        raise ValueError(f"text is needed, found {shown(value)}; {example}")
    parts = value.split(":")
    if len(parts) > 3 or not all(parts):
        raise ValueError(f"{shown(value)} is not a device; {example}")
    letters = parts[2] if len(parts) == 3 else "rwm"
    if not set(letters) <= set("rwm"):
        raise ValueError(f"a device's permissions are some of r, w, m; found {shown(letters)}")
    host = device_path(parts[0])
    return Device(host, target(parts[1]) if len(parts) > 1 else host, permissions(letters))


def limit(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and -1 <= value < 1 << 63:
        return value
    raise ValueError(f"a limit is a whole number, -1 for none; found {shown(value)}")


def ordered(soft: int, hard: int) -> tuple[int, int]:
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"the soft limit {soft} is above the hard one, {hard}")
    return soft, hard


def _ulimit(value: object) -> tuple[int, int]:
    """`1024`, `1024:4096`, {soft: 1024, hard: 4096}."""
    if isinstance(value, dict):
        if set(value) != {"soft", "hard"}:
            raise ValueError("a limit is a number (1024), or both of {soft: 1024, hard: 4096}")
        return ordered(limit(value["soft"]), limit(value["hard"]))
    if isinstance(value, str):
        soft, colon, hard = value.partition(":")
        if not (_LIMIT.fullmatch(soft) and colon and _LIMIT.fullmatch(hard)):
            raise ValueError(f"{shown(value)} is not a limit; write 1024, 1024:4096 or {{soft: 1024, hard: 4096}}")
        return ordered(int(soft), int(hard))
    both = limit(value)
    return both, both


def _ulimit_name(value: object) -> str:
    if value not in ULIMITS:
        raise ValueError(f"{shown(value)} is no ulimit; known: {', '.join(ULIMITS)}")
    return str(value)


def _user(value: object) -> str:
    text = text_of(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text:
        raise ValueError(f"a user's name or number is needed, found {shown(value)}")
    return text


def container_user(user: str) -> str | None:
    """What is wrong with it, by AWS's rule."""
    if _USER.fullmatch(user):
        return None
    return f"{shown(user)} is not a user of a container; write a name, a number, user:group or uid:gid in small letters"


def _image(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"the name of an image is needed, found {shown(value)}")
    images.full_name(value)
    return value


def _swap(value: object) -> int:
    return 0 if value == 0 and not isinstance(value, bool) else size_mib(value)


def _shm(value: object) -> int:
    mib = size_mib(value)
    if mib > SHM_MAX_MIB:
        raise ValueError(f"/dev/shm cannot be larger than 16 TiB, found {shown(value)}")
    return mib


_STRING: Final = {"type": "string"}
_SIZE: Final = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "examples": ["512MiB", "3GiB"]}]}
_LIMITS: Final = {
    "anyOf": [
        {"type": "integer", "minimum": -1},
        {"type": "string", "pattern": r"^(-1|[0-9]+):(-1|[0-9]+)$"},
        {
            "type": "object",
            "properties": {"soft": {"type": "integer"}, "hard": {"type": "integer"}},
            "required": ["soft", "hard"],
            "additionalProperties": False,
        },
    ]
}

Image = Annotated[str, PlainValidator(_image), WithJsonSchema({"type": "string", "maxLength": images.LENGTH_MAX})]
User = Annotated[str, PlainValidator(_user), WithJsonSchema({"type": ["string", "integer"]})]
Volume = Annotated[Mount, PlainValidator(_volume), WithJsonSchema({**_STRING, "examples": ["./in:/in:ro", "tmp:/tmp"]})]
TmpfsText = Annotated[Tmpfs, PlainValidator(_tmpfs), WithJsonSchema({**_STRING, "examples": ["/scratch:size=64MiB"]})]
DeviceText = Annotated[Device, PlainValidator(_device), WithJsonSchema({**_STRING, "examples": ["/dev/fuse"]})]
UlimitName = Annotated[str, PlainValidator(_ulimit_name), WithJsonSchema({"type": "string", "enum": list(ULIMITS)})]
Limits = Annotated[tuple[int, int], PlainValidator(_ulimit), WithJsonSchema(_LIMITS)]
Limit = Annotated[int, PlainValidator(limit), WithJsonSchema({"type": "integer", "minimum": -1})]
Target = Annotated[str, PlainValidator(target), WithJsonSchema({"type": "string", "pattern": "^/"})]
HostPath = Annotated[str, PlainValidator(host_path), WithJsonSchema(_STRING)]
DevicePath = Annotated[str, PlainValidator(device_path), WithJsonSchema({"type": "string", "pattern": "^/dev/"})]
Swap = Annotated[int, PlainValidator(_swap), WithJsonSchema(_SIZE)]
Shm = Annotated[int, PlainValidator(_shm), WithJsonSchema(_SIZE)]
Driver = Literal["awslogs", "json-file", "local", "journald", "syslog", "gelf", "fluentd", "splunk"]
Network = Literal["bridge", "none", "host"]
Swappiness = Annotated[int, Field(ge=0, le=100)]
