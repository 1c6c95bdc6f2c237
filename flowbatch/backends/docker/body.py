"""What is asked of the Engine for an attempt: one pure function, a whitelist of HostConfig keys, safe defaults.

A key that is not written here cannot reach the Engine, whatever a file says. What a policy forbids is refused long before, at
submission; here only what the Engine would do wrong with is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flowbatch.backends.docker import names
from flowbatch.model.container import Container, Cpu, Mount
from flowbatch.model.effects import Place
from flowbatch.model.ids import AttemptKey, node_name
from flowbatch.ports import LaunchOrder

RUN_DIR: Final = "/flowbatch/run"  # the run's scratch folder, in every container of the run
DROPPED: Final = ("NET_RAW", "MKNOD", "AUDIT_WRITE", "SYS_CHROOT")
PIDS_LIMIT: Final = 4096
LABELS_MAX: Final = 50  # as AWS propagates; a label line that is too long would choke the event stream (D24)
LABEL_KEY_MAX: Final = 128
LABEL_VALUE_MAX: Final = 256
OWN_DRIVERS: Final = (None, "awslogs", "local")  # whose logs are kept by us alone: the Engine's copy is only a buffer
LOG_FILES: Final = "2"
MIB: Final = 1 << 20

Body = dict[str, Any]


class Unfit(Exception):
    """The Engine cannot be asked for this; says why."""


def create_body(order: LaunchOrder, container: Container, instance: str, boot: str, *, local: bool = True) -> Body:
    """`local`: the Engine sees the files of this machine; another one's containers do without the run's folder."""
    env, run_dir = _env(order, local)
    body: Body = {
        "Image": container.image,
        "Env": env,
        "Tty": False,
        "OpenStdin": False,
        "Healthcheck": {
            "Test": ["NONE"]
        },  # the image's own would only make work: nobody here asks whether a task is healthy
        "HostConfig": _host_config(order, container, instance, run_dir),
    }
    if order.command:
        body["Cmd"] = list(order.command)
    if container.user:
        body["User"] = container.user
    if container.workdir:
        body["WorkingDir"] = container.workdir
    ours = names.labels(instance, order.key, boot, order.env.get("FLOWBATCH_RUN_ID"))
    body["Labels"] = _tags(container) | ours
    if order.place is not None:
        _take_place(body, order.key, order.place, instance)
    body["Labels"][names.SPEC] = names.spec_hash(body)
    return body


def on_shared_network(place: Place | None) -> bool:
    """Nodes of multi-node jobs are: each container, or the one that holds the network of several."""
    return place is not None and place.nodes is not None and place.holder is None


def _take_place(body: Body, key: AttemptKey, place: Place, instance: str) -> None:
    """Among the containers of the same attempt: on the network of all nodes, or on that of whoever holds it for this one."""
    host = body["HostConfig"]
    if on_shared_network(place):
        network = names.network_name(instance)
        host["NetworkMode"] = network
        endpoint = {"Aliases": [node_name(key.job, place.node)]}
        body["NetworkingConfig"] = {"EndpointsConfig": {network: endpoint}}
    if place.holds:
        if place.share_ipc:
            host["IpcMode"] = "shareable"
    elif place.holder is not None:
        holder = f"container:{names.container_name(instance, place.holder)}"
        host["NetworkMode"] = holder
        if place.share_ipc:
            host["IpcMode"] = holder
        if place.share_pid:
            host["PidMode"] = holder


def _env(order: LaunchOrder, local: bool) -> tuple[list[str], str | None]:
    """Variables as the container sees them: the run's folder has its own place there. And that folder on the host."""
    run_dir = order.env.get("FLOWBATCH_RUN_DIR") if local else None
    if not local and "FLOWBATCH_ITEMS_FILE" in order.env:
        raise Unfit("a chunk's items are a file of this machine, which the Docker Engine elsewhere cannot mount")
    entries = []
    for name, value in order.env.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise Unfit(f"the variable {name!r} cannot be passed to a container")
        if name == "FLOWBATCH_RUN_DIR" and run_dir is None:
            continue
        if run_dir is not None and name in ("FLOWBATCH_RUN_DIR", "FLOWBATCH_ITEMS_FILE"):
            value = RUN_DIR + value.removeprefix(run_dir)
        entries.append(f"{name}={value}")
    return entries, run_dir


