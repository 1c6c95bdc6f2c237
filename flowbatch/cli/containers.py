"""What of a job is a container's, for `check`, `show` and `graph`; and what about it may surprise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from flowbatch.model.container import Cpu, Pull
from flowbatch.model.resources import memory_text

if TYPE_CHECKING:
    from flowbatch.model.container import Container, Mount
    from flowbatch.model.jobspec import JobSpec


def words_of(box: Container | None) -> list[str]:
    """In the order of what matters most; what is as usual is left out. None for a process."""
    if box is None:
        return []
    words = [f"image {box.image}" + ("" if box.pull is Pull.MISSING else f" (pull: {box.pull.value})")]
    words += [mount_text(mount) for mount in box.mounts]
    words += [f"tmpfs {each.target} of {memory_text(each.size_mib)}" for each in box.tmpfs]
    words += [f"device {each.host} ({each.permissions})" for each in box.devices]
    if box.privileged:
        words.append("privileged")
    if box.network != "bridge":
        words.append(f"network {box.network}")
    if box.readonly:
        words.append("its root read-only")
    if box.user is not None:
        words.append(f"as {box.user}")
    if box.workdir is not None:
        words.append(f"in {box.workdir}")
    if box.shm_mib is not None:
        words.append(f"/dev/shm of {memory_text(box.shm_mib)}")
    if box.swap_mib:
        words.append(f"{memory_text(box.swap_mib)} swap")
    words += [f"ulimit {each.name} {each.soft}:{each.hard}" for each in box.ulimits]
    if box.cpu is not None:
        words.append("vCPUs as a cap" if box.cpu is Cpu.QUOTA else "vCPUs as a weight")
    if not box.init:
        words.append("no init")
    if box.log is not None:
        words.append(f"log driver {box.log.driver}")
    if box.labels:
        words.append("tags as labels")
    return words


def mount_text(mount: Mount) -> str:
    """`volume frames at /frames`, `/srv/assets at /assets (read-only)`"""
    notes = ["read-only"] if mount.readonly else []
    notes += ["kept"] if mount.keep else []
    source = f"volume {mount.source}" if mount.volume else mount.source
    return f"{source} at {mount.target}" + (f" ({', '.join(notes)})" if notes else "")


def container_object(box: Container | None) -> dict[str, object] | None:
    if box is None:
        return None
    return {
        "image": box.image,
        "pull": box.pull.value,
        "user": box.user,
        "workdir": box.workdir,
        "mounts": [
            {
                "source": each.source,
                "target": each.target,
                "readonly": each.readonly,
                "volume": each.volume,
                "keep": each.keep,
            }
            for each in box.mounts
        ],
        "tmpfs": [
            {"target": each.target, "size_mib": each.size_mib, "options": list(each.options)} for each in box.tmpfs
        ],
        "ulimits": [{"name": each.name, "soft": each.soft, "hard": each.hard} for each in box.ulimits],
        "devices": [
            {"host": each.host, "target": each.target, "permissions": each.permissions} for each in box.devices
        ],
        "privileged": box.privileged,
        "readonly": box.readonly,
        "init": box.init,
        "shm_mib": box.shm_mib,
        "swap_mib": box.swap_mib,
        "swappiness": box.swappiness,
        "network": box.network,
        "log": None if box.log is None else {"driver": box.log.driver, "options": dict(box.log.options)},
        "cpu": None if box.cpu is None else box.cpu.value,
        "labels": dict(box.labels),
    }


def alike(names: Iterable[str]) -> list[str]:
    """Each once: a job may have several containers."""
    return list(dict.fromkeys(names))


def notes_on(specs: Sequence[JobSpec]) -> list[str]:
    """What is legal and may surprise."""
    from flowbatch.cli.check import some
    from flowbatch.spec.images import moves
    from flowbatch.spec.policy import KEPT_LOGS

    boxes = [
        (spec.key, program.container) for spec in specs for program in spec.programs if program.container is not None
    ]
    found = []
    if moving := alike(key for key, box in boxes if box.pull is not Pull.NEVER and moves(box.image)):
        found.append(f"{some(moving)}: `latest` is whatever was pulled last; a tag or a digest says which image runs.")
    if lords := alike(key for key, box in boxes if box.privileged):
        found.append(f"{some(lords)}: privileged, so that what runs there is root on this machine.")
    if open_ := alike(key for key, box in boxes if box.network == "host"):
        found.append(f"{some(open_)}: the network is this machine's own, with all that listens on it.")
    if silent := alike(key for key, box in boxes if box.log is not None and box.log.driver not in KEPT_LOGS):
        found.append(f"{some(silent)}: the log goes elsewhere, `flowbatch logs` has nothing to show.")
    passing = dict.fromkeys(m.source for _, box in boxes for m in box.mounts if m.volume and not m.keep)
    if passing:
        goes = "goes" if len(passing) == 1 else "go"
        found.append(
            f"volume {some(list(passing))} {goes} with the run; `volumes: {{NAME: {{keep: true}}}}` keeps one."
        )
    return found
