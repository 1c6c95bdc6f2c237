"""Who may do what: the evaluator against a small reference of IAM's rules, and every rule by hand."""

from __future__ import annotations

import fnmatch
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbatch.http.globs import arn_matches, matches
from flowbatch.http.policies import Policy, PolicyInvalid, Target, authorize, parse_policy

QUEUE = "arn:aws:batch:eu-west-1:123456789012:job-queue/fast"
JOB = "arn:aws:batch:eu-west-1:123456789012:job/0f9a1c1e"


def policy(*statements: dict[str, Any]) -> Policy:
    return parse_policy("test", json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def allow(action: str | list[str] = "batch:*", resource: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: str | list[str] = "batch:*", resource: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


def allowed(policies: list[Policy], action: str, *arns: str) -> bool:
    return authorize(policies, action, [Target(arn, {}) for arn in arns or ("*",)]).allowed


def test_nothing_is_allowed_until_a_statement_allows_it() -> None:
    assert not allowed([], "batch:SubmitJob", QUEUE)
    assert not allowed([policy(allow("batch:ListJobs"))], "batch:SubmitJob", QUEUE)
    assert allowed([policy(allow("batch:SubmitJob"))], "batch:SubmitJob", QUEUE)


def test_no_target_is_no_permission() -> None:
    assert not authorize([policy(allow("*"))], "batch:SubmitJob", []).allowed


def test_a_deny_wins_wherever_it_stands() -> None:
    first = policy(deny("batch:Terminate*"), allow())
    last = policy(allow(), deny("batch:Terminate*"))
    apart = [policy(allow()), policy(deny("batch:Terminate*"))]
    for policies in ([first], [last], apart):
        assert not allowed(policies, "batch:TerminateJob", JOB)
        assert allowed(policies, "batch:CancelJob", JOB)


def test_every_target_of_an_action_must_be_allowed() -> None:
    only_queue = policy(allow("batch:SubmitJob", "arn:aws:batch:*:*:job-queue/*"))
    decision = authorize([only_queue], "batch:SubmitJob", [Target(QUEUE, {}), Target(JOB, {})])
    assert not decision.allowed
    assert decision.resource == JOB
    assert decision.because == "because no identity-based policy allows it"


def test_what_decided_is_told() -> None:
    named = policy(allow(Sid="Read"), deny("batch:Delete*", Sid="Keep"))
    assert authorize([named], "batch:ListJobs", [Target("*", {})]).statement == "Read"
    refused = authorize([named], "batch:DeleteJobQueue", [Target(QUEUE, {})])
    assert (refused.allowed, refused.statement, refused.because) == (False, "Keep", "with an explicit deny")


def test_actions_ignore_case_and_resources_do_not() -> None:
    assert allowed([policy(allow("BATCH:submitjob"))], "batch:SubmitJob", QUEUE)
    assert not allowed([policy(allow(resource=QUEUE.upper().replace("ARN:AWS", "arn:aws")))], "batch:SubmitJob", QUEUE)


def test_not_action_and_not_resource() -> None:
    but_delete = policy({"Effect": "Allow", "NotAction": "batch:Delete*", "Resource": "*"})
    assert allowed([but_delete], "batch:SubmitJob", QUEUE)
    assert not allowed([but_delete], "batch:DeleteJobQueue", QUEUE)
    but_fast = policy({"Effect": "Allow", "Action": "*", "NotResource": QUEUE})
    assert not allowed([but_fast], "batch:SubmitJob", QUEUE)
    assert allowed([but_fast], "batch:SubmitJob", JOB)


def test_an_action_without_a_resource_needs_the_star() -> None:
    assert not allowed([policy(allow("batch:ListJobs", QUEUE))], "batch:ListJobs")
    assert allowed([policy(allow("batch:ListJobs", "*"))], "batch:ListJobs")


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"aws:ResourceTag/team": ["a", "b"]}}, {"aws:resourcetag/team": ["b"]}, True),
        ({"StringEquals": {"aws:ResourceTag/team": "a"}}, {"aws:resourcetag/team": ["A"]}, False),
        ({"StringEquals": {"aws:ResourceTag/team": "a"}}, {}, False),
        ({"StringEqualsIfExists": {"aws:ResourceTag/team": "a"}}, {}, True),
        ({"StringNotEquals": {"aws:ResourceTag/team": "a"}}, {}, True),
        ({"StringNotEquals": {"aws:ResourceTag/team": ["a", "b"]}}, {"aws:resourcetag/team": ["b"]}, False),
        ({"StringEqualsIgnoreCase": {"batch:User": "ROOT"}}, {"batch:user": ["root"]}, True),
        ({"StringLike": {"batch:Image": "registry.example.org/*"}}, {"batch:image": ["registry.example.org/a:1"]}, True),
        ({"StringNotLike": {"batch:Image": "registry.example.org/*"}}, {"batch:image": ["evil/a"]}, True),
        ({"Bool": {"batch:Privileged": "true"}}, {"batch:privileged": ["true"]}, True),
        ({"Bool": {"batch:Privileged": True}}, {"batch:privileged": ["false"]}, False),
        ({"Null": {"aws:RequestTag/cost": "true"}}, {}, True),
        ({"Null": {"aws:RequestTag/cost": "true"}}, {"aws:requesttag/cost": ["1"]}, False),
        ({"Null": {"aws:RequestTag/cost": "false"}}, {"aws:requesttag/cost": ["1"]}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["10.2.3.4"]}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["::1"]}, False),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["192.0.2.1"]}, True),
        ({"NumericLessThan": {"batch:SchedulingPriority": 5}}, {"batch:schedulingpriority": ["4"]}, True),
        ({"NumericLessThan": {"batch:SchedulingPriority": 5}}, {"batch:schedulingpriority": ["x"]}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:tagkeys": ["a", "b"]}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:tagkeys": ["a", "c"]}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}}, {}, True),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["a"]}}, {"aws:tagkeys": ["c", "a"]}, True),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["a"]}}, {}, False),
        ({"ForAnyValue:StringNotEquals": {"aws:TagKeys": ["a"]}}, {}, False),
        ({"StringEquals": {"batch:User": "a"}, "Bool": {"batch:Privileged": "false"}}, {"batch:user": ["a"]}, False),
    ],
)  # fmt: skip
def test_conditions(condition: dict[str, Any], context: dict[str, list[str]], *, holds: bool) -> None:
    decision = authorize([policy(allow(Condition=condition))], "batch:SubmitJob", [Target(QUEUE, context)])
    assert decision.allowed is holds


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[]", "an object with Version"),
        ("{", "Expecting property name"),
        ('{"Statement": []}', "at least one statement"),
        ('{"Statement": {}, "Statment": {}}', "unknown element 'Statment'"),
        ('{"Version": "2024-01-01", "Statement": [{}]}', "Version is '2012-10-17'"),
        ('{"Statement": {"Effect": "Maybe"}}', "Allow or Deny, not 'Maybe'"),
        ('{"Statement": {"Effect": "Allow", "Effect": "Deny"}}', "'Effect' is there twice"),
        ('{"Statement": {"Effect": "Deny", "Resource": "*"}}', "exactly one of Action and NotAction"),
        ('{"Statement": {"Effect": "Deny", "Action": "SubmitJob", "Resource": "*"}}', "is no action"),
        ('{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "fast"}}', "is no ARN"),
        ('{"Statement": {"Effect": "Deny", "Action": "*", "Resource": {}}}', "a string or a list of strings"),
        ('{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*", "Principal": "*"}}', "unknown element"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_policy_that_is_not_understood_in_full_is_refused(text: str, wrong: str) -> None:
    if len(text) > 10_240:
        wrong = "at most 10240"
    with pytest.raises(PolicyInvalid, match=wrong):
        parse_policy("p", text)


@pytest.mark.parametrize(
    ("condition", "wrong"),
    [
        ({"StringMatches": {"batch:User": "a"}}, "operator 'StringMatches' is not known"),
        ({"StringEquals": {"batch:Colour": "a"}}, "condition key 'batch:Colour' is not known"),
        ({"StringEquals": {"aws:TagKeys": "a"}}, "say ForAnyValue:StringEquals"),
        ({"StringEquals": {"batch:User": []}}, "at least one value"),
        ({"Bool": {"batch:Privileged": "yes"}}, "true or false"),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/99"}}, "10.0.0.0/99"),
        ({"NumericEquals": {"batch:SchedulingPriority": "high"}}, "high"),
        ({"Null": {"batch:User": "maybe"}}, "true or false"),
        ({"StringEquals": "a"}, "an object of keys"),
    ],
)
def test_a_condition_that_is_not_understood_is_refused(condition: dict[str, Any], wrong: str) -> None:
    with pytest.raises(PolicyInvalid, match=wrong):
        policy(deny(Condition=condition))


def test_a_wildcard_costs_little_whatever_the_pattern() -> None:
    assert not matches("*a" * 2_000, "a" * 1_999 + "b" * 3_000)


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_globs_are_those_of_fnmatch(pattern: str, text: str) -> None:
    assert matches(pattern, text) == fnmatch.fnmatchcase(text, pattern)


def test_a_wildcard_in_an_arn_stays_in_its_part() -> None:
    assert not arn_matches("arn:aws:batch:*:job-queue/fast", QUEUE)
    assert not arn_matches("arn:aws:*", QUEUE)
    assert arn_matches("arn:aws:batch:*:*:*", QUEUE)
    assert arn_matches("arn:aws:batch:*:*:job-queue/*", QUEUE)


STATEMENTS = st.builds(
    lambda effect, action, resource, tag: {
        "Effect": effect,
        "Action": action,
        "Resource": resource,
        **({} if tag is None else {"Condition": {"StringEquals": {"aws:ResourceTag/team": tag}}}),
    },
    st.sampled_from(["Allow", "Deny"]),
    st.sampled_from(["*", "batch:*", "batch:SubmitJob", "batch:Cancel*", "logs:*"]),
    st.sampled_from(["*", QUEUE, JOB, "arn:aws:batch:*:*:job-queue/*"]),
    st.sampled_from([None, "red", "blue"]),
)
ACTIONS = st.sampled_from(["batch:SubmitJob", "batch:CancelJob", "batch:ListJobs", "logs:GetLogEvents"])


def reference(statements: list[dict[str, Any]], action: str, arn: str, tag: str | None) -> bool:
    """IAM's three steps, as its documents have them."""
    applying = [
        each
        for each in statements
        if fnmatch.fnmatchcase(action, each["Action"])
        and fnmatch.fnmatchcase(arn, each["Resource"])
        and ("Condition" not in each or each["Condition"]["StringEquals"]["aws:ResourceTag/team"] == tag)
    ]
    if any(each["Effect"] == "Deny" for each in applying):
        return False
    return any(each["Effect"] == "Allow" for each in applying)


@given(
    st.lists(STATEMENTS, min_size=1, max_size=6), ACTIONS, st.sampled_from([QUEUE, JOB]), st.sampled_from([None, "red"])
)
def test_decisions_are_those_of_the_reference(
    statements: list[dict[str, Any]], action: str, arn: str, tag: str | None
) -> None:
    context = {} if tag is None else {"aws:resourcetag/team": [tag]}
    decision = authorize([policy(*statements)], action, [Target(arn, context)])
    assert decision.allowed is reference(statements, action, arn, tag)


@given(st.lists(STATEMENTS, min_size=1, max_size=5), STATEMENTS, ACTIONS, st.sampled_from([QUEUE, JOB]))
def test_one_more_deny_never_allows(
    statements: list[dict[str, Any]], more: dict[str, Any], action: str, arn: str
) -> None:
    target = [Target(arn, {})]
    before = authorize([policy(*statements)], action, target).allowed
    after = authorize([policy(*statements, {**more, "Effect": "Deny"})], action, target).allowed
    assert before or not after