def _tags(container: Container) -> dict[str, str]:
    kept = [(key, value) for key, value in container.labels if not key.startswith(names.RESERVED)]
    return {key[:LABEL_KEY_MAX]: value[:LABEL_VALUE_MAX] for key, value in kept[:LABELS_MAX]}


def _host_config(order: LaunchOrder, container: Container, instance: str, run_dir: str | None) -> Body:
    if container.network not in ("bridge", "none", "host"):
        raise Unfit(f"there is no network {container.network!r} for containers: bridge, none or host")
    host: Body = {
        "Init": container.init,
        "NetworkMode": container.network,
        "AutoRemove": False,  # it would take the exit code with it (D20)
        "RestartPolicy": {"Name": "no"},
        "PidsLimit": PIDS_LIMIT,
        "LogConfig": _log_config(order, container),
        "Ulimits": _ulimits(container),
        "Mounts": _mounts(order, container, instance, run_dir),
    }
    if container.privileged:
        host["Privileged"] = True
    else:
        host["SecurityOpt"] = ["no-new-privileges"]
        host["CapDrop"] = list(DROPPED)
    if container.readonly:
        host["ReadonlyRootfs"] = True
    if container.shm_mib is not None:
        host["ShmSize"] = container.shm_mib * MIB
    if container.tmpfs:
        host["Tmpfs"] = {each.target: ",".join((*each.options, f"size={each.size_mib}m")) for each in container.tmpfs}
    if container.devices:
        host["Devices"] = [
            {"PathOnHost": each.host, "PathInContainer": each.target, "CgroupPermissions": each.permissions}
            for each in container.devices
        ]
    return host | _resources(order, container)


def _resources(order: LaunchOrder, container: Container) -> Body:
    vcpus_milli, memory_mib, gpus = order.resources
    host: Body = {}
    if vcpus_milli and (container.cpu or order.cpu) is Cpu.QUOTA:
        host["NanoCpus"] = vcpus_milli * 1_000_000
    elif vcpus_milli:
        host["CpuShares"] = max(vcpus_milli * 1024 // 1000, 2)
    if memory_mib:
        host["Memory"] = memory_mib * MIB
        host["MemorySwap"] = (memory_mib + container.swap_mib) * MIB
        if container.swap_mib and container.swappiness is not None:
            host["MemorySwappiness"] = container.swappiness
    if gpus:
        host["DeviceRequests"] = [{"Driver": "nvidia", "Count": gpus, "Capabilities": [["gpu"]]}]
    return host


def _log_config(order: LaunchOrder, container: Container) -> Body:
    """The Engine's buffer never rotates within our cap: a rotation loses lines to whoever follows (D26, D27)."""
    size = {"max-size": f"{max(2 * order.log_cap_bytes // 1024, 64)}k", "max-file": LOG_FILES}
    log = container.log
    if log is None or log.driver in OWN_DRIVERS:
        return {"Type": "local", "Config": size}
    if log.driver == "json-file":
        return {"Type": "json-file", "Config": dict(log.options) | size}
    return {"Type": log.driver, "Config": dict(log.options)}


def _ulimits(container: Container) -> list[Body]:
    limits: Mapping[str, tuple[int, int]] = {"core": (0, 0)} | {
        each.name: (each.soft, each.hard) for each in container.ulimits
    }
    return [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in limits.items()]


def _mounts(order: LaunchOrder, container: Container, instance: str, run_dir: str | None) -> list[Body]:
    """Never as Binds: those make a missing folder on the host, as root (D30)."""
    mounts = [_mount(order, each, instance) for each in container.mounts]
    if run_dir is not None:
        mounts.append({"Type": "bind", "Source": run_dir, "Target": RUN_DIR, "ReadOnly": False})
    return mounts


def _mount(order: LaunchOrder, mount: Mount, instance: str) -> Body:
    if not mount.volume:
        return {"Type": "bind", "Source": mount.source, "Target": mount.target, "ReadOnly": mount.readonly}
    run = order.env.get("FLOWBATCH_RUN_ID")
    if run is None:
        raise Unfit(f"the volume {mount.source!r} belongs to a run, and this job has none")
    marks = {names.INSTANCE: instance, names.RUN: run, names.VOLUME: mount.source}
    if mount.keep:
        marks[names.KEEP] = "1"
    return {
        "Type": "volume",
        "Source": names.volume_name(instance, run, mount.source),
        "Target": mount.target,
        "ReadOnly": mount.readonly,
        "VolumeOptions": {"Labels": marks},
    }
