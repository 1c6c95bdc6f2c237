"""What of a layer is a container's: settled from both spellings, merged, made into the job's Container.

Kept apart from the rest of a layer, which most jobs of a long file have alone. Lists merge by what they are about: mounts,
tmpfs and devices by their path in the container, ulimits by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from flowbatch.model.container import Container, Cpu, Device, Log, Mount, Pull, Tmpfs, Ulimit
from flowbatch.spec import container_values as values
from flowbatch.spec.container_schema import IGNORED, LinuxModel, PropertiesModel
from flowbatch.spec.findings import Findings
from flowbatch.spec.policy import plain
from flowbatch.spec.positions import Path
from flowbatch.spec.scalars import shown

if TYPE_CHECKING:
    from flowbatch.spec.layers import Layer
    from flowbatch.spec.needs import Draft
    from flowbatch.spec.places import Surroundings
    from flowbatch.spec.program_schema import ProgramModel

KEYS: Final = frozenset(
    {
        "image", "pull", "volumes", "ulimits", "shm", "tmpfs", "readonly", "network", "privileged", "init", "swap",
        "devices", "log", "cpu", "propagate_tags", "platform_capabilities",
    }
)  # fmt: skip
AWS: Final = ("containerOverrides", "containerProperties")
MEMORY_MIN_MIB: Final = 6  # the Docker Engine takes no less
OWN_LABELS: Final = "flowbatch."
TAG_MAX: Final = 128
TAG_VALUE_MAX: Final = 256
LABELS_MAX: Final = 50
_DEFAULTS: Final = Container("")
_PLAIN: Final = (
    "image", "pull", "privileged", "readonly", "init", "shm_mib", "swap_mib", "swappiness", "network", "log", "cpu",
    "propagate",
)  # fmt: skip
_BY_NAME: Final = ("mounts", "tmpfs", "ulimits", "devices")


_PROPERTIES: Final = {  # what holds what of the short spelling; linuxParameters are looked into
    "image": "image",
    "privileged": "privileged",
    "readonly": "readonly",
    "ulimits": "ulimits",
    "volumes": "volumes",
    "mount_points": "volumes",
    "log_configuration": "log",
}


class ContainerLayer(Struct):
    """None, and empty, is: not said here."""

    at: dict[tuple[str, str], Path] = field(default_factory=dict)  # (short key, path or name of an entry) → where
    image: str | None = None
    pull: Pull | None = None
    privileged: bool | None = None
    readonly: bool | None = None
    init: bool | None = None
    shm_mib: int | None = None
    swap_mib: int | None = None
    swappiness: int | None = None
    network: str | None = None
    log: Log | None = None
    cpu: Cpu | None = None
    propagate: bool | None = None
    mounts: dict[str, Mount] = field(default_factory=dict)
    tmpfs: dict[str, Tmpfs] = field(default_factory=dict)
    ulimits: dict[str, Ulimit] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)

    def path(self, key: str, entry: str = "") -> Path:
        return self.at.get((key, entry)) or self.at.get((key, "")) or ()


def merged(upper: ContainerLayer | None, lower: ContainerLayer | None) -> ContainerLayer | None:
    """A new layer; neither argument is changed."""
    if upper is None or lower is None:
        return upper or lower
    both = ContainerLayer({**lower.at, **upper.at})
    for name in _PLAIN:
        value = getattr(upper, name)
        setattr(both, name, getattr(lower, name) if value is None else value)
    for name in _BY_NAME:
        setattr(both, name, {**getattr(lower, name), **getattr(upper, name)})
    return both


def settle(model: ProgramModel, origin: Path, findings: Findings) -> ContainerLayer:
    """Of the short spelling, where a mapping has any of KEYS."""
    layer = ContainerLayer()
    for name in sorted(KEYS & model.model_fields_set):
        key = {"propagate_tags": "propagateTags", "platform_capabilities": "platformCapabilities"}.get(name, name)
        layer.at[name, ""] = (*origin, key)
    layer.image, layer.network, layer.privileged = model.image, model.network, model.privileged
    layer.readonly, layer.init = model.readonly, model.init
    layer.propagate = getattr(model, "propagate_tags", None)  # a whole job's, as are its platforms
    layer.shm_mib, layer.swap_mib = model.shm, model.swap
    layer.pull = None if model.pull is None else Pull(model.pull)
    if model.cpu is not None:
        layer.cpu = Cpu(model.cpu)
    elif getattr(model, "platform_capabilities", None) == ["FARGATE"]:
        layer.cpu = Cpu.QUOTA  # where a vCPU is a cap
    if model.log is not None:
        layer.log = _log(model.log.driver, model.log.options)
    desk = _Desk(layer, findings)
    for index, mount in enumerate(model.volumes or ()):
        desk.mount(mount, (*origin, "volumes", index))
    for index, tmpfs in enumerate(model.tmpfs or ()):
        at = (*origin, "tmpfs") if isinstance(findings.positions.written((*origin, "tmpfs")), str) else None
        desk.tmpfs(tmpfs, at or (*origin, "tmpfs", index))
    for index, device in enumerate(model.devices or ()):
        desk.device(device, (*origin, "devices", index))
    for name, (soft, hard) in (model.ulimits or {}).items():
        desk.ulimit(Ulimit(name, soft, hard), (*origin, "ulimits", name))
    return layer


def settle_properties(model: PropertiesModel, layer: ContainerLayer, path: Path, findings: Findings) -> None:
    """Of AWS's containerProperties, into what the short spelling left."""
    given = model.model_fields_set
    for name, key in _PROPERTIES.items():
        alias = PropertiesModel.model_fields[name].alias or name
        if name not in given or getattr(model, name) in (None, []):
            continue
        if (key, "") in layer.at:
            short = layer.at[key, ""][-1]
            findings.problem((*path, alias), f"says the same as {str(short)!r}; give one of them", at_key=True)
        elif key != "volumes" or name == "mount_points":
            layer.at[key, ""] = (*path, alias)
    for name in IGNORED:
        if name in given:
            alias = str(PropertiesModel.model_fields[name].alias)
            findings.warn((*path, alias), "means nothing on this machine and is ignored")
    layer.image = layer.image or model.image
    layer.privileged = model.privileged if layer.privileged is None else layer.privileged
    layer.readonly = model.readonly if layer.readonly is None else layer.readonly
    desk = _Desk(layer, findings)
    for index, ulimit in enumerate(model.ulimits or ()):
        at = (*path, "ulimits", index)
        try:
            desk.ulimit(Ulimit(ulimit.name, *values.ordered(ulimit.soft, ulimit.hard)), at)
        except ValueError as error:
            findings.problem(at, str(error))
    if model.volumes or model.mount_points:
        _mount_points(model, desk, path, findings)
    if model.log_configuration is not None and layer.log is None:
        layer.log = _log(model.log_configuration.driver, model.log_configuration.options)
    if model.linux_parameters is not None:
        _linux(model.linux_parameters, desk, (*path, "linuxParameters"))


