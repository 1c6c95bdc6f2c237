"""What a container may ask for (security.md §6): default deny, by the settings and `--allow`, never by a workflow file.

Pure. Paths are judged as they are written and as they resolve, so that a symbolic link leads nowhere else; the resolving is
handed in. What is never allowed stays refused whatever the policy says.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from flowbatch.model.container import Container, Mount
from flowbatch.spec.images import full_name

Resolve = Callable[[str], str]

NEVER: Final = (
    "/", "/etc", "/proc", "/sys", "/dev", "/run", "/var/run", "/var/lib/docker", "/var/lib/containerd",
)  # fmt: skip
SOCKETS: Final = frozenset({"docker.sock", "containerd.sock", "podman.sock"})
KEPT_LOGS: Final = ("awslogs", "json-file", "local", "journald")  # what Docker gives back to us; others send it away
SAFE_NETWORKS: Final = ("bridge", "none")


class Root(Struct, frozen=True):
    """A folder (or file) of this machine whose content may be mounted."""

    source: str
    readonly: bool = False


class Policy(Struct, frozen=True):
    """Empty, it allows named volumes and nothing else of this machine."""

    mounts: tuple[Root, ...] = ()
    privileged: bool = False
    networks: tuple[str, ...] = ()  # beside bridge and none
    devices: tuple[str, ...] = ()  # paths, or folders of them
    logs: tuple[str, ...] = ()  # log drivers that send logs elsewhere
    images: tuple[str, ...] = ()  # patterns of full names; none: every image
    protected: tuple[str, ...] = ()  # flowbatch's own data, Docker's data and socket: never mounted
    processes: bool = True  # jobs without an image run as the user that flowbatch has
    rules: tuple[Rule, ...] = ()

    def plus(self, other: Policy) -> Policy:
        """What either allows. A list of images stays a restriction: the first that has one decides."""
        return Policy(
            self.mounts + other.mounts,
            self.privileged or other.privileged,
            self.networks + other.networks,
            self.devices + other.devices,
            self.logs + other.logs,
            self.images or other.images,
            self.protected + other.protected,
            self.processes and other.processes,
            self.rules + other.rules,
        )

    def at(self, queue: str, principal: str | None) -> Policy:
        """What a job in this queue may ask for, of this principal of a server; None: of whoever types `run`."""
        found = replace(self, rules=())
        for rule in self.rules:
            if rule.meant(queue, principal):
                more = rule.allows
                found = replace(
                    found.plus(replace(more, processes=True)),
                    images=found.images + more.images if found.images else (),
                    processes=found.processes or more.processes,
                )
        return found


class Rule(Struct, frozen=True):
    """What is allowed beside the rest to some: jobs in these queues, of these principals (`*` and `?`); none named: of all."""

    allows: Policy
    queues: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()

    def meant(self, queue: str, principal: str | None) -> bool:
        if self.queues and not any(matches(each, queue) for each in self.queues):
            return False
        return not self.principals or (
            principal is not None and any(matches(each, principal) for each in self.principals)
        )


NOTHING: Final = Policy()


class Guard(NamedTuple):
    """A policy, and how this machine's paths resolve. `principal`: of a server, whose jobs they are."""

    policy: Policy
    resolve: Resolve
    principal: str | None = None

    def at(self, queue: str) -> Policy:
        return self.policy.at(queue, self.principal) if self.policy.rules else self.policy


class Objection(NamedTuple):
    """`field` and `entry` say what of the container it is about, as `containers.At` has it."""

    field: str
    entry: str
    text: str


def judge(container: Container, policy: Policy, resolve: Resolve | None = None) -> list[str]:
    """Why the container is refused, a sentence each that says what to do; nothing where it is allowed."""
    return [objection.text for objection in objections(container, policy, resolve or plain)]


def objections(container: Container, policy: Policy, resolve: Resolve) -> Iterator[Objection]:
    if policy.images and not any(matches(pattern, full_name(container.image)) for pattern in policy.images):
        text = f"{full_name(container.image)} is none of the images that the settings allow (policy: images)"
        yield Objection("image", "", text)
    for mount in container.mounts:
        if not mount.volume and (wrong := _mount_error(mount, policy, resolve)) is not None:
            yield Objection("volumes", mount.target, wrong)
    if container.privileged and not policy.privileged:
        yield Objection("privileged", "", _refused("a privileged container is root on this machine", "privileged"))
    if container.network not in SAFE_NETWORKS and container.network not in policy.networks:
        what = f"the {container.network} network reaches everything that this machine does"
        yield Objection("network", "", _refused(what, f"network={container.network}"))
    for device in container.devices:
        if not _device_allowed(device.host, policy, resolve):
            what = f"{device.host} is a device of this machine"
            yield Objection("devices", device.target, _refused(what, f"device={device.host}"))
    if container.log is not None and container.log.driver not in KEPT_LOGS + policy.logs:
        what = f"{container.log.driver} sends the log elsewhere and leaves none here"
        yield Objection("log", "", _refused(what, f"log={container.log.driver}"))


def resolved(container: Container, resolve: Resolve) -> Container:
    """With the sources of its binds as they are without any link, for `moved` to hold against."""
    if all(mount.volume for mount in container.mounts):
        return container
    mounts = (mount if mount.volume else replace(mount, source=resolve(mount.source)) for mount in container.mounts)
    return replace(container, mounts=tuple(mounts))


