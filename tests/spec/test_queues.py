"""Queues in the file and in the settings: policies, limits, shares (aws-batch.md §9.1, §9.4, §9.5)."""

from __future__ import annotations

import pytest

from flowbatch.model.queues import FairShare, TimeLimit
from flowbatch.settings import parse_settings
from flowbatch.spec.queues import overlap
from tests.spec.building import compiled, problems, specs

JOBS = "jobs: {a: {queue: q, share: alice, script: x}}"
AWS = """
queues:
  q:
    fairsharePolicy:
      shareDecaySeconds: 3600
      computeReservation: 20
      shareDistribution: [{shareIdentifier: alice, weightFactor: 0.5}, {shareIdentifier: 'team*', weightFactor: 0.0001}, {shareIdentifier: z}]
    jobStateTimeLimitActions:
      - {reason: 'MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT', state: RUNNABLE, maxTimeSeconds: 600, action: CANCEL}
jobs: {a: {queue: q, shareIdentifier: alice, schedulingPriority: 7, script: x}}
"""
SHORT = """
queues:
  q:
    policy: {share_decay: 1h, compute_reservation: 20, shares: {alice: 0.5, 'team*': 0.0001, z: 1}}
    limits: [{reason: 'MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT', max_time: 10m}]
jobs: {a: {queue: q, share: alice, priority: 7, script: x}}
"""


@pytest.mark.parametrize("text", [AWS, SHORT])
def test_both_spellings_say_the_same(text: str) -> None:
    plan = compiled(text)
    queue = next(each for each in plan.queues if each.name == "q")
    assert queue.policy == FairShare(3_600_000, 20, (("alice", 5_000), ("team*", 1), ("z", 10_000)))
    assert queue.limits == (TimeLimit("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", 600_000),)
    (job,) = plan.run.jobs
    assert (job.spec.share, job.spec.priority) == ("alice", 7)


def test_a_policy_may_say_nothing_and_a_parameter_may_say_whose_it_is() -> None:
    text = """
    params: {user: {default: bob}}
    queues: {q: {policy: {}}}
    jobs: {a: {queue: q, share: '${{ params.user }}', script: x}}
    """
    assert specs(text)["a"].share == "bob"
    assert compiled(text).queues[0].policy == FairShare()


def test_a_share_of_the_defaults_is_for_queues_with_a_policy() -> None:
    text = """
    queues: {q: {policy: {share_decay: 0}}, f: {}}
    defaults: {share: alice}
    jobs: {a: {queue: q, script: x}, b: {queue: f, script: x}, c: {queue: q, share: bob, script: x}}
    """
    assert [spec.share for spec in specs(text).values()] == ["alice", None, "bob"]


