"""What can be said of a file before its parameters, sources and places are known: names, layers, needs, cycles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from flowbatch.model.jobspec import Stage
from flowbatch.spec import containers, parameters
from flowbatch.spec.definitions import Lookup, Reference, resolve, stored_layer
from flowbatch.spec.findings import Findings
from flowbatch.spec.layers import Layer, merged
from flowbatch.spec.members import overridden, programs, settle
from flowbatch.spec.needs import Draft, connect, in_dependency_order
from flowbatch.spec.positions import Path
from flowbatch.spec.registering import definition_name
from flowbatch.spec.schema import DEFAULTS_LACK, DEFINITION_LACKS, JOB_LACKS, LayerModel, SecretModel, WorkflowModel
from flowbatch.spec.validation import Validated

_SECRET_KINDS: Final = ("env", "file", "command")


class Drafts(Struct):
    """Jobs by stage in the order of the file, and each stage in an order of dependency."""

    main: dict[str, Draft] = field(default_factory=dict)
    final: dict[str, Draft] = field(default_factory=dict)
    order: list[Draft] = field(default_factory=list)
    definitions: dict[str, Layer] = field(default_factory=dict)


def draft(
    validated: Validated[WorkflowModel],
    findings: Findings,
    workflow: str = "",
    registry: Lookup | None = None,
    known_secrets: Mapping[str, SecretModel] | None = None,
) -> Drafts:
    """`known_secrets`: None: the file's own. `registry`: where `uses` looks after the file's own definitions; without one, what is not in the file is not judged."""
    model = validated.model
    if model is None:
        return Drafts()
    broken = _Broken(validated.broken)
    parameters.judge(model.params or {}, findings)
    _judge_secrets(model.secrets or {}, broken, findings)
    drafts = _Layers(model, broken, findings, workflow, registry).drafts()
    for key in drafts.main:
        if key in drafts.final:
            findings.problem(("finally", key), "is the name of a job already; every job has its own", at_key=True)
    for stage, others, section in ((drafts.main, drafts.final, "jobs"), (drafts.final, drafts.main, "finally")):
        connect(stage, others, broken.names(section), findings)
        drafts.order += in_dependency_order(stage, findings)
    secrets = set((model.secrets or ()) if known_secrets is None else known_secrets) | broken.names("secrets")
    for job in (*drafts.main.values(), *drafts.final.values()):
        _judge_job(job, secrets, findings)
    if not model.jobs and not broken.names("jobs"):
        findings.problem(("jobs",), "there is no job; the least is `jobs: {hello: {script: echo hello}}`")
    return drafts


class _Broken:
    """What validation left out, by section and name."""

    def __init__(self, paths: frozenset[Path]) -> None:
        self.paths: set[Path] = {path[:depth] for path in paths for depth in (1, 2) if len(path) >= depth}
        self.whole: set[Path] = {path for path in paths if len(path) == 1}

    def has(self, section: str, name: str = "") -> bool:
        return (section,) in self.whole or (section, name) in self.paths

    def names(self, section: str) -> set[str]:
        return {str(path[1]) for path in self.paths if len(path) == 2 and path[0] == section}


class _Layers:
    """Settles `defaults` and each definition once, however many jobs use them."""

    def __init__(
        self, model: WorkflowModel, broken: _Broken, findings: Findings, workflow: str, registry: Lookup | None
    ) -> None:
        self.model = model
        self.workflow = workflow
        self.registry = registry
        self.broken = broken
        self.findings = findings
        self.defaults: Layer | None = None
        if model.defaults is not None:
            self.defaults = self.layer(model.defaults, ("defaults",), DEFAULTS_LACK, "every job has its own")
        self.definitions = {
            name: merged(self.definition(name, item), self.defaults) for name, item in (model.definitions or {}).items()
        }
        self.defaults_broken = any(path[0] == "defaults" for path in broken.paths)

    def layer(self, model: LayerModel, origin: Path, lacks: frozenset[str], why: str) -> Layer:
        for name in model.model_fields_set:
            key = LayerModel.model_fields[name].alias or name
            if key in lacks:
                self.findings.problem((*origin, key), f"cannot stand here: {why}", at_key=True)
        layer = settle(model, origin, self.findings)
        layer.uses = layer.array = layer.needs = layer.chunk = None  # told already where it is given
        return layer

    def definition(self, name: str, model: LayerModel) -> Layer:
        layer = self.layer(model, ("definitions", name), DEFINITION_LACKS, "it belongs to the job")
        layer.definition_tags, layer.tags = layer.tags, None
        return layer

    def drafts(self) -> Drafts:
        drafts = Drafts(definitions=self.definitions)
        for key, model in self.model.jobs.items():
            drafts.main[key] = self.draft(key, model, ("jobs", key), Stage.MAIN)
        for key, model in (self.model.finally_ or {}).items():
            drafts.final[key] = self.draft(key, model, ("finally", key), Stage.FINALLY)
        return drafts

    def draft(self, key: str, model: LayerModel, origin: Path, stage: Stage) -> Draft:
        layer = settle(model, origin, self.findings)
        broken = self.defaults_broken or self.broken.has(*map(str, origin))
        under = self.defaults
        if model.type is not None:
            self.findings.problem((*origin, *JOB_LACKS), "cannot stand here: it belongs to a definition", at_key=True)
        if model.job_name is not None and model.job_name != key:
            self.findings.problem((*origin, "jobName"), f"the job's name is its key, {key!r}; leave this out")
        if layer.uses is None:
            name = definition_name(self.workflow, key, self.definitions)
            return Draft(key, stage, merged(layer, under), broken, name, inline=True)
        name = definition_name(self.workflow, layer.uses)
        if layer.uses in self.definitions:
            under = self.definitions[layer.uses]
            broken = broken or self.broken.has("definitions", layer.uses)
        elif self.broken.has("definitions", layer.uses):
            broken = True
        elif (stored := self.stored(layer, layer.uses)) is not None:
            under, name = stored
        else:
            broken = True
        return Draft(key, stage, merged(layer, under), broken, name)

    def stored(self, layer: Layer, name: str) -> tuple[Layer, str] | None:
        """From the registry, with the revision that it is; None where there is none, which is told."""
        path = self.findings.positions.first(layer.paths("uses", "jobDefinition"))
        if self.registry is None:
            return None
        try:
            row = resolve(Reference.parse(name), self.registry)
        except ValueError as error:
            if ":" in name:
                self.findings.problem(path, f"{error}; `flowbatch definitions list` has those that do")
            else:
                self.findings.unknown(path, "definition", name, self.definitions)
            return None
        return merged(stored_layer(row, path, self.findings), self.defaults), row.id


def _judge_secrets(secrets: Mapping[str, SecretModel], broken: _Broken, findings: Findings) -> None:
    judge_sources({name: secret for name, secret in secrets.items() if not broken.has("secrets", name)}, findings)


def judge_sources(secrets: Mapping[str, SecretModel], findings: Findings) -> None:
    for name, secret in secrets.items():
        given = [kind for kind in _SECRET_KINDS if getattr(secret, kind) is not None]
        if len(given) != 1:
            findings.problem(("secrets", name), "needs one of env, file, command: where its value comes from")


def _judge_job(job: Draft, secrets: set[str], findings: Findings) -> None:
    layer = job.layer
    overridden(layer, findings)
    for program in programs(layer):
        _judge_program(program, job, secrets, findings)
    if layer.retry is None or job.broken:
        return
    crew = layer.nodes is not None or layer.task is not None
    if crew or layer.memory_mib is None:
        for index, rule in enumerate(layer.retry.rules):
            if rule.memory_factor is not None:
                retries = layer.paths("retry", "retryStrategy")
                lists = [(*origin, rules) for origin in retries for rules in ("rules", "evaluateOnExit")]
                path = (*findings.positions.first(lists), index, "memory")
                why = "has no memory to multiply; give it `memory`"
                if crew:
                    why = "has several nodes or containers, and nobody can say whose memory to multiply; leave it out"
                findings.problem(path, f"job {job.key!r} {why}")


def _judge_program(layer: Layer, job: Draft, secrets: set[str], findings: Findings) -> None:
    for variable, name in (layer.secrets or {}).items():
        path = findings.positions.first([(*origin, variable) for origin in layer.paths("secrets")])
        if name not in secrets:
            findings.unknown(path, "secret", name, secrets)
        if layer.env and variable in layer.env:
            findings.problem(path, f"{variable!r} is in `env` too; give it once", at_key=True)
    imaged = layer.container is not None and layer.container.image is not None
    if layer.command is None and layer.fake is None and not imaged and not job.broken:
        findings.problem(layer.origins[0], "needs a `command` or a `script`", at_key=True)
    if not job.broken:
        containers.judge(layer, findings)
