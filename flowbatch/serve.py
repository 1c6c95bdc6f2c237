"""The long-running server: an engine, and the ways to it over HTTP, in one root task group.

What listens for others is put together here and nowhere else; the engine below is the one that `run` has.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Protocol

import anyio
from anyio.abc import TaskStatus
from msgspec import Struct, field

from flowbatch.app import App, open_app
from flowbatch.engine.secrets import absent
from flowbatch.errors import FlowbatchError, InputError
from flowbatch.folder import StateFolder, short_socket_path
from flowbatch.http import keys, records
from flowbatch.http.arns import Account
from flowbatch.http.authentication import ADMINISTRATOR, EVERYTHING, Authenticator
from flowbatch.http.files import FolderWarden
from flowbatch.http.gate import make_gate
from flowbatch.http.health import Health
from flowbatch.http.native import table as native
from flowbatch.http.native.running import Compile
from flowbatch.http.operations import logs, table
from flowbatch.http.server import Server
from flowbatch.http.service import Limits, Service
from flowbatch.logs import Logger
from flowbatch.model.access import KeyRow, PolicyRow
from flowbatch.model.ids import RunId
from flowbatch.model.stimuli import PutKey, PutPolicy, Resume
from flowbatch.notices import try_out
from flowbatch.settings import Settings, configuration, protecting
from flowbatch.spec.policy import Policy
from flowbatch.spec.serving import Folder
from flowbatch.spec.submitting import Vault
from flowbatch.store.reader import Reader

log = Logger(__name__)

PORT: Final = 7070
NEXT_START: Final = ("serve", "log_cap_bytes", "disk_free_mib")  # settings that a running server keeps
FLUSH_S: Final = 3.0


class Listening(Struct, frozen=True):
    """Where the server is reached, and how far it trusts whoever reaches it."""

    addresses: tuple[tuple[str, int], ...] = (("127.0.0.1", PORT),)
    names: tuple[str, ...] = ()  # what else it is called
    open_to_all: bool = False
    certificate: tuple[Path, Path] | None = None  # of TLS: the chain and its key
    behind_proxy: bool = False  # which speaks TLS for us
    account: Account = field(default_factory=Account)
    limits: Limits = field(default_factory=Limits)

    def judge(self) -> None:
        """Raises InputError: what would hand this machine to the network is refused (security.md §3)."""
        beyond = [host for host, _ in self.addresses if not ip_address(host).is_loopback]
        if beyond and self.open_to_all:
            raise InputError(
                f"--listen {beyond[0]} with --insecure-no-auth: everybody who reaches this machine could run programs on it; "
                "without keys only a loopback address is listened on"
            )
        if self.behind_proxy and self.open_to_all:
            raise InputError(
                "--behind-proxy with --insecure-no-auth: whoever reaches the proxy could run programs on this machine; leave one out"
            )
        if beyond and self.certificate is None and not self.behind_proxy:
            raise InputError(
                f"--listen {beyond[0]}: beyond this machine requests must be encrypted; give --tls-cert and --tls-key, or "
                "--behind-proxy where something else does it"
            )


class Serving(Struct, frozen=True):
    """A server that runs."""

    app: App
    server: Server
    service: Service
    urls: tuple[str, ...]
    administrator: KeyRow | None  # made in this start, or found
    secret: str | None
    force: InForce
    tls: ssl.SSLContext | None = None


class Watched(Protocol):
    """A library that has been opened, and goes on until it is cancelled."""

    async def run(self) -> None: ...
    async def start(self, name: str, params: Mapping[str, str]) -> RunId: ...
    def files(self) -> list[dict[str, Any]]: ...


class Grounds(Struct, frozen=True):
    """What a library stands on. `settings`: those in force; `warden`: says what the files of a folder may."""

    app: App
    settings: Callable[[], Settings]
    warden: Callable[[Folder], FolderWarden]


WatchFolder = Callable[[Grounds], AbstractContextManager[Watched]]
Compiling = Callable[[Grounds], Compile]  # of workflows that are submitted


class InForce:
    """The settings that hold now, and what must be told of others."""

    def __init__(self, settings: Settings, state_folder: StateFolder) -> None:
        self.settings = settings
        self._folder = state_folder

    @property
    def policy(self) -> Policy:
        return protecting(self.settings, self._folder.path)

    @property
    def vault(self) -> Vault:
        return Vault(self.settings.secrets, absent)

    async def change(self, fresh: Settings, running: Serving) -> None:
        """Everything goes by the new ones from here on, but for what a server is made with."""
        later = [name for name in NEXT_START if getattr(fresh, name) != getattr(self.settings, name)]
        self.settings = fresh
        running.service.govern(self.policy, self.vault)
        running.app.engine.post(configuration(fresh))
        await running.app.notices.change(fresh)
        log.info("settings_read", file=fresh.file)
        if later:
            log.warning("settings_wait_for_the_next_start", settings=", ".join(later))


@asynccontextmanager
async def serving(
    folder: StateFolder,
    settings: Settings,
    listening: Listening,
    watch: Sequence[WatchFolder] = (),
    compiling: Compiling | None = None,
) -> AsyncIterator[Serving]:
    """Everything runs while the body does; tasks go on when it ends. `watch`: each opens a folder of workflows.
    Raises InputError, FolderHeld, StoreError."""
    listening.judge()
    tls = make_tls(listening.certificate)
    async with open_app(folder, settings, for_others=True) as app:
        master = keys.read_master(folder.master_key)
        authenticator = Authenticator(
            lambda: app.engine.machine.state, master, listening.account, open_to_all=listening.open_to_all
        )
        administrator = await bootstrap(app, folder, master)
        app.verbs.owner = authenticator.user_arn("owner")
        force = InForce(settings, folder)
        service = Service(
            app.engine, folder.database, folder.logs, master, account=listening.account, policy=force.policy,
            folder=os.getcwd(), limits=listening.limits, vault=force.vault, hold_ups=app.hold_ups,
        )  # fmt: skip

        def warden(rule: Folder) -> FolderWarden:
            return FolderWarden(service, lambda: authenticator.local(rule.principal, rule.policies))

        grounds = Grounds(app, lambda: force.settings, warden)
        service.receivers = lambda: force.settings.notify
        service.try_sink = lambda sink: try_out(force.settings, app.engine.clock, sink)
        if compiling is not None:
            service.compile = compiling(grounds)
        health = Health(service, folder.database, lambda: [each.name for each in force.settings.notify])
        with ExitStack() as held, service:
            sockets = [held.enter_context(bound(host, port)) for host, port in listening.addresses]
            gate = make_gate([host for host, _ in listening.addresses], listening.names)
            server = Server(
                service,
                authenticator,
                gate,
                table.routes(),
                table.prefixed(),
                logs.targets(),
                health.pages(),
                native.router(),
            )
            health.server = server
            sockets.append(held.enter_context(owners_socket(folder)))
            scheme = "http" if tls is None else "https"
            libraries = [held.enter_context(each(grounds)) for each in watch]
            service.libraries = libraries
            urls = tuple(url(scheme, each) for each in sockets if each.family.name != "AF_UNIX")
            async with anyio.create_task_group() as tasks:
                await tasks.start(server.run, sockets, tls, name="http")
                await tasks.start(partial(keep_records, app, folder, force), name="audit")
                for number, library in enumerate(libraries):
                    tasks.start_soon(library.run, name=f"library {number}")
                secret = (
                    None
                    if administrator is None
                    else keys.secret_of(master, administrator.id, administrator.generation)
                )
                yield Serving(app, server, service, urls, administrator, secret, force, tls)
                tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), anyio.move_on_after(FLUSH_S):
                await app.engine.ask(lambda ticket: Resume(ticket, RunId("")))  # behind the last records of calls


async def run(
    folder: StateFolder,
    settings: Settings,
    listening: Listening,
    read_again: Callable[[], Settings],
    started: Callable[[Serving], None],
    watch: Sequence[WatchFolder] = (),
    compiling: Compiling | None = None,
) -> int:
    """Until SIGTERM or SIGINT: intake stops, what is asked is answered, tasks are left running. SIGHUP reads the settings and
    the certificate again."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with serving(folder, settings, listening, watch, compiling) as running:
            started(running)
            async for number in signals:
                if number != signal.SIGHUP:
                    break
                try:
                    if running.tls is not None and listening.certificate is not None:
                        load(running.tls, listening.certificate)
                    fresh = read_again()
                except FlowbatchError as error:
                    log.error("settings_refused", error=str(error))  # the old ones stay in force
                else:
                    await running.force.change(fresh, running)
    return 0