def moved(container: Container, resolve: Resolve) -> list[str]:
    """For the start: sources were resolved at submission, so one that resolves otherwise was swapped since."""
    return [
        f"{mount.source} leads to {real} by now, which was not what was submitted"
        for mount in container.mounts
        if not mount.volume and (real := resolve(mount.source)) != mount.source
    ]


def no_process() -> str:
    return "needs an `image`: the settings allow containers alone here (`policy: {processes: true}` allows processes)"


def _refused(what: str, allow: str) -> str:
    return f"{what}; not allowed unless you say so: --allow {allow}, or `policy` in the settings"


def _mount_error(mount: Mount, policy: Policy, resolve: Resolve) -> str | None:
    source = plain(mount.source)
    if (never := _never(source, policy, resolve)) is not None:
        return never
    try:
        real = resolve(mount.source)
    except OSError as error:  # a link that is not ours to follow, as below /proc
        return f"{source} cannot be followed to where it leads ({error.strerror}): mount a folder of your own"
    if (never := _never(real, policy, resolve)) is not None:
        return never
    spelt = {
        replace(root, source=path) for root in policy.mounts for path in (plain(root.source), resolve(root.source))
    }
    roots = [root for root in spelt if _below(source, root.source) is not None]
    if not roots:
        if any(_below(real, root.source) is not None for root in spelt):
            return f"{source} leads through a symbolic link to {real}; write that path"
        allow = f"mount={source}:ro" if mount.readonly else f"mount={source}"
        return _refused(f"{source} is outside the workflow's folder", allow)
    straight = [root for root in roots if _joined(resolve(root.source), source, root) == real]
    if not straight:
        return f"{source} leads through a symbolic link to {real}; write that path, which must be allowed itself"
    if not mount.readonly and all(root.readonly for root in straight):
        return f"{source} may be mounted for reading alone; add :ro"
    return None


def _joined(real_root: str, source: str, root: Root) -> str:
    """Where the source is if no link lies between the root and it."""
    return plain(posixpath.join(real_root, _below(source, root.source) or "."))


def _never(path: str, policy: Policy, resolve: Resolve) -> str | None:
    if posixpath.basename(path) in SOCKETS:
        return f"{path} is the socket of a container engine, which is root on this machine; it is never mounted"
    for banned in NEVER:
        if path == banned or (banned != "/" and _below(path, banned) is not None):
            return f"{path} belongs to the system and is never mounted; mount a folder of your own"
    for banned in policy.protected:
        for each in dict.fromkeys((plain(banned), resolve(banned))):
            if _below(path, each) is not None:
                return f"{path} is data of flowbatch or Docker and is never mounted; mount a folder of your own"
            if _below(each, path) is not None:
                return f"{path} holds {each}, data of flowbatch or Docker, and is never mounted; mount a folder in it"
    for banned in NEVER[1:]:
        if _below(banned, path) is not None:
            return f"{path} holds {banned}, which is never mounted; mount a folder in it"
    return None


def _below(path: str, root: str) -> str | None:
    """The way from the root to the path, `.` for itself; None where it is not below."""
    if path == root:
        return "."
    prefix = root if root.endswith("/") else root + "/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def _device_allowed(host: str, policy: Policy, resolve: Resolve) -> bool:
    """A link below /dev (by-id, by-path) is judged by where it leads, too."""
    return all(
        any(_below(path, plain(allowed)) is not None for allowed in policy.devices)
        for path in dict.fromkeys((plain(host), resolve(host)))
    )


def plain(path: str) -> str:
    """An absolute path in its one spelling; POSIX would keep two slashes at its front."""
    return "/" + posixpath.normpath(path).lstrip("/")


def matches(pattern: str, text: str) -> bool:
    """`*` is any characters, `?` one. Without regular expressions, in time that their lengths bound."""
    at, here, star, mark = 0, 0, -1, 0
    while here < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, mark = at, here
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[here]):
            at += 1
            here += 1
        elif star >= 0:
            at, mark = star + 1, mark + 1
            here = mark
        else:
            return False
    return all(char == "*" for char in pattern[at:])


def parse_allow(words: Iterable[str]) -> Policy:
    """`mount=/data:ro,privileged,network=host,device=/dev/fuse,log=gelf`. Raises ValueError with a sentence."""
    policy = Policy()
    for word in (word for text in words for word in text.split(",")):
        name, equals, value = word.partition("=")
        if name == "privileged" and not equals:
            policy = policy.plus(Policy(privileged=True))
        elif name == "mount" and value:
            policy = policy.plus(Policy(mounts=(root_of(value),)))
        elif name == "network" and value == "host":
            policy = policy.plus(Policy(networks=(value,)))
        elif name == "device" and value.startswith("/dev/"):
            policy = policy.plus(Policy(devices=(plain(value),)))
        elif name == "log" and value:
            policy = policy.plus(Policy(logs=(value,)))
        else:
            raise ValueError(
                f"{word!r} cannot be allowed; what can: mount=/path, mount=/path:ro, privileged, network=host, "
                f"device=/dev/name, log=driver"
            )
    return policy


def root_of(text: str) -> Root:
    """`/data` or `/data:ro`. Raises ValueError."""
    path, colon, mode = text.partition(":")
    if not path.startswith("/") or (colon and mode != "ro"):
        raise ValueError(f"{text!r} is no folder to allow; write an absolute path, with :ro for reading alone")
    return Root(plain(path), bool(colon))
