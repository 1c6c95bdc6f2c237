"""`export --aws`: botocore's own model of the service takes every request, and what is registered is the same job here."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.model
import botocore.validate
import pytest
from msgspec.structs import replace

from flowbatch.model.jobspec import Environment, JobSpec
from flowbatch.model.resources import Resources
from flowbatch.spec.exporting import Export, export, script, submission
from flowbatch.spec.places import Surroundings
from tests.spec.building import compiled, specs
from tests.spec.test_definitions import Registry, registered

LARGE = (Environment("default", "local", Resources(64_000, 1 << 20, 8)),)
AROUND = Surroundings("/lab", "/home/me")
FILM = """
name: film
params: {shot: {default: s1}}
secrets: {s3: {env: S3}}
tokens: {links: 4}
queues: {bulk: {}}
defaults: {queue: bulk, memory: 1GiB}
definitions:
  blender:
    image: blender:4
    vcpus: 2
    gpus: 1
    volumes: ['./assets:/assets:ro', 'frames:/frames']
    tmpfs: ['/scratch:size=64MiB,noexec']
    ulimits: {nofile: '10:20'}
    devices: ['/dev/fuse']
    shm: 64
    swap: 10
    user: 'me:me'
    readonly: true
    log: {driver: json-file, options: {max-size: 1m}}
    env: {A: 'it''s $HOME "quoted"'}
    parameters: {frame: '1'}
    command: [blender, 'Ref::frame']
jobs:
  render: {uses: blender, array: 10, needs: fetch, tags: {team: film}, propagateTags: true, tokens: {links: 1}, priority: 7}
  fetch:
    image: busybox:1
    script: echo "${job:render}" 'single' "double"
    secrets: {KEY: s3}
    timeout: 90s
    retry: {attempts: 3, rules: [{reason: 'Out*', status: Host EC2*, exit: '1*', action: retry}, {reason: '*', action: exit}]}
  denoise: {uses: blender, needs: [{each: render}, fetch], vcpus: 0.5, timeout: 1500ms, retry: {attempts: 2, backoff: 1s}}
  chain: {image: 'x:1', command: [x], array: {size: 3, sequential: true}}
  rescue: {image: 'x:1', command: [x], needs: [{job: fetch, when: failure}]}
  after: {image: 'x:1', command: [x], needs: rescue}
  one: {image: 'x:1', command: [x], array: 1}
  crew:
    nodes: {count: 4, groups: [{range: '0:0', image: 'main:1', command: [m]}, {range: '1:', image: 'work:1', command: [w], memory: 2GiB}]}
  pod:
    containers:
      - {name: app, image: 'app:1', command: [a], volumes: ['/lab/x:/x'], needs: [{container: log, condition: start}]}
      - {name: log, image: 'log:1', command: [l], essential: false, volumes: ['/lab/y:/y']}
