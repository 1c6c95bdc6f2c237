"""From `notify:` to sinks: secrets by reference, paths made absolute, and what of it makes no sense or is unwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from flowbatch.model.notify import Arrays, Filter, Form, Notify
from flowbatch.model.secret import SecretSource
from flowbatch.spec.findings import Findings
from flowbatch.spec.notify_schema import NotifyModel, TargetModel
from flowbatch.spec.places import Surroundings
from flowbatch.spec.positions import Path
from flowbatch.spec.schema import SecretModel

PAGERDUTY_URL: Final = "https://events.pagerduty.com/v2/enqueue"
# Hosts whose paths are passwords.
TELLING: Final = ("hooks.slack.com", "discord.com", "discordapp.com", "webhook.office.com", "logic.azure.com")
_TOKEN: Final = re.compile(r"(?i)(?:token|key|secret|sig|password)=[^&]{6,}|/[A-Za-z0-9_-]{24,}(?:/|$)")
FAILURES: Final = ("run.failed", "job.failed", "child.failed")


class NotifyMaker:
    """`around`: of the workflow file, or of the settings. `guest`: of a file that a server runs for others; `lasting`: of the settings,
    whose receivers go on from one life to the next by their names."""

    def __init__(
        self,
        secrets: Mapping[str, SecretModel],
        around: Surroundings,
        findings: Findings,
        *,
        guest: bool = False,
        lasting: bool = False,
    ) -> None:
        self._secrets = secrets
        self._around = around
        self._findings = findings
        self._guest = guest
        self._lasting = lasting
        self.used: dict[str, str] = {}  # secret → the sink that wants it first

    def sinks(self, models: Sequence[NotifyModel]) -> tuple[Notify, ...]:
        found: dict[str, Notify] = {}
        for number, model in enumerate(models):
            path: Path = ("notify", number)
            name = self._name(model, found, path)
            made = self._sink(name, model, path)
            if made is not None:
                found[name] = made
        return tuple(found.values())

    def judge_secrets(self, absent: Callable[[SecretSource], str | None]) -> None:
        """Each secret that is wanted, where the file says where it comes from (semantics.md 29)."""
        for name, sink in self.used.items():
            source = self._source(name, (), sink)
            why = None if source is None else absent(source)
            if source is not None and why is not None:
                kind = "env" if source.env is not None else "file"
                self._findings.problem(("secrets", name, kind), f"{why}; {sink!r} of notify needs it")

    def _name(self, model: NotifyModel, found: Mapping[str, Notify], path: Path) -> str:
        if model.name is not None:
            if model.name in found:
                self._findings.problem((*path, "name"), f"{model.name!r} is the name of another receiver already")
            return model.name
        base: str = model.as_ or "eventbridge"
        if isinstance(model.to, TargetModel):
            base = model.to.secret or ("jsonl" if model.to.jsonl is not None else "exec")
        name, number = base, 2
        if self._lasting and name in found:
            self._findings.problem(
                path,
                f"a second receiver without a name would be told from the first by its place in the list alone, and lose what it is owed "
                f"when that changes: give each a `name` (they go on where they are as `name: {base}` and `name: {base}-2`)",
            )
        while name in found:
            name, number = f"{base}-{number}", number + 1
        return name

    def _sink(self, name: str, model: NotifyModel, path: Path) -> Notify | None:
        findings, to = self._findings, model.to
        form = Form(model.as_) if model.as_ is not None else Form.EVENTBRIDGE
        url: str | None = None
        secret: SecretSource | None = None
        jsonl: str | None = None
        command: tuple[str, ...] | None = None
        if isinstance(to, str):
            url = to
            form = self._judge_url(url, model, form, path)
        else:
            given = [key for key in ("secret", "jsonl", "exec") if getattr(to, key) is not None]
            if len(given) != 1:
                findings.problem((*path, "to"), "needs one of secret, jsonl, exec")
                return None
            if to.secret is not None:
                secret = self._source(to.secret, (*path, "to", "secret"), name)
            jsonl = None if to.jsonl is None else self._around.absolute(to.jsonl)
            command = None if to.exec is None else tuple(to.exec)
        self._judge(model, form, path)
        sign = [self._source(each, (*path, "sign"), name) for each in model.sign or ()]
        key = None if model.key is None else self._source(model.key, (*path, "key"), name)
        rate = model.rate if model.rate is not None else 1 if form.chat else None
        return Notify(
            name, url, secret, jsonl, command, self._around.folder, form, tuple(each for each in sign if each is not None),
            key, self._filter(model), model.digest, model.batch, rate, self._guest and url is not None,
        )  # fmt: skip

    def _filter(self, model: NotifyModel) -> Filter:
        return Filter(
            tuple(model.events or ()), tuple(model.workflow or ()), tuple(model.queue or ()), tuple((model.tags or {}).items()),
            model.final, Arrays(model.arrays or "parents"),
        )  # fmt: skip

    def _source(self, name: str, path: Path, sink: str) -> SecretSource | None:
        secret = self._secrets.get(name)
        if secret is None:
            self._findings.unknown(path, "secret", name, self._secrets)
            return None
        self.used.setdefault(name, sink)
        return SecretSource(
            secret.env, None if secret.file is None else self._around.absolute(secret.file),
            None if secret.command is None else tuple(secret.command),
        )  # fmt: skip

    def _judge_url(self, url: str, model: NotifyModel, form: Form, path: Path) -> Form:
        findings = self._findings
        scheme = url.partition("://")[0].lower()
        if scheme not in ("http", "https"):
            if model.as_ not in (None, "text"):
                findings.problem((*path, "as"), f"{model.as_} is a form of webhooks; {scheme}://… takes text")
            if model.sign or model.batch > 1:
                findings.problem((*path, "to"), f"{scheme}://…: only webhooks are signed or take a batch")
            findings.warn(
                (*path, "to"), "a URL of a service holds its password, and is stored with the run; write {secret: name}"
            )
            return Form.TEXT
        try:
            parts = urlsplit(url)
            host, user = parts.hostname, parts.username
            _ = parts.port
        except ValueError as error:
            findings.problem((*path, "to"), f"is no URL: {error}")
            return form
        if not host:
            findings.problem((*path, "to"), "is no URL: it names no host")
        elif user is not None:
            findings.problem((*path, "to"), "a URL holds no name and password; give a token as `key`")
        elif host.endswith(TELLING) or _TOKEN.search(url):
            findings.warn(
                (*path, "to"), "this URL looks like a password, and is stored with the run; write {secret: name}"
            )
        if scheme == "http":
            findings.warn((*path, "to"), "http:// is not encrypted: whoever is on the way reads it")
        return form

    def _judge(self, model: NotifyModel, form: Form, path: Path) -> None:
        findings, to = self._findings, model.to
        plain = form in (Form.EVENTBRIDGE, Form.CLOUDEVENTS)
        if model.batch > 1 and not plain:
            findings.problem((*path, "batch"), f"{form} takes one event a message; `digest` makes one message of many")
        if model.batch > 1 and model.digest is not None:
            findings.problem((*path, "batch"), "a digest is one message; leave `batch` or `digest` out")
        if model.digest is not None and form.pager:
            findings.problem((*path, "digest"), f"{form} is opened and closed job by job; leave it out")
        if form is Form.PAGERDUTY and model.key is None:
            findings.problem(path, "pagerduty needs `key`: the name of a secret that is its routing key")
        if form is Form.OPSGENIE and model.key is None:
            findings.problem(path, "opsgenie needs `key`: the name of a secret that is its API key")
        if isinstance(to, TargetModel) and to.secret is None:
            if model.sign or model.key:
                findings.problem(path, "only webhooks are signed and take a `key`")
            if to.jsonl is not None and (not plain or model.digest is not None):
                findings.problem(path, "a jsonl file takes eventbridge or cloudevents, and no digest")
            if to.exec is not None and model.batch > 1:
                findings.problem((*path, "batch"), "a program gets one event; leave it out")