def _mount_points(model: PropertiesModel, desk: _Desk, path: Path, findings: Findings) -> None:
    volumes: dict[str, str | None] = {}
    for index, volume in enumerate(model.volumes or ()):
        at = (*path, "volumes", index)
        source = None if volume.host is None else volume.host.source
        if volume.name in volumes:
            findings.problem((*at, "name"), f"{volume.name!r} is given twice")
        if source is not None and source[0] not in "/.~":
            findings.problem(
                (*at, "host", "sourcePath"), f"{source!r} is no path; write ./{source} for one from this folder"
            )
        elif source is None:
            try:
                values.volume_name(volume.name)
            except ValueError as error:
                findings.problem((*at, "name"), str(error))
        volumes[volume.name] = source
    for index, point in enumerate(model.mount_points or ()):
        at = (*path, "mountPoints", index)
        if point.source not in volumes:
            findings.unknown((*at, "sourceVolume"), "volume", point.source, volumes)
            continue
        source = volumes[point.source]
        desk.mount(Mount(source or point.source, point.target, point.readonly, volume=source is None), at)


def _linux(model: LinuxModel, desk: _Desk, path: Path) -> None:
    layer, findings = desk.layer, desk.findings
    for name in ("init", "shm", "tmpfs", "swap", "swappiness", "devices"):
        if getattr(model, name) in (None, []):
            continue
        at = (*path, LinuxModel.model_fields[name].alias or name)
        if (name, "") in layer.at:
            findings.problem(at, f"says the same as {str(layer.at[name, ''][-1])!r}; give one of them", at_key=True)
        else:
            layer.at[name, ""] = at
    layer.init = model.init if layer.init is None else layer.init
    layer.shm_mib = model.shm if layer.shm_mib is None else layer.shm_mib
    layer.swap_mib = model.swap if layer.swap_mib is None else layer.swap_mib
    layer.swappiness = model.swappiness
    if model.swappiness is not None and layer.swap_mib is None:
        findings.warn((*path, "swappiness"), "means nothing without maxSwap, as in AWS")
    for index, tmpfs in enumerate(model.tmpfs or ()):
        at = (*path, "tmpfs", index)
        try:
            desk.tmpfs(Tmpfs(tmpfs.target, tmpfs.size, values.tmpfs_options(tmpfs.options or ())), at)
        except ValueError as error:
            findings.problem((*at, "mountOptions"), str(error))
    for index, device in enumerate(model.devices or ()):
        letters = [values.PERMISSIONS[word] for word in device.permissions or values.PERMISSIONS]
        made = Device(device.host, device.target or device.host, values.permissions(letters))
        desk.device(made, (*path, "devices", index))


E = TypeVar("E")


