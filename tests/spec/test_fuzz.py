"""Whatever the bytes: a plan, or WorkflowInvalid with sentences. Nothing else, and nothing twice as deep as the limits."""

from __future__ import annotations

import copy
import json
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowbatch.errors import Problem, WorkflowInvalid
from flowbatch.spec.compile import parse
from flowbatch.spec.schema import LayerModel
from flowbatch.spec.yaml import load
from tests.spec.building import compiled

FULL: Final = r"""
flowbatch: 1
name: film-render
x-base: &base {vcpus: 1}
params:
  shot:   {type: string, pattern: '^sq\d{3}$', default: sq010}
  frames: {type: integer, min: 1, max: 10000, default: 1000}
  flag: {type: boolean, default: true}
  ratio: {type: number, default: 0.5, enum: [0.5, 1]}
deadline: 6h
environments:
  farm:  {backend: process, vcpus: 12, memory: 48GiB}
  light: {backend: local, max_vcpus: 2, memory: 4GiB, gpus: 1, state: enabled}
queues:
  bulk: {priority: 1,  environments: [farm]}
  fast: {priority: 10, environments: [light, farm], max_running: 3, state: enabled}
secrets: {s3_key: {file: ~/.config/flowbatch/s3_key}, tok: {env: TOK}, cmd: {command: [pass, show]}}
definitions:
  blender: {<<: *base, memory: 3GiB, containerProperties: {user: root, environment: [{name: B, value: c}]}}
defaults: {queue: bulk, timeout: 30m, attempts: 2, tags: {a: b}, parameters: {z: 1}}
jobs:
  fetch:
    queue: fast
    command: [./fetch.sh, 's3://studio/Ref::shot']
    parameters: {shot: '${{ params.shot }}'}
    secrets: {AWS_ACCESS_KEY_ID: s3_key}
    x-fake: {duration: 1s, exit: 3, by_index: {'0': {lost: true}}, by_attempt: {'1': {exit: 0, output: hi}}}
  render:
    uses: blender
    needs: fetch
    array: {size: '${{ params.frames }}', max_running: 6, tolerate: 0.5%}
    script: blender -b ${{ params.shot }}
    stop_grace: 3s
    retry:
      attempts: 4
      backoff: 10s..5m
      rules: [{reason: 'OutOfMemory*', action: retry, memory: x2}, {exit: 2, action: exit}]
  denoise:
    needs: [{each: render, when: done}]
    memory: 2GiB
    script: denoise
    priority: 3
    workdir: sub
    lost_attempts: {free: 2}
  awsy:
    jobDefinition: blender
    jobQueue: bulk
    arrayProperties: {size: 1000}
    dependsOn: [{jobId: render, type: N_TO_N}, {type: SEQUENTIAL}]
    containerOverrides: {command: [a], resourceRequirements: [{type: MEMORY, value: "2048"}, {type: VCPU, value: 2}]}
    retryStrategy: {attempts: 2, evaluateOnExit: [{onExitCode: '1*', action: EXIT}]}
    timeout: {attemptDurationSeconds: 1800}
    schedulingPriority: 4
    environment: [{name: Q, value: "1"}]
  mat: {array: {matrix: {lr: [0.1, 2], seed: 0..9}, chunk: 4}, script: x}
  its: {array: {items: [a, 1, {b: c, d: 1.50}]}, script: x}
  lin: {array: {lines: ~/x.txt}, chunk: 2, script: x}
  glo: {array: {glob: 'data/*.csv', sequential: true}, script: x}
  box:
    queue: fast
    image: '${{ params.shot }}'
    volumes: ['./in:/in:ro', 'frames:/f']
    tmpfs: ['/t:size=1MiB,noexec']
    ulimits: {nofile: 5, core: 0:1, nproc: {soft: 1, hard: 2}}
    log: {driver: local, options: {a: b}}
    shm: 1GiB
    memory: 64MiB
    swap: 5
    propagateTags: true
  boxy:
    queue: fast
    containerProperties:
      image: busybox:1
      volumes: [{name: a, host: {sourcePath: ./x}}, {name: b}]
      mountPoints: [{sourceVolume: a, containerPath: /a}, {sourceVolume: b, containerPath: /b, readOnly: true}]
      ulimits: [{name: core, softLimit: 0, hardLimit: 0}]
      linuxParameters: {tmpfs: [{containerPath: /t, size: 5, mountOptions: [ro]}], sharedMemorySize: 6, initProcessEnabled: true}
      logConfiguration: {logDriver: awslogs}
volumes: {frames: {keep: true}}
finally:
  report: {queue: fast, script: 'echo "${{run.status}}"'}
  last: {needs: report, queue: fast, script: 'echo "${{run.status}} ${{ run.id }}"'}
"""
TREE: Final = load(FULL.encode(), "f").root
ODD: Final[list[object]] = [
    None, True, False, 0, 1, -1, 5, 10**18, 1.5, 1e300, "", "a", "*", "x2", "${{ params.frames }}", "${{ params.no }}",
    "${{", "${{ run.status }}", "${{ params.shot }}", "0..9", "9..0", "0..99999999999", "50%", "1h", "é\u2028", "a" * 200,
    "default", "fetch", "render", [], {}, ["a"], [1], {"a": 1}, {"each": "render"}, [[]], [{}], {"a": {}}, "Ref::x",
    {"x-a": 1}, [None], "0", "inf", "nan", "1e400", "-5", ".", "..", "~", "[0-9]", "(", "\x00", "\ud800",
    "busybox", "/etc:/etc", "a:/b:ro", "/t:size=1MiB", "/dev/fuse", "host", {"name": "a"},
]  # fmt: skip
KEYS: Final = sorted({info.alias or name for name, info in LayerModel.model_fields.items()} | {"jobs", "a", "x-", "<<"})

