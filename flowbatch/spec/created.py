"""An environment, a queue or a scheduling policy that a command makes: it says of it what the settings would say, and is judged by the same rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flowbatch.errors import InputError
from flowbatch.model.jobspec import Environment, Queue
from flowbatch.model.queues import FairShare
from flowbatch.model.resources import Resources
from flowbatch.spec.environments import environment_of, judge_environment
from flowbatch.spec.findings import Findings
from flowbatch.spec.positions import nowhere
from flowbatch.spec.queue_schema import FairShareModel
from flowbatch.spec.queues import judge_policy, judge_queue, policy_of, queue_of
from flowbatch.spec.settings_schema import SettingsModel
from flowbatch.spec.validation import validate
from flowbatch.spec.values import name_of


def created_environment(name: str, said: Mapping[str, object], machine: Resources) -> Environment:
    """Raises InputError with everything that is wrong with it."""
    model, findings = checked({"environments": {name: dict(said)}})
    each = (model.environments or {})[name]
    judge_environment(name, each, findings, of_settings=True)
    refuse(findings)
    return environment_of(name, each, machine)


def created_queue(name: str, said: Mapping[str, object], known: Iterable[str]) -> Queue:
    """`known`: the environments that there are. Raises InputError."""
    model, findings = checked({"queues": {name: dict(said)}})
    names = list(known)
    each = (model.queues or {})[name]
    judge_queue(name, each, names, findings)
    refuse(findings)
    return queue_of(name, each, names)


def created_policy(name: str, said: Mapping[str, object]) -> FairShare:
    """Raises InputError."""
    try:
        name_of(name)
    except ValueError as error:
        raise InputError(str(error)) from None
    findings = Findings(nowhere("", said))
    found = validate(said, FairShareModel, findings.positions)
    findings.problems += found.problems
    if found.model is not None:
        judge_policy(found.model, (), findings)
    refuse(findings)
    assert found.model is not None
    return policy_of(found.model)


def checked(value: dict[str, object]) -> tuple[SettingsModel, Findings]:
    findings = Findings(nowhere("", value))
    found = validate(value, SettingsModel, findings.positions)
    findings.problems += found.problems
    refuse(findings)
    assert found.model is not None
    return found.model, findings


def refuse(findings: Findings) -> None:
    if findings.problems:
        raise InputError("; ".join(f"{each.path}: {each.message}" for each in findings.problems))
