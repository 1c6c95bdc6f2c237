"""flowbatch.yaml: environments, queues and limits, beside the state folder or named by `--config` (semantics.md 13)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field
from msgspec.structs import replace

from flowbatch.errors import InputError, Problem, WorkflowInvalid
from flowbatch.model.events import ChildEvents, children_wanted
from flowbatch.model.jobspec import Environment, Queue
from flowbatch.model.notify import Notify
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Configure
from flowbatch.model.tokens import Token
from flowbatch.spec.policy import NOTHING, Policy
from flowbatch.spec.serving import Serve

if TYPE_CHECKING:
    from flowbatch.spec.environment_schema import HostModel
    from flowbatch.spec.schema import SecretModel

NOTIFY_WAIT_MS: Final = 10_000
FILE: Final = "flowbatch.yaml"
DAEMON_FILE: Final = Path("/etc/docker/daemon.json")
MEMORY_SHARE: Final = 0.85
RETENTION_MS_MIN: Final = 24 * 3600 * 1000
LOG_CAP_BYTES: Final = 64 * 1024 * 1024


class Settings(Struct, frozen=True):
    environments: tuple[Environment, ...]
    queues: tuple[Queue, ...]
    log_cap_bytes: int = LOG_CAP_BYTES
    retention_ms: int | None = None  # None: for ever
    child_events: ChildEvents = ChildEvents.NONE
    file: str | None = None
    tokens: tuple[Token, ...] = ()  # consumable resources that all runs share
    policy: Policy = NOTHING  # of containers; a workflow's own folder comes to it
    host: Resources | None = None  # the guard where the settings name it, else the machine's or what is declared larger
    disk_free_mib: int | None = None  # on Docker's disk, before a container starts; None: the usual
    notify: tuple[Notify, ...] = ()
    allow_networks: tuple[str, ...] = ()  # that webhooks may reach though they are not public
    notify_wait_ms: int = NOTIFY_WAIT_MS  # at the end of a run
    notify_warnings: tuple[str, ...] = ()
    serve: Serve = field(default_factory=Serve)
    secrets: Mapping[str, SecretModel] = field(default_factory=dict)  # the settings' own, files by absolute paths
    allow_environments: bool = False  # a server takes environments and queues that a workflow brings
    allow_paths: tuple[str, ...] = ()  # beside a workflow's folder, what its arrays may read under a server
    audit_retention_ms: int | None = None  # None: for ever
    audit_mirror: str | None = None  # absolute

    @property
    def children_logged(self) -> ChildEvents:
        """What the settings ask for, or one of their receivers."""
        return max(self.child_events, children_wanted(tuple(each.filter for each in self.notify)))


def machine() -> Resources:
    """The default environment: the CPUs that this process may use, and 85 % of the memory."""
    return Resources(len(os.sched_getaffinity(0)) * 1000, int(memory_mib() * MEMORY_SHARE))


def memory_mib() -> int:
    """Of this machine, or of the control group that we are in where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text(encoding="ascii").strip()
        except OSError:
            continue  # the other version of cgroups, or none
        if text.isdigit():
            total = min(total, int(text))
    return total // (1024 * 1024)


def host() -> Resources:
    """What all that runs here may hold together: as `machine`, and the GPUs that NVIDIA's driver lists."""
    try:
        gpus = len(os.listdir("/proc/driver/nvidia/gpus"))
    except OSError:
        gpus = 0  # no such driver
    return machine()._replace(gpus=gpus)


def host_of(model: HostModel) -> Resources:
    """What the settings leave out is the machine's."""
    here = host()
    return Resources(
        here.vcpus_milli if model.vcpus is None else model.vcpus,
        here.memory_mib if model.memory is None else model.memory,
        here.gpus if model.gpus is None else model.gpus,
    )


def configuration(settings: Settings) -> Configure:
    """What an engine is told of them."""
    guard = host() if settings.host is None else settings.host
    fixed = settings.host is not None
    return Configure(settings.environments, settings.queues, settings.tokens, host=guard, host_fixed=fixed)


def defaults() -> Settings:
    return Settings((Environment("default", "local", machine()),), (Queue("default"),))


def read_settings(state_folder: Path, config: str | None) -> Settings:
    """The named file, else flowbatch.yaml beside the state folder, else the defaults. Raises WorkflowInvalid, InputError."""
    path = Path(config) if config is not None else state_folder.parent / FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if config is None:
            return with_variables(defaults())
        raise InputError(f"{path}: there is no such settings file; --config and FLOWBATCH_CONFIG name one") from None
    except OSError as error:
        raise InputError(f"{path}: the settings cannot be read: {error.strerror}") from error
    return with_variables(parse_settings(text, str(path)))