@pytest.mark.parametrize(
    ("queues", "said"),
    [
        ("{q: {policy: {share_decay: 200h}}}", "queues.q.policy.share_decay: at most 7 days (168h) can be looked back"),
        ("{q: {policy: {compute_reservation: 100}}}", "queues.q.policy.compute_reservation: must be at most 99"),
        ("{q: {policy: {shares: {alice: 0}}}}", "queues.q.policy.shares.alice: a weight lies between 0.0001 and 999.9999"),
        ("{q: {policy: {shares: {alice: 1000}}}}", "queues.q.policy.shares.alice: a weight lies between 0.0001 and"),
        ("{q: {policy: {shares: {a-b: 1}}}}", "queues.q.policy.shares.a-b: 'a-b' is not a share; 1 to 255 letters"),
        ("{q: {policy: {shares: {'a*b': 1}}}}", "queues.q.policy.shares.a*b: 'a*b' is not a share; 1 to 255 letters"),
        ("{q: {policy: {shares: {'al*': 1, alice: 2}}}}", "queues.q.policy.shares.alice: alice and al* overlap"),
        ("{q: {policy: {shares: {}, shareDistribution: []}}}",
         "queues.q.policy.shareDistribution: says the same as 'shares'; give one of them"),
        ("{q: {policy: {}, fairsharePolicy: {}}}", "queues.q.fairsharePolicy: says the same as 'policy'"),
        ("{q: {policy: {}, limits: [{reason: UNDETERMINED, max_time: 1h}]}}",
         "queues.q.limits[0].reason: must be one of CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY, "),
        ("{q: {policy: {}, limits: [{reason: 'CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY', max_time: 9m}]}}",
         "queues.q.limits[0].max_time: a limit lies between 10m and 24h, found '9m'"),
        ("{q: {policy: {}, limits: [{reason: 'CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY'}]}}",
         "queues.q.limits[0]: how long it may be is not given"),
        ("{q: {policy: {}, limits: [{reason: 'CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY', max_time: 1h, action: TERMINATE}]}}",
         "queues.q.limits[0].action: must be 'CANCEL'"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_queue(queues: str, said: str) -> None:
    found = problems(f"queues: {queues}\n{JOBS}")
    assert [each for each in found if said in each], found
    assert len(found) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("queues: {q: {}}\njobs: {a: {queue: q, share: me, script: x}}",
         "2:22: jobs.a.share: queue q has no `policy`: nothing there goes by shares; leave it out"),
        ("queues: {q: {policy: {}}}\njobs: {a: {queue: q, script: x}}",
         "2:8: jobs.a: queue q is divided among shares by its policy: say whose this job is, such as `share: alice`"),
        ("queues: {q: {policy: {}}}\njobs: {a: {queue: q, share: x, shareIdentifier: y, script: x}}",
         "2:32: jobs.a.shareIdentifier: says the same as 'share'; give one of them"),
        ("queues: {q: {policy: {}}}\njobs: {a: {queue: q, share: team-a, script: x}}",
         "2:29: jobs.a.share: 'team-a' is not a share; shares have 1 to 255 letters and digits, nothing else"),
        ("queues: {q: {state: disabled}}\njobs: {a: {queue: q, script: x}}",
         "2:19: jobs.a.queue: queue q is disabled and takes no jobs; enable it, or name another queue"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_job(text: str, said: str) -> None:
    assert problems(text) == [said]


def test_a_queue_has_three_environments_at_most() -> None:
    places = "environments: {a: {}, b: {}, c: {}, d: {}}"
    assert not problems(f"{places}\nqueues: {{q: {{environments: [a, b, c]}}}}\njobs: {{j: {{queue: q, script: x}}}}")
    (said,) = problems(f"{places}\nqueues: {{q: {{environments: [a, b, c, d]}}}}\njobs: {{j: {{queue: q, script: x}}}}")
    assert said.endswith(
        "queues.q.environments[3]: a queue has at most 3 environments, tried in order, and this one has 4"
    )


def test_settings_have_the_same_queues() -> None:
    settings = parse_settings(b"queues: {q: {policy: {shares: {alice: 2}}, state: DISABLED}}", "flowbatch.yaml")
    (queue, _default) = settings.queues
    assert (queue.policy, queue.enabled) == (FairShare(weights=(("alice", 20_000),)), False)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("a", "a", True), ("a", "b", False), ("a*", "ab", True), ("ab", "a*", True), ("a*", "a", True),
        ("ab*", "a*", True), ("ab*", "ac*", False), ("*", "x", True), ("ab*", "a", False),
    ],
)  # fmt: skip
def test_overlap(one: str, other: str, both: bool) -> None:
    assert overlap(one, other) is both


def test_environments_in_awss_order() -> None:
    text = """
    environments: {near: {vcpus: 1}, far: {vcpus: 8}}
    queues:
      q:
        computeEnvironmentOrder:
          - {order: 2, computeEnvironment: near}
          - {order: 1, computeEnvironment: 'arn:aws:batch:eu-west-1:123456789012:compute-environment/far'}
    jobs: {a: {queue: q, script: x}}
    """
    queue = next(each for each in compiled(text).queues if each.title == "q")
    assert [name.rpartition("/")[2] for name in queue.environments] == ["far", "near"]


def test_what_is_wrong_with_an_order() -> None:
    text = """
    environments: {near: {vcpus: 1}, far: {vcpus: 8}}
    queues:
      q: {computeEnvironmentOrder: [{order: 1, computeEnvironment: near}, {order: 1, computeEnvironment: farr}]}
      r: {environments: [near], computeEnvironmentOrder: []}
    jobs: {a: {queue: q, script: x}}
    """
    said = sorted(each.partition(": ")[2] for each in problems(text))
    assert said == [
        "queues.q.computeEnvironmentOrder[1].computeEnvironment: unknown environment 'farr' (did you mean 'far'?)",
        "queues.q.computeEnvironmentOrder[1].order: 1 is the place of near already",
        "queues.r.computeEnvironmentOrder: is empty; name an environment, or leave the key out to use all",
        "queues.r.computeEnvironmentOrder: says the same as 'environments'; give one of them",
    ]
