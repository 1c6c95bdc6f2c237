"""From a drafted job to the spec that the engine runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from flowbatch.model.container import Container
from flowbatch.model.ids import JobId
from flowbatch.model.jobspec import JobSpec, Members, Need, RetryPolicy, SecretSource
from flowbatch.model.resources import Resources
from flowbatch.model.tokens import Token
from flowbatch.spec import parameters
from flowbatch.spec.arrays import Children
from flowbatch.spec.containers import container_of
from flowbatch.spec.expressions import Value
from flowbatch.spec.findings import Findings
from flowbatch.spec.layers import Layer
from flowbatch.spec.member_specs import members_of, principal_of, total_of
from flowbatch.spec.members import demand, programs
from flowbatch.spec.needs import Draft
from flowbatch.spec.places import DEFAULT, Places, Surroundings
from flowbatch.spec.policy import Guard, no_process, objections, resolved
from flowbatch.spec.references import refs_in
from flowbatch.spec.scalars import text_of
from flowbatch.spec.schema import SecretModel, VolumeModel
from flowbatch.spec.token_schema import judge_demand

JOB_TEXT_MAX: Final = 1 << 20  # characters of a job's command and environment; Linux passes about 2 MB to a program
RUN_TEXT_MAX: Final = 64 << 20
_VCPUS_MILLI: Final = 1000
_STOP_GRACE_MS: Final = 30_000
_NOTHING: Final = ("/bin/sh", "-c", ":")  # of a job that only the fake backend is meant for


def resources_of(layer: Layer) -> Resources:
    return Resources(
        _VCPUS_MILLI if layer.vcpus_milli is None else layer.vcpus_milli, layer.memory_mib or 0, layer.gpus or 0
    )


class SpecMaker:
    """Called for every job of a run. Without `places`, which are wrong themselves then, nothing is placed.

    Without a `guard` nothing is held against a policy: for a picture of what will not run.
    """

    def __init__(
        self,
        ids: Mapping[str, JobId],
        secrets: Mapping[str, SecretModel],
        values: Mapping[str, Value],
        volumes: Mapping[str, VolumeModel | None],
        places: Places | None,
        around: Surroundings,
        findings: Findings,
        guard: Guard | None = None,
        tokens: tuple[Mapping[str, Token] | None, Mapping[str, Token]] = ({}, {}),
    ) -> None:
        self.ids = ids
        self.places = places
        self.around = around
        self.guard = guard
        self.tokens, self.own_tokens = (
            tokens  # all that there are, and the file's own of these; None: they are not judged
        )
        self.keep = frozenset(name for name, volume in volumes.items() if volume is not None and volume.keep)
        self.findings = findings
        self.env = tuple((parameters.variable(name), text_of(value)) for name, value in values.items())
        self.secrets = {name: self.source(secret) for name, secret in secrets.items()}
        self.used: dict[str, str] = {}  # secret → the first job that wants it
        self.text = 0  # characters of all commands and environments

    def source(self, secret: SecretModel) -> SecretSource:
        return SecretSource(
            env=secret.env,
            file=None if secret.file is None else self.around.absolute(secret.file),
            command=None if secret.command is None else tuple(secret.command),
        )

    def spec(self, job: Draft, children: Children | None) -> JobSpec | None:
        """None where something is wrong with the job; reported."""
        queue = self.queue(job)
        for program in programs(job.layer):
            self.judge_words(program, queue)
        if queue is None or children is None or job.broken:
            return None
        layer = job.layer
        members = self.members(job, queue, children)
        principal = None if members is None else principal_of(members)
        container = None if members is not None else self.container(layer, queue)
        retry = layer.retry or RetryPolicy()
        secrets = layer.secrets or {}
        for name in secrets.values():
            self.used.setdefault(name, job.key)
        held = dict(layer.tokens or {}) if members is None else demand(layer, self.findings)
        spec = JobSpec(
            key=job.key,
            queue=queue,
            command=self.command(layer, container) if principal is None else principal.command,
            resources=resources_of(layer) if members is None else total_of(members),
            size=children.size,
            needs=(*(Need(self.ids[edge.key], edge.when, edge.each) for edge in job.edges), *job.outside),
            sequential=children.sequential,
            max_running=children.max_running,
            tolerate=children.tolerate,
            share=self.share(job, queue),
            priority=layer.priority or 0,
            env=self.env + tuple(layer.env.items()) if layer.env else self.env,
            secrets=tuple((variable, self.secrets[name]) for variable, name in secrets.items() if name in self.secrets),
            parameters=tuple(layer.parameters.items()) if layer.parameters else (),
            items=children.items,
            chunk=children.chunk,
            workdir=self.workdir(layer, container),
            timeout_ms=layer.timeout_ms,
            stop_grace_ms=_STOP_GRACE_MS if layer.stop_grace_ms is None else layer.stop_grace_ms,
            retry=replace(retry, lost_free=layer.lost_free) if layer.lost_free else retry,
            tags=tuple(layer.tags.items()) if layer.tags else (),
            container=container,
            user=layer.user if container is None else None,
            fake=layer.fake,
            tokens=tuple(sorted(held.items())),
            definition=job.definition,
            members=members,
        )
        self.judge_size(job, spec)
        if held and self.tokens is not None:
            keys = (
                "tokens",
                "consumableResourcePropertiesOverride",
                "consumableResourceProperties",
                "nodes",
                "nodeProperties",
            )
            judge_demand(
                held,
                self.tokens,
                self.own_tokens,
                self.findings.positions.first(layer.paths(*keys)),
                self.findings,
            )
        return spec

    def members(self, job: Draft, queue: str, children: Children) -> Members | None:
        """None where the job is one process or container, or something is wrong with its nodes; reported."""
        if job.layer.nodes is None and job.layer.task is None:
            return None
        if job.layer.nodes is not None and children.size is not None:
            said = "a multi-node job is one job and cannot be an array; give it no `array`, and no need with `each`"
            self.findings.problem(job.layer.nodes.at, said, at_key=True)
        return members_of(job.layer, lambda layer: self.program(job, layer, queue), self.findings)

    def program(self, job: Draft, layer: Layer, queue: str) -> JobSpec:
        """Of one of its nodes or containers."""
        container = self.container(layer, queue)
        secrets = layer.secrets or {}
        for name in secrets.values():
            self.used.setdefault(name, job.key)
        spec = JobSpec(
            key=job.key,
            queue=queue,
            command=self.command(layer, container),
            resources=resources_of(layer),
            env=self.env + tuple(layer.env.items()) if layer.env else self.env,
            secrets=tuple((variable, self.secrets[name]) for variable, name in secrets.items() if name in self.secrets),
            parameters=tuple(layer.parameters.items()) if layer.parameters else (),
            workdir=self.workdir(layer, container),
            stop_grace_ms=_STOP_GRACE_MS if layer.stop_grace_ms is None else layer.stop_grace_ms,
            container=container,
            user=layer.user if container is None else None,
            fake=layer.fake,
        )
        self.judge_text(layer, spec)
        return spec

    def asked(self, queue: str) -> str:
        """Of the rules of a policy: a file's own queue cannot have the name of one that has more."""
        own = self.places.own_queues if self.places is not None else ()
        return "" if any(each.name == queue for each in own) else queue

    def command(self, layer: Layer, container: Container | None) -> tuple[str, ...]:
        return layer.command or (_NOTHING if container is None else ())

    def container(self, layer: Layer, queue: str) -> Container | None:
        """Held against the policy, its sources resolved: what they are at the start can be compared with that."""
        container = container_of(layer, self.keep, self.around)
        if container is None or self.guard is None or layer.container is None:
            return container
        found = list(objections(container, self.guard.at(self.asked(queue)), self.guard.resolve))
        for field, entry, text in found:
            self.findings.problem(layer.container.path(field, entry), text)
        return container if found else resolved(container, self.guard.resolve)

    def workdir(self, layer: Layer, container: Container | None) -> str:
        """Of a process; a container has its own."""
        if container is not None:
            return ""
        return self.around.folder if layer.workdir is None else self.around.absolute(layer.workdir)

    def queue(self, job: Draft) -> str | None:
        name = job.layer.queue or DEFAULT
        if self.places is None:
            return None
        if name not in self.places.queues:
            path = self.findings.positions.first(job.layer.paths("queue", "jobQueue"))
            self.findings.unknown(path, "queue", name, self.places.queues)
            return None
        if not self.places.queues[name].enabled:
            path = self.findings.positions.first([*job.layer.paths("queue", "jobQueue"), job.layer.origins[0]])
            self.findings.problem(path, f"queue {name} is disabled and takes no jobs; enable it, or name another queue")
        return name

    def share(self, job: Draft, queue: str) -> str | None:
        """What `defaults` say is for the queues that have a policy."""
        layer, findings = job.layer, self.findings
        place = None if self.places is None else self.places.queues[queue]
        if place is None:
            return layer.share
        if place.policy is None and layer.share is not None:
            path = findings.positions.first(layer.paths("share", "shareIdentifier"))
            if path[0] != "defaults":
                text = f"queue {queue} has no `policy`: nothing there goes by shares; leave it out"
                findings.problem(path, text, at_key=True)
            return None
        if place.policy is not None and layer.share is None:
            text = f"queue {queue} is divided among shares by its policy: say whose this job is, such as `share: alice`"
            findings.problem(layer.origins[0], text, at_key=True)
        return layer.share

    def judge_words(self, layer: Layer, queue: str | None) -> None:
        findings = self.findings
        process = layer.container is None or layer.container.image is None
        if process and queue is not None and self.guard is not None and not self.guard.at(self.asked(queue)).processes:
            findings.problem(layer.origins[0], no_process(), at_key=True)
        if layer.user is not None and process and not self.around.root:
            path = findings.positions.first(layer.paths("user", "containerProperties"))
            findings.problem(path, "a process can run as another user only where flowbatch runs as root; leave it out")
        for name in refs_in(layer.command or ()):
            if name not in (layer.parameters or {}):
                path = findings.positions.first(layer.paths("command", "script", "containerOverrides"))
                findings.warn(path, f"Ref::{name} has no value in `parameters` and will be passed as it stands")

    def judge_size(self, job: Draft, spec: JobSpec) -> None:
        layer, findings = job.layer, self.findings
        misfit = None if self.places is None else self.places.misfit(spec)
        if misfit is not None:
            keys = ("memory", "vcpus", "gpus", "resourceRequirements", "containerOverrides", "containerProperties")
            path = findings.positions.first([*layer.paths(*keys), layer.origins[0]])
            findings.problem(path, misfit, at_key=path == layer.origins[0])
        self.judge_text(layer, spec)

    def judge_text(self, layer: Layer, spec: JobSpec) -> None:
        findings = self.findings
        text = sum(map(len, spec.command))
        for pairs in (spec.env, spec.parameters, spec.tags):
            for name, value in pairs:
                text += len(name) + len(value)
        self.text += text
        if text > JOB_TEXT_MAX:
            said = f"its command and environment have {text:,} characters; at most {JOB_TEXT_MAX:,} can be passed"
            findings.problem(layer.origins[0], said, at_key=True)

    def judge_secrets(self, absent: Callable[[SecretSource], str | None]) -> None:
        """Each secret that a job wants, once, where the file says where it comes from (semantics.md 29)."""
        for name, job in self.used.items():
            source = self.secrets.get(name)
            why = None if source is None else absent(source)
            if source is not None and why is not None:
                kind = "env" if source.env is not None else "file"
                self.findings.problem(("secrets", name, kind), f"{why}; job {job!r} needs it")

    def judge_whole(self) -> None:
        if self.text > RUN_TEXT_MAX:
            said = f"the commands and environments have more than {RUN_TEXT_MAX:,} characters together"
            self.findings.problem(("jobs",), said, at_key=True)
