"""Receivers that are no webhook: a file of lines, a command; and what a Notify comes to once its secrets are read."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import anyio.to_thread

from flowbatch.errors import InputError
from flowbatch.hooks.addresses import Network
from flowbatch.hooks.escaping import plain
from flowbatch.hooks.forms import Forms, Message
from flowbatch.hooks.health import Answer, Outcome
from flowbatch.hooks.signing import signing_key
from flowbatch.model.ids import Millis
from flowbatch.model.notify import Form, Notify
from flowbatch.model.secret import SecretSource

if TYPE_CHECKING:
    import aiohttp
    from anyio.abc import TaskStatus

COMMAND_S: Final = 60.0
LAST_WORDS_S: Final = 1.0  # after its end
TEMPORARY: Final = 75  # EX_TEMPFAIL of sysexits.h
OUTPUT_BYTES: Final = 4096
LINES_AT_ONCE: Final = 500
Resolve = Callable[[SecretSource, str], str]  # blocks; raises with a sentence where the secret is not to be had


class Target(Protocol):
    """A receiver. `send` never raises for what the receiver does, and may be called many times at once."""

    async def send(self, message: Message) -> Answer: ...

    async def close(self) -> None: ...


class Unready(Exception):
    """The receiver cannot even be asked: says why, and shows no secret."""


class Lines:
    """Appends to a file. One message may be many lines; they are on disk when it is answered."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    async def send(self, message: Message) -> Answer:
        begun = anyio.current_time()
        try:
            await anyio.to_thread.run_sync(self._append, message.body)
        except OSError as error:
            return Answer(Outcome.ENDPOINT, 0, f"{self._path}: {error.strerror}")
        return Answer(Outcome.DELIVERED, 0, "", int((anyio.current_time() - begun) * 1000))

    def _append(self, body: bytes) -> None:
        with self._path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":  # torn by a crash: what follows is a line of its own
                    body = b"\n" + body
            file.write(body if body.endswith(b"\n") else body + b"\n")
            file.flush()
            os.fsync(file.fileno())

    async def close(self) -> None:
        """Nothing is open."""


class Command:
    """A program that gets the event on its standard input: 0 is delivered, 75 is not now, all else a refusal."""

    def __init__(self, command: Sequence[str], folder: str) -> None:
        self._command = list(command)
        self._folder = folder or None

    async def send(self, message: Message) -> Answer:
        begun = anyio.current_time()
        env = {name: value for name, value in os.environ.items() if not name.startswith("FLOWBATCH_")}
        env |= {"FLOWBATCH_EVENT_ID": message.id, "FLOWBATCH_EVENT_KIND": message.kind}
        try:
            process = await anyio.open_process(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                cwd=self._folder, env=env, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return Answer(Outcome.ENDPOINT, 0, f"{self._command[0]}: {error.strerror}")
        said = bytearray()
        try:
            with anyio.fail_after(COMMAND_S):
                async with process, anyio.create_task_group() as tasks:
                    tasks.start_soon(feed, process, message.body)
                    heard = await tasks.start(hear, process, said)
                    await process.wait()
                    with anyio.move_on_after(LAST_WORDS_S):  # what it leaves behind may hold the pipe for ever
                        await heard.wait()
                    tasks.cancel_scope.cancel()
        except TimeoutError:
            return Answer(Outcome.ENDPOINT, 0, f"{self._command[0]} took longer than {COMMAND_S:g} s")
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        latency_ms, code = int((anyio.current_time() - begun) * 1000), process.returncode
        if code == 0:
            return Answer(Outcome.DELIVERED, 0, "", latency_ms)
        text = plain(f"{self._command[0]} exited with {code}: {bytes(said).decode('utf-8', 'replace')}", 200)
        return Answer(Outcome.ENDPOINT if code == TEMPORARY else Outcome.MESSAGE, 0, text, latency_ms)

    async def close(self) -> None:
        """Each command has ended with its message."""


async def hear(process: Any, said: bytearray, *, task_status: TaskStatus[anyio.Event]) -> None:
    over = anyio.Event()
    task_status.started(over)
    async for part in process.stderr:
        said += part
        del said[:-OUTPUT_BYTES]
    over.set()


async def feed(process: Any, body: bytes) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it need not read
        await process.stdin.send(body)
        await process.stdin.aclose()


class Receivers:
    """Makes the receiver of a Notify; `session` is made when the first webhook is."""

    def __init__(
        self,
        resolve: Resolve,
        session: Callable[[bool], aiohttp.ClientSession],
        now: Callable[[], Millis],
        allowed: Callable[[], Sequence[Network]] = tuple,
    ) -> None:
        """`allowed`: the networks that services may be in though they are not public; a session has its own, but for one that is asked
        for what reaches public addresses alone."""
        self._resolve = resolve
        self._session = session
        self._now = now
        self._allowed = allowed

    async def make(self, notify: Notify, instance: str) -> tuple[Target, Forms]:
        """Raises Unready."""
        if notify.jsonl is not None:
            return Lines(notify.jsonl), Forms(instance, notify.form)
        if notify.command is not None:
            return Command(notify.command, notify.workdir), Forms(instance, notify.form)
        url, key, signs = await anyio.to_thread.run_sync(self._read_secrets, notify)
        if not url.startswith(("https://", "http://")):
            from flowbatch.hooks.service import Service

            allowed = () if notify.public else self._allowed()
            service = await anyio.to_thread.run_sync(Service, url, allowed)
            return service, Forms(instance, Form.TEXT)
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise Unready("its URL holds a name and a password: give a token as `key`")
        from flowbatch.hooks.webhook import Webhook

        authorization = ""
        if key and notify.form is not Form.PAGERDUTY:
            authorization = f"{'GenieKey' if notify.form is Form.OPSGENIE else 'Bearer'} {key}"
        target = Webhook(self._session(notify.public), url, self._now, keys=signs, authorization=authorization)
        return target, Forms(instance, notify.form, key=key, final=notify.filter.final)

    def _read_secrets(self, notify: Notify) -> tuple[str, str, list[bytes]]:
        url = notify.url if notify.url is not None else self._value(notify.secret, notify)
        key = "" if notify.key is None else self._value(notify.key, notify)
        try:
            signs = [signing_key(self._value(source, notify), name_of(source)) for source in notify.sign]
        except InputError as error:
            raise Unready(str(error)) from None
        return url.strip(), key.strip(), signs

    def _value(self, source: SecretSource | None, notify: Notify) -> str:
        assert source is not None
        try:
            return self._resolve(source, notify.workdir)
        except Exception as error:
            raise Unready(f"a secret is missing: {error}") from None


def name_of(source: SecretSource) -> str:
    return source.env or source.file or (source.command or ("",))[0]