relaxed = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def readable(problems: list[Problem]) -> None:
    assert problems
    for problem in problems:
        assert problem.message
        for foreign in ("Input should", "pydantic", "Traceback", "object at 0x", "type=", "validation error"):
            assert foreign not in problem.message


def survives(text: bytes) -> None:
    try:
        document = parse(text, "f.yaml")
        before = document.problems()
    except WorkflowInvalid as error:
        readable(error.problems)
        return
    try:
        compiled(document, read_source=lambda request: ["a", "b", "c"], root=True)
    except WorkflowInvalid as error:
        readable(error.problems)
    else:
        assert not before


def test_the_starting_point_is_right() -> None:
    made = compiled(FULL, read_source=lambda request: ["a", "b", "c"], root=True)
    assert [job.spec.size for job in made.run.jobs] == [None, 1000, 1000, 1000, 5, 3, 2, 3, None, None, None, None]


@given(st.binary(max_size=200))
@relaxed
def test_any_bytes(data: bytes) -> None:
    survives(data)


@given(st.text(alphabet="{}[]:,-?&*!|>'\"%@`#~<ab01 .\n\t$x\\u", max_size=80))
@relaxed
def test_any_text_of_yamls_marks(text: str) -> None:
    survives(text.encode())


@given(st.integers(0, len(FULL)), st.integers(0, 40), st.text(alphabet="{}[]:,-&*!'\"\n ab1$", max_size=6))
@settings(relaxed, max_examples=20)
def test_a_workflow_with_a_hole_in_it(at: int, length: int, patch: str) -> None:
    survives((FULL[:at] + patch + FULL[at + length :]).encode())


def containers(value: object, found: list[dict[str, object] | list[object]]) -> list[dict[str, object] | list[object]]:
    if isinstance(value, dict | list):
        found.append(value)
        for item in value.values() if isinstance(value, dict) else value:
            containers(item, found)
    return found


def damaged(tree: object, choose: st.DataObject) -> object:
    tree = copy.deepcopy(tree)
    for _ in range(choose.draw(st.integers(1, 4))):
        container = choose.draw(st.sampled_from(containers(tree, [])))
        value = copy.deepcopy(choose.draw(st.sampled_from(ODD)))
        if isinstance(container, list):
            container.insert(choose.draw(st.integers(0, len(container))), value)
        elif choose.draw(st.booleans()) and container:
            container[choose.draw(st.sampled_from(sorted(container)))] = value
        else:
            container[choose.draw(st.sampled_from(KEYS))] = value
    return tree


@given(st.data())
@settings(relaxed, max_examples=10)
def test_a_workflow_with_wrong_values(choose: st.DataObject) -> None:
    survives(json.dumps(damaged(TREE, choose)).encode("utf-8", "replace"))


@pytest.mark.slow
@given(st.integers(0, len(FULL)), st.integers(0, 40), st.text(alphabet="{}[]:,-&*!'\"\n ab1$", max_size=6))
@settings(relaxed, max_examples=400)
def test_a_workflow_with_a_hole_at_length(at: int, length: int, patch: str) -> None:
    survives((FULL[:at] + patch + FULL[at + length :]).encode())


@pytest.mark.slow
@given(st.data())
@settings(relaxed, max_examples=400)
def test_a_workflow_with_wrong_values_at_length(choose: st.DataObject) -> None:
    survives(json.dumps(damaged(TREE, choose)).encode("utf-8", "replace"))