class _Desk(Struct):
    """Takes entries of lists, each with where it stands, and refuses one that is there already."""

    layer: ContainerLayer
    findings: Findings

    def mount(self, mount: Mount, at: Path) -> None:
        self._put(self.layer.mounts, "volumes", mount.target, mount, at)

    def tmpfs(self, tmpfs: Tmpfs, at: Path) -> None:
        self._put(self.layer.tmpfs, "tmpfs", tmpfs.target, tmpfs, at)

    def device(self, device: Device, at: Path) -> None:
        self._put(self.layer.devices, "devices", device.target, device, at)

    def ulimit(self, ulimit: Ulimit, at: Path) -> None:
        self._put(self.layer.ulimits, "ulimits", ulimit.name, ulimit, at)

    def _put(self, held: dict[str, E], key: str, name: str, entry: E, at: Path) -> None:
        if name in held:
            self.findings.problem(at, f"{name} is given twice")
        held[name] = entry
        self.layer.at[key, name] = at


def _log(driver: str, options: Mapping[str, str] | None) -> Log:
    return Log(driver, tuple((options or {}).items()))


def judge(job: Layer, findings: Findings) -> None:
    """Of a whole job; what needs neither its place nor a policy."""
    layer = job.container
    if layer is None:
        return
    if layer.image is None:
        for (_, entry), path in layer.at.items():
            if not entry and path[0] != "defaults":
                said = "belongs to a container, and the job has no `image`; give it one, or leave this out"
                findings.problem(path, said, at_key=True)
        return
    for target in layer.mounts.keys() & layer.tmpfs.keys():
        findings.problem(layer.path("tmpfs", target), f"{target} is in `volumes` too; one thing lies at a path")
    memory_mib = job.memory_mib
    if memory_mib is not None and memory_mib < MEMORY_MIN_MIB:
        at = findings.positions.first(job.paths("memory", "resourceRequirements", *AWS))
        findings.problem(at, f"a container needs at least {MEMORY_MIN_MIB} MiB, found {memory_mib}")
    if layer.swap_mib and memory_mib is None:
        findings.problem(layer.path("swap"), "swap lies beyond a memory limit, and the job has none; give it `memory`")
    if job.user is not None and (wrong := values.container_user(job.user)) is not None:
        findings.problem(findings.positions.first(job.paths("user", *AWS)), wrong)
    if job.workdir is not None and not job.workdir.startswith("/"):
        said = f"a container's folder is an absolute path in it, found {shown(job.workdir)}"
        findings.problem(findings.positions.first(job.paths("workdir")), said)
    if layer.propagate:
        _judge_labels(job, findings)


def labels_of(job: Layer) -> dict[str, str]:
    """What propagateTags brings: the definition's tags and the job's, of which the latter win (aws-batch.md §6.8)."""
    return {**(job.definition_tags or {}), **(job.tags or {})}


def _judge_labels(job: Layer, findings: Findings) -> None:
    labels = labels_of(job)
    if len(labels) > LABELS_MAX:
        many = (
            f"propagates {len(labels)} tags with its definition's, and AWS Batch fails such a job; {LABELS_MAX} at most"
        )
        findings.problem(findings.positions.first(job.paths("tags")), many, at_key=True)
    for name, value in labels.items():
        said = None
        if name.startswith(OWN_LABELS):
            said = f"{shown(name)} is reserved: labels that begin with {OWN_LABELS} are set by flowbatch"
        elif not 1 <= len(name) <= TAG_MAX or len(value) > TAG_VALUE_MAX:
            said = f"a propagated tag has at most {TAG_MAX} characters, its value {TAG_VALUE_MAX}"
        if said is not None:
            findings.problem(findings.positions.first([(*at, name) for at in job.paths("tags")]), said, at_key=True)


def container_of(job: Layer, keep: frozenset[str], around: Surroundings) -> Container | None:
    """`keep` names the volumes that outlive their run."""
    layer = job.container
    if layer is None or layer.image is None:
        return None
    said = {name: value for name in _PLAIN if name != "propagate" and (value := getattr(layer, name)) is not None}
    return replace(
        _DEFAULTS,
        **said,
        user=job.user,
        workdir=job.workdir,
        mounts=tuple(_placed(mount, keep, around) for mount in layer.mounts.values()),
        tmpfs=tuple(layer.tmpfs.values()),
        ulimits=tuple(layer.ulimits.values()),
        devices=tuple(layer.devices.values()),
        labels=tuple(labels_of(job).items()) if layer.propagate else (),
    )


def warn_of_unused(volumes: Iterable[str], jobs: Iterable[Draft], findings: Findings) -> None:
    """A volume to be kept under a name that no job mounts is a slip of the pen, and what it should keep would go."""
    unused = dict.fromkeys(volumes)
    if not unused:
        return
    for job in jobs:
        for mount in job.layer.container.mounts.values() if job.layer.container is not None else ():
            unused.pop(mount.source if mount.volume else "", None)
    for name in unused:
        findings.warn(("volumes", name), "no job mounts this volume")


def _placed(mount: Mount, keep: frozenset[str], around: Surroundings) -> Mount:
    if mount.volume:
        return replace(mount, keep=mount.source in keep)
    return replace(mount, source=plain(around.absolute(mount.source)))