async def keep_records(
    app: App, folder: StateFolder, force: InForce, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Never returns: the mirror of the audit log, and its end."""

    def make() -> records.Mirror | None:
        path = force.settings.audit_mirror
        return None if path is None else records.Mirror(Path(path), folder.database)

    with Reader(folder.database) as looked:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(records.mirror, app.engine, make, name="audit mirror")
            kept = partial(records.retain, app.engine, app.verbs, looked, lambda: force.settings.audit_retention_ms)
            tasks.start_soon(kept, name="audit retention")
            task_status.started()


def make_tls(certificate: tuple[Path, Path] | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load(context, certificate)
    return context


def load(context: ssl.SSLContext, certificate: tuple[Path, Path]) -> None:
    """The chain and its key as they are now, for connections to come. Raises InputError; the old ones stay in use then."""
    chain, key = certificate
    try:
        if key.stat().st_mode & 0o007:
            raise InputError(f"{key}: everybody on this machine may read the private key: `chmod o-rwx {key}`")
        probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        probe.load_cert_chain(chain, key)  # half of a pair would spoil the one in use
        context.load_cert_chain(chain, key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"{chain}, {key}: no certificate with its key: {error}") from error


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, port))
        except OSError as error:
            raise InputError(
                f"--listen {host}:{port}: {error.strerror}; choose another port, or stop who has it"
            ) from error
        yield made
    finally:
        made.close()


@contextmanager
def owners_socket(folder: StateFolder) -> Iterator[socket.socket]:
    """Whoever opens it is the folder's owner: it lies in a folder of theirs alone (0700), and is 0600 itself."""
    folder.http_socket.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_socket_path(folder.http_socket) as path:
            made.bind(path)
        os.chmod(folder.http_socket, 0o600)
        yield made
    finally:
        made.close()
        folder.http_socket.unlink(missing_ok=True)


def url(scheme: str, bound_to: socket.socket) -> str:
    host, port, *_ = bound_to.getsockname()
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def bootstrap(app: App, folder: StateFolder, master: bytes) -> KeyRow | None:
    """The administrator's key: made where there is no key at all, and written where its file is not there (semantics.md 32)."""
    state = app.engine.machine.state
    now = app.engine.clock.now()
    found = next((key for key in state.keys.values() if key.name == ADMINISTRATOR and key.valid(now)), None)
    if not state.keys:
        await app.engine.ask(lambda ticket: PutPolicy(ticket, PolicyRow(ADMINISTRATOR, EVERYTHING, now)))
        made = KeyRow(keys.new_id(), ADMINISTRATOR, 1, (ADMINISTRATOR,), now, None, None)
        await app.engine.ask(lambda ticket: PutKey(ticket, made))
        found = made
    if found is not None and not folder.admin_key.exists():
        write_key(folder.admin_key, found, keys.secret_of(master, found.id, found.generation))
    return found


def write_key(path: Path, key: KeyRow, secret: str) -> None:
    """As the AWS tools read it (AWS_SHARED_CREDENTIALS_FILE), for its owner alone."""
    text = (
        f"# The key of {key.name}. As a bearer token: {keys.token(key.id, secret)}\n"
        f"[default]\naws_access_key_id = {keys.PREFIX}{key.id}\naws_secret_access_key = {secret}\n"
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