def parse_settings(text: bytes, file: str) -> Settings:
    from flowbatch.spec.findings import Findings  # pydantic only where there is a file
    from flowbatch.spec.places import Surroundings
    from flowbatch.spec.settings_schema import SettingsModel, places, receivers, served
    from flowbatch.spec.validation import validate
    from flowbatch.spec.yaml import read

    positions = read(text, file)
    checked = validate(positions.root if positions.root is not None else {}, SettingsModel, positions)
    Findings(positions, checked.problems).raise_any()
    if checked.model is None:
        raise WorkflowInvalid([Problem(file, 1, 1, "", "a mapping of settings is needed")])
    model = checked.model
    environments, queues, problems = places(model, machine(), positions)
    around = Surroundings(os.path.dirname(os.path.abspath(file)), str(Path.home()))
    notify, wrong, unwise = receivers(model, around.folder, around.home, positions)
    serve, folders_wrong = served(model, around.folder, around.home, positions)
    problems += wrong + folders_wrong
    if problems:
        raise WorkflowInvalid(problems)
    base = defaults()
    limits = model.limits
    made = Settings(
        environments or base.environments,
        queues,
        limits.log * 1024 * 1024 if limits is not None and limits.log else LOG_CAP_BYTES,
        model.retention,
        ChildEvents.NONE if model.events is None else ChildEvents(model.events.children),
        file,
        tuple(each.token(name) for name, each in (model.tokens or {}).items()),
        NOTHING if model.policy is None else model.policy.policy(),
        None if model.host is None else host_of(model.host),
        None if limits is None else limits.disk_free,
    )
    webhooks, audit = model.webhooks, model.audit
    mirror = None if audit is None else audit.mirror
    return replace(
        made,
        serve=serve,
        secrets={
            name: each if each.file is None else each.model_copy(update={"file": around.absolute(each.file)})
            for name, each in (model.secrets or {}).items()
        },
        allow_environments=model.allow_workflow_environments,
        allow_paths=tuple(model.allow_paths or ()),
        audit_retention_ms=None if audit is None else audit.retention,
        audit_mirror=None if mirror is None else around.absolute(mirror),
        notify=notify,
        allow_networks=() if webhooks is None else tuple(webhooks.allow_networks or ()),
        notify_wait_ms=NOTIFY_WAIT_MS if webhooks is None else webhooks.wait,
        notify_warnings=tuple(map(str, unwise)),
    )


def with_variables(settings: Settings) -> Settings:
    """FLOWBATCH_CHILD_EVENTS (none, ends, all) and FLOWBATCH_LOG_CAP (MiB) win over the file."""
    children = os.environ.get("FLOWBATCH_CHILD_EVENTS")
    cap = os.environ.get("FLOWBATCH_LOG_CAP")
    if children is not None:
        if children.upper() not in ChildEvents.__members__:
            raise InputError(f"FLOWBATCH_CHILD_EVENTS is none, ends or all, not {children!r}")
        settings = replace(settings, child_events=ChildEvents[children.upper()])
    if cap is not None:
        if not (cap.isascii() and cap.isdigit()) or int(cap) < 1:
            raise InputError(f"FLOWBATCH_LOG_CAP is a whole number of MiB from 1, not {cap!r}")
        settings = replace(settings, log_cap_bytes=int(cap) * 1024 * 1024)
    return settings


def protecting(settings: Settings, state_folder: Path) -> Policy:
    """The settings' policy, with what is flowbatch's and Docker's own and never mounted."""
    own = [os.path.abspath(state_folder), *docker_paths()]
    if settings.file is not None:
        own.append(os.path.abspath(settings.file))  # it says what is allowed
    return settings.policy.plus(Policy(protected=tuple(own)))


def docker_paths() -> list[str]:
    """Where Docker listens and keeps its data when it is not where it usually is."""
    import json

    found = []
    host = os.environ.get("DOCKER_HOST", "")
    if host.startswith("unix:///"):
        found.append(host.removeprefix("unix://"))
    try:
        root = json.loads(DAEMON_FILE.read_text(encoding="utf-8")).get("data-root")
    except (OSError, ValueError, AttributeError):
        root = None  # there is none, or it is not for us to judge
    if isinstance(root, str) and root.startswith("/"):
        found.append(root)
    return found
