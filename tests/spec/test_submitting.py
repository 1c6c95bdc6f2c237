"""SubmitJob over a definition, held against a second, naive telling of AWS's rules (aws-batch.md §6.2, §6.3)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbatch.model.jobspec import JobSpec
from flowbatch.model.resources import Resources
from flowbatch.spec.places import Surroundings
from flowbatch.spec.submitting import base_of, submitted
from tests.spec.building import GUARD
from tests.spec.test_definitions import Registry, registered

AROUND = Surroundings("/", "/")
ECHO = {"containerProperties": {"image": "busybox:1", "command": ["echo", "Ref::x"]}}


def spec_of(body: dict[str, Any], request: dict[str, Any]) -> JobSpec:
    row = Registry(registered({"type": "container", **body})).rows[0]
    return submitted(base_of(row, AROUND, GUARD), request, AROUND, GUARD)


# --- the reference: JSON in, what the job must have

names = st.sampled_from(["A", "B", "C", "d"])
texts = st.sampled_from(["", "1", "x y", "Ref::A"])
amounts = st.fixed_dictionaries(
    {},
    optional={
        "VCPU": st.sampled_from(["1", "0.5", "16"]),
        "MEMORY": st.sampled_from(["64", "128"]),
        "GPU": st.sampled_from(["1", "2"]),
    },
)
deprecated = st.fixed_dictionaries({}, optional={"vcpus": st.integers(1, 4), "memory": st.integers(6, 99)})
commands = st.lists(st.sampled_from(["a", "Ref::B"]), max_size=2)
pairs = st.dictionaries(names, texts, max_size=3)
retries = st.fixed_dictionaries(
    {"attempts": st.integers(1, 10)},
    optional={"evaluateOnExit": st.lists(st.just({"action": "EXIT", "onReason": "*"}), max_size=1)},
)
common = {
    "parameters": pairs, "retryStrategy": retries, "tags": pairs, "propagateTags": st.booleans(),
    "timeout": st.fixed_dictionaries({"attemptDurationSeconds": st.integers(60, 99)}),
}  # fmt: skip
Json = dict[str, Any]


@st.composite
def boxes(draw: st.DrawFn) -> Json:
    box: Json = draw(st.fixed_dictionaries({}, optional={"command": commands}))
    variables = draw(pairs)
    if variables:
        box["environment"] = [{"name": name, "value": value} for name, value in variables.items()]
    needs = draw(amounts)
    if needs:
        box["resourceRequirements"] = [{"type": kind, "value": value} for kind, value in needs.items()]
    return box | {
        key: value for key, value in draw(deprecated).items() if {"vcpus": "VCPU", "memory": "MEMORY"}[key] not in needs
    }


definitions = st.builds(
    lambda box, rest: {"containerProperties": {"image": "busybox:1", **box}, **rest},
    boxes(),
    st.fixed_dictionaries({}, optional={**common, "schedulingPriority": st.integers(0, 9)}),
)
requests = st.builds(
    lambda box, rest: {**({"containerOverrides": box} if box else {}), **rest},
    boxes(),
    st.fixed_dictionaries({}, optional={**common, "schedulingPriorityOverride": st.integers(0, 9)}),
)


def wanted(definition: Json, request: Json) -> Json:
    box, over = definition["containerProperties"], request.get("containerOverrides", {})
    command = over.get("command") or box.get("command") or []
    env = {each["name"]: each["value"] for holder in (box, over) for each in holder.get("environment", [])}
    have = {each["type"]: each["value"] for each in box.get("resourceRequirements", [])}
    asked = {each["type"]: each["value"] for each in over.get("resourceRequirements", [])}
    amount: dict[str, float] = {}
    for kind, old in (("VCPU", "vcpus"), ("MEMORY", "memory"), ("GPU", "")):
        for value in (asked.get(kind), have.get(kind), over.get(old), box.get(old)):
            if value is not None:
                amount[kind] = float(value)
                break
    retry = request.get("retryStrategy") or definition.get("retryStrategy") or {"attempts": 1}
    timeout = request.get("timeout") or definition.get("timeout")
    propagate = request.get("propagateTags", definition.get("propagateTags", False))
    tags = request.get("tags", {})
    return {
        "command": tuple(command),
        "env": env,
        "resources": Resources(
            round(amount.get("VCPU", 1) * 1000), int(amount.get("MEMORY", 0)), int(amount.get("GPU", 0))
        ),
        "parameters": {**definition.get("parameters", {}), **request.get("parameters", {})},
        "attempts": (retry["attempts"], len(retry.get("evaluateOnExit", []))),
        "timeout_ms": None if timeout is None else timeout["attemptDurationSeconds"] * 1000,
        "tags": tags,
        "labels": {**definition.get("tags", {}), **tags} if propagate else {},
        "priority": request.get("schedulingPriorityOverride", definition.get("schedulingPriority", 0)),
    }


def found(spec: JobSpec) -> Json:
    assert spec.container is not None
    return {
        "command": spec.command, "env": dict(spec.env), "resources": spec.resources, "parameters": dict(spec.parameters),
        "attempts": (spec.retry.attempts, len(spec.retry.rules)), "timeout_ms": spec.timeout_ms, "tags": dict(spec.tags),
        "labels": dict(spec.container.labels), "priority": spec.priority,
    }  # fmt: skip


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(definitions, requests)
def test_overrides_are_merged_as_aws_merges_them(definition: Json, request: Json) -> None:
    assert found(spec_of(definition, request)) == wanted(definition, request)


def test_tokens_are_replaced_whole() -> None:
    def demand(**tokens: int) -> Json:
        return {"consumableResourceList": [{"consumableResource": name, "quantity": n} for name, n in tokens.items()]}

    body = {**ECHO, "consumableResourceProperties": demand(licence=1, link=2)}
    assert spec_of(body, {}).tokens == (("licence", 1), ("link", 2))
    assert spec_of(body, {"consumableResourcePropertiesOverride": demand(link=1)}).tokens == (("link", 1),)
