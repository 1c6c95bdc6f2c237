from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from flowbatch.errors import WorkflowInvalid
from flowbatch.settings import parse_settings
from flowbatch.spec.jsonschema import settings_schema, workflow_schema
from flowbatch.spec.yaml import load

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema.Draft202012Validator(workflow_schema())
SETTINGS = jsonschema.Draft202012Validator(settings_schema())


def test_the_file_is_not_stale() -> None:
    """Write it again with `flowbatch schema > schemas/workflow.schema.json`."""
    written = (ROOT / "schemas" / "workflow.schema.json").read_text(encoding="utf-8")
    assert written == json.dumps(workflow_schema(), indent=2, ensure_ascii=False) + "\n"


def test_the_file_of_the_settings_is_not_stale() -> None:
    """Write it again with `flowbatch schema settings > schemas/settings.schema.json`."""
    written = (ROOT / "schemas" / "settings.schema.json").read_text(encoding="utf-8")
    assert written == json.dumps(settings_schema(), indent=2, ensure_ascii=False) + "\n"


@pytest.mark.slow
def test_they_are_schemas() -> None:
    jsonschema.Draft202012Validator.check_schema(workflow_schema())
    jsonschema.Draft202012Validator.check_schema(settings_schema())


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_satisfy_it(path: Path) -> None:
    assert not [error.message for error in VALIDATOR.iter_errors(load(path.read_bytes(), path.name).root)]


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("jobs: {a: {script: x, array: 5}}", True),
        ("jobs: {a: {script: x, array: '${{ params.n }}', vcpus: '${{ params.c }}', x-note: [free]}}", True),
        ("jobs: {a: {needs: b, env: {A: 1, B: true}, retry: {attempts: 2, backoff: 1s..5s}, timeout: 20m}}", True),
        ("jobs: {a: {dependsOn: [{jobId: b, type: N_TO_N}], timeout: {attemptDurationSeconds: 60}}}", True),
        ("definitions: {d: {command: [a]}}\njobs: {a: {uses: d, secrets: [{name: A, valueFrom: b}]}}", True),
        ("jobs: {a: {script: x, vcpuss: 5}}", False),
        ("jobs: {a: {script: x, attempts: 11}}", False),
        ("jobs: {a: {script: x, attempts: three}}", False),
        ("jobs: {a b: {script: x}}", False),
        ("definitions: {d: {needs: a}}\njobs: {a: {script: x}}", False),
        ("defaults: {array: 5}\njobs: {a: {script: x}}", False),
        ("name: x", False),
    ],
)
def test_it_tells_right_from_wrong(text: str, valid: bool) -> None:
    assert VALIDATOR.is_valid(load(text.encode(), "f").root) == valid


def test_every_key_of_a_job_has_a_hover_text() -> None:
    definitions = workflow_schema()["$defs"]
    assert isinstance(definitions, dict)
    assert not [key for key, item in definitions["Job"]["properties"].items() if "description" not in item]


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("environments: {big: {vcpus: 12, memory: 48GiB}}\nqueues: {q: {priority: 10, environments: [big]}}", True),
        ("retention: 90d\nlimits: {log: 64MiB}\nevents: {children: ends}\nx-note: free", True),
        (
            "policy: {mounts: [{source: /data, readonly: true}, /scratch], devices: [/dev/dri], images: ['*@sha256:*']}",
            True,
        ),
        ("environments: {big: {vcpu: 12}}", False),
        ("environments: {big: {vcpus: '${{ params.n }}'}}", False),
        ("policy: {mounts: [{target: /data}]}", False),
        ("events: {children: some}", False),
        ("jobs: {a: {script: x}}", False),
    ],
)
def test_settings_are_told_right_from_wrong(text: str, valid: bool) -> None:
    """And what the schema takes, flowbatch takes."""
    assert SETTINGS.is_valid(load(text.encode(), "f").root) == valid
    if valid:
        parse_settings(text.encode(), "f")
    else:
        with pytest.raises(WorkflowInvalid):
            parse_settings(text.encode(), "f")


def test_every_setting_has_a_hover_text() -> None:
    schema = settings_schema()
    models = schema["$defs"]
    assert isinstance(models, dict)
    for name, model in {**models, "root": schema}.items():
        lacking = [
            key for key, item in model["properties"].items() if "description" not in item and "const" not in item
        ]
        assert not lacking, f"{name}: {lacking}"