finally: {report: {image: 'x:1', command: [x]}}
"""


@cache
def service() -> botocore.model.ServiceModel:
    return botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("batch", "service-2"))


def refused(operation: str, request: dict[str, Any]) -> list[str]:
    """Unknown members, missing ones, types, lengths; and the enums, which botocore itself lets pass."""
    shape = service().operation_model(operation).input_shape
    assert shape is not None
    report = botocore.validate.ParamValidator().validate(request, shape)
    found = [report.generate_report()] if report.has_errors() else []
    return [*found, *enums(request, shape, operation)]


def enums(value: Any, shape: Any, path: str) -> list[str]:
    if shape.type_name == "structure":
        return [
            each
            for key, item in value.items()
            if key in shape.members
            for each in enums(item, shape.members[key], f"{path}.{key}")
        ]
    if shape.type_name == "list":
        return [each for item in value for each in enums(item, shape.member, path)]
    if shape.type_name == "string" and shape.enum and value not in shape.enum:
        return [f"{path}: {value} is none of {shape.enum}"]
    return []


def exported(text: str, image: str | None = None, **given: object) -> Export:
    return export(compiled(text, guard=None, available=LARGE, **given), AROUND, image=image)  # type: ignore[arg-type]


def test_the_validator_would_find_mistakes() -> None:
    assert refused("SubmitJob", {"jobName": "a", "jobQueue": "q"})
    assert refused("RegisterJobDefinition", {"jobDefinitionName": "a", "type": "container", "stop_grace": "5s"})
    assert refused("RegisterJobDefinition", {"jobDefinitionName": "a", "type": "box"})


def test_every_request_is_one_of_the_service() -> None:
    made = exported(FILM)
    assert [f"{operation} {name}" for operation, name, _ in made.calls] == [
        "CreateConsumableResource links",
        "RegisterJobDefinition film--fetch", "SubmitJob fetch",
        "RegisterJobDefinition film--chain", "SubmitJob chain",
        "RegisterJobDefinition film--crew", "SubmitJob crew",
        "RegisterJobDefinition film--pod", "SubmitJob pod",
        "RegisterJobDefinition film--render", "SubmitJob render",
        "RegisterJobDefinition film--denoise", "SubmitJob denoise",
    ]  # fmt: skip
    for operation, name, request in made.calls:
        assert refused(operation, request) == [], name
        if operation == "RegisterJobDefinition":
            registered(json.dumps(request))  # our own rules take it too


def test_what_is_left_out_or_changed_is_told() -> None:
    made = exported(FILM)
    assert made.notes == [
        "fetch: the secret s3 needs the ARN of one in AWS as its valueFrom",
        "one is left out: AWS Batch has arrays of 2 to 10,000 children, and this one has 1",
        "report is left out: AWS Batch has no jobs that always run last",
        "rescue is left out: it waits for the failure of fetch, and AWS Batch knows success alone",
        "denoise: 0.5 vCPU became 1, for AWS Batch has whole ones on EC2",
        "after is left out: it waits for rescue",
    ]
    assert any("jobs.denoise.retry.backoff: AWS Batch retries at once" in each for each in made.differences)
    requests = {(operation, name): request for operation, name, request in made.calls}
    denoise = requests["RegisterJobDefinition", "film--denoise"]
    assert denoise["timeout"] == {"attemptDurationSeconds": 60}
    assert denoise["retryStrategy"] == {"attempts": 2}
    assert requests["SubmitJob", "denoise"]["dependsOn"] == [
        {"jobId": "${job:render}", "type": "N_TO_N"},
        {"jobId": "${job:fetch}"},
    ]
    assert requests["SubmitJob", "chain"]["dependsOn"] == [{"type": "SEQUENTIAL"}]
    assert requests["SubmitJob", "render"] == {
        "jobName": "render", "jobQueue": "bulk", "jobDefinition": "film--render", "arrayProperties": {"size": 10},
        "dependsOn": [{"jobId": "${job:fetch}"}], "tags": {"team": "film"},
    }  # fmt: skip


def test_a_share_is_named_only_in_a_fair_share_queue() -> None:
    spec = replace(specs("jobs: {a: {script: x}}")["a"], share="blue")
    assert submission("d", spec, {}, fair=True)["shareIdentifier"] == "blue"
    assert "shareIdentifier" not in submission("d", spec, {}, fair=False)  # AWS refuses it there


def test_a_definition_registered_here_is_the_same_job() -> None:
    """Of what AWS Batch can say: nothing is lost on the way there and back."""
    text = FILM[: FILM.index("  denoise:")]
    made = exported(text)
    rows = [
        registered(json.dumps(request)) for operation, _, request in made.calls if operation == "RegisterJobDefinition"
    ]
    head = text[: text.index("defaults:")] + "defaults: {queue: bulk}\n"
    again = specs(
        head + "jobs: {fetch: {uses: film--fetch}, render: {uses: film--render, array: 10, needs: fetch, tags: {team: film}}}",
        registry=Registry(*rows), guard=None, available=LARGE,
    )  # fmt: skip
    was = specs(text, guard=None, available=LARGE)
    for key in ("fetch", "render"):
        assert comparable(again[key]) == comparable(was[key])


def comparable(spec: JobSpec) -> JobSpec:
    """The run's parameters are variables of the definition there, and of the run here."""
    return replace(spec, definition="", needs=(), env=tuple(sorted(set(spec.env))))


def test_a_job_without_an_image() -> None:
    text = "jobs: {a: {script: x}, b: {image: 'x:1', script: y}}"
    with pytest.raises(ValueError, match="no `image` in a, and AWS Batch runs containers alone; --image names one"):
        exported(text)
    made = exported(text, image="busybox:1")
    assert made.calls[0][2]["containerProperties"]["image"] == "busybox:1"
    assert "a: it has no `memory`; 2048 MiB were taken" in made.notes


@pytest.mark.slow
def test_the_script_makes_the_same_calls(tmp_path: Path) -> None:
    """Run by sh, with an `aws` that writes down what it was asked and gives ids."""
    made = exported(FILM)
    fake = tmp_path / "aws"
    fake.write_text(
        '#!/bin/sh\nprintf "%s\\t%s\\n" "$2" "$4" >> "$LOG"\n[ "$2" = submit-job ] && echo "id-$(wc -l < "$LOG")" || true\n',
        encoding="utf-8",
    )
    fake.chmod(0o755)
    log = tmp_path / "log"
    done = subprocess.run(
        ["sh"], input=script(made), text=True, capture_output=True, check=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log)},
    )  # fmt: skip
    ids = dict(line.split() for line in done.stdout.splitlines())
    assert list(ids) == [name for operation, name, _ in made.calls if operation == "SubmitJob"]
    asked = [line.split("\t") for line in log.read_text(encoding="utf-8").splitlines()]
    assert len(asked) == len(made.calls)
    for (verb, text), (operation, _, request) in zip(asked, made.calls, strict=True):
        assert verb.replace("-", "") == operation.lower()
        wanted = json.loads(json.dumps(request))
        for need in wanted.get("dependsOn", []):
            if "jobId" in need:
                need["jobId"] = ids[need["jobId"].removeprefix("${job:").removesuffix("}")]
        assert json.loads(text) == wanted
