"""`check --aws`: every extension is named, where it stands; what AWS Batch does likewise is not."""

from __future__ import annotations

import pytest

from flowbatch.spec.parity import differences
from tests.spec.building import compiled

SAME = """
queues: {q: {priority: 5}}
defaults: {queue: q, image: 'busybox:1', memory: 64}
definitions: {d: {command: [echo, 'Ref::x'], parameters: {x: '1'}, timeout: 60, readonly: true, user: '7', ulimits: {nofile: 9}}}
jobs:
  a: {uses: d, vcpus: 2, attempts: 3}
  b: {uses: d, array: 10, needs: [a], retry: {attempts: 2, rules: [{reason: 'Host EC2*', action: retry}, {exit: '1*', action: exit}]}}
  c: {uses: d, needs: [{each: b}], tags: {team: film}, propagateTags: true, env: {A: '1'}}
  s: {uses: d, array: {size: 2, sequential: true}, script: 'echo $AWS_BATCH_JOB_ARRAY_INDEX'}
"""
JOB = "jobs: {{a: {{image: 'x:1', memory: 64, {}}}}}"


def told(text: str) -> list[str]:
    return [str(each).removeprefix("f.yaml:") for each in differences(compiled(text))]


def test_what_aws_does_likewise_is_not_named() -> None:
    assert told(SAME) == []


@pytest.mark.parametrize(
    ("body", "where", "words"),
    [
        ("script: x, vcpus: 0.5", "1:49: jobs.a.vcpus:", "it would take 1"),
        ("script: x, timeout: 30s", "1:49: jobs.a.timeout:", "below 60 s; this is 30 s"),
        ("script: x, timeout: 60.5", "1:49: jobs.a.timeout:", "whole seconds"),
        ("script: x, priority: 3", "1:8: jobs.a:", "FIFO"),
        ("script: x, stop_grace: 5s", "1:49: jobs.a.stop_grace:", "30 s between SIGTERM and SIGKILL"),
        ("script: x, workdir: /w", "1:49: jobs.a.workdir:", "WORKDIR"),
        ("script: x, pull: always", "1:49: jobs.a.pull:", "pulls each time"),
        ("script: x, network: none", "1:49: jobs.a.network:", "own network"),
        ("script: x, cpu: quota", "1:49: jobs.a.cpu:", "Fargate"),
        ("script: x, volumes: ['v:/v']", "1:49: jobs.a.volumes:", "EFS"),
        ("script: x, volumes: ['./v:/v']", "1:49: jobs.a.volumes:", "the instance"),
        ("script: x, lost_attempts: {free: 1}", "1:49: jobs.a.lost_attempts:", "counts as any other"),
        ("script: x, array: 1", "1:56: jobs.a.array", "2 to 10,000"),
        ("script: x, array: {size: 0}", "1:57: jobs.a.array.size:", "2 to 10,000"),
        ("script: x, array: {size: 5, max_running: 2}", "1:66: jobs.a.array.max_running:", "as many children"),
        ("script: x, array: {size: 5, tolerate: 20%}", "1:66: jobs.a.array.tolerate:", "FAILED when one child did"),
        ("script: x, array: {items: [1, 2]}", "1:57: jobs.a.array.items:", "its index alone"),
        ("script: x, retry: {attempts: 2, backoff: 1s}", "1:70: jobs.a.retry.backoff:", "at once"),
        ("script: x, retry: {attempts: 2, rules: [{reason: 'Out(*', action: retry}]}", "1:79: jobs.a.retry.rules[0].reason:",
         "letters, digits"),
        ("script: x, retry: {attempts: 2, rules: [{exit: 1, action: retry, memory: x2}]}",
         "1:103: jobs.a.retry.rules[0].memory:", "same memory"),
        ("script: 'echo $FLOWBATCH_ITEM'", "1:38: jobs.a.script:", "sets no FLOWBATCH_ITEM"),
        ("script: x, env: {A: '$FLOWBATCH_RUN_ID'}", "1:49: jobs.a.env:", "sets no FLOWBATCH_RUN_ID"),
        ("script: x, log: {driver: local}", "1:55: jobs.a.log.driver:", "no log driver"),
        ("script: x, x-fake: {exit: 1}", "1:49: jobs.a.x-fake:", "no such backend"),
    ],
)  # fmt: skip
def test_each_extension_is_named(body: str, where: str, words: str) -> None:
    [found] = told(JOB.format(body))
    assert found.startswith(where), found
    assert words in found


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("deadline: 1h", "1:1: deadline:", "timeouts of attempts alone"),
        ("finally: {z: {image: 'x:1', memory: 64, script: x}}", "1:1: finally:", "always run last"),
        ("schedule: {cron: '0 2 * * *'}", "1:1: schedule:", "EventBridge"),
        ("tokens: {own: 1}", "1:15: tokens.own", "the account's"),
        ("volumes: {v: {keep: true}}", "1:15: volumes.v.keep:", "EFS"),
        ("queues: {q: {max_running: 1}}", "1:14: queues.q.max_running:", "consumable resources"),
        ("environments: {e: {memory: 1GiB}}", "1:20: environments.e.memory:", "vCPUs alone"),
        ("environments: {e: {vcpus: 1.5}}", "1:20: environments.e.vcpus:", "whole vCPUs"),
        ("secrets: {s: {env: S}}\ndefinitions: {d: {secrets: {S: s}}}", "2:19: definitions.d.secrets:", "an ARN"),
    ],
)
def test_those_of_the_file_too(text: str, where: str, words: str) -> None:
    [found] = told(text + "\n" + JOB.format("script: x"))
    assert found.startswith(where), found
    assert words in found


def test_what_a_job_lacks() -> None:
    assert told("jobs: {a: {script: x}, _b: {memory: 1, script: x, needs: [{job: a, when: done}]}}") == [
        "1:8: jobs.a: has no `image`, and AWS Batch runs containers alone",
        "1:8: jobs.a: has no `memory`, which AWS Batch requires",
        "1:24: jobs._b: the name of a job begins with a letter or a digit in AWS Batch",
        "1:24: jobs._b: has no `image`, and AWS Batch runs containers alone",
        "1:29: jobs._b.memory: AWS Batch takes 4 MiB at least",
        "1:68: jobs._b.needs[0].when: AWS Batch knows no dependency but on success: the job would fail with what it needs",
    ]
