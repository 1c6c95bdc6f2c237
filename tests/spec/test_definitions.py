"""Definitions of the registry: names, what may be registered, and `uses` of a stored one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from flowbatch.errors import WorkflowInvalid
from flowbatch.model.definition import DefinitionRow, Registration
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import JobSpec
from flowbatch.spec.definitions import Lookup, Reference, read_registration
from flowbatch.spec.registering import definition_name
from tests.spec.building import compiled, problems, specs

SECRETS = "secrets: {key: {env: KEY}}\n"


class Registry:
    """A lookup over rows made of registrations, each a revision of its name."""

    def __init__(self, *made: Registration, inactive: tuple[str, ...] = ()) -> None:
        self.rows: list[DefinitionRow] = []
        for each in made:
            number = 1 + sum(row.name == each.name for row in self.rows)
            active = f"{each.name}:{number}" not in inactive
            ended = None if active else Millis(1)
            self.rows.append(
                DefinitionRow(each.name, number, active, each.body, each.digest, each.tags, Millis(0), ended)
            )

    def __call__(self, name: str, revision: int | None) -> DefinitionRow | None:
        for row in reversed(self.rows):
            if row.name == name and (row.active if revision is None else row.revision == revision):
                return row
        return None


def registered(text: str | dict[str, Any], **changes: object) -> Registration:
    if isinstance(text, dict):
        text = json.dumps({"jobDefinitionName": "blur", "type": "container", **text, **changes})
    return read_registration(text.encode(), "blur.json")


def refused(text: str | dict[str, Any]) -> list[str]:
    try:
        registered(text)
    except WorkflowInvalid as error:
        return [str(problem).removeprefix("blur.json:") for problem in error.problems]
    return []


ECHO = {"containerProperties": {"image": "busybox:1", "command": ["echo", "Ref::x"]}}
ARN = "arn:aws:batch:eu-west-1:123456789012:job-definition/blur"

# --- names


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("blur", Reference("blur")),
        ("blur:12", Reference("blur", 12)),
        (ARN, Reference("blur")),
        (ARN + ":3", Reference("blur", 3)),
        ("arn:aws-cn:batch:::job-definition/a", Reference("a")),
    ],
)
def test_what_names_a_definition(text: str, reference: Reference) -> None:
    assert Reference.parse(text) == reference


@pytest.mark.parametrize(
    "text", ["", "a b", "blur:", "blur:0", "blur:x", "blur:-1", "blur:1:2", "a" * 129, "arn:aws:batch:x"]
)
def test_what_names_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"definition|revision"):
        Reference.parse(text)


def test_names_of_a_files_own() -> None:
    assert definition_name("film", "blender") == "film--blender"
    assert definition_name("film", "render", ["render"]) == "film--job--render"
    long = definition_name("w" * 100, "j" * 100)
    assert len(long) == 128
    assert long != definition_name("w" * 100, "j" * 99 + "k")


# --- what a file registers


def test_a_files_definitions_and_its_jobs_that_are_their_own() -> None:
    text = """
    name: film
    params: {n: {type: integer, default: 3}}
    defaults: {memory: 64}
    definitions:
      blender: {image: 'blender:4', tags: {team: film}, env: {N: '${{ params.n }}'}}
      unused: {command: [x]}
    jobs:
      render: {uses: blender, script: render}
      blender: {command: [y], tags: {a: b}}
    finally:
      report: {command: [z]}
    """
    run = compiled(text, register=True).run
    found = {each.name: each for each in run.definitions}
    assert list(found) == ["film--blender", "film--unused", "film--job--blender", "film--report"]
    assert json.loads(found["film--blender"].body) == {
        "type": "container",
        "containerProperties": {
            "image": "blender:4",
            "resourceRequirements": [{"type": "MEMORY", "value": "64"}],
            "environment": [{"name": "N", "value": "3"}],
        },
    }
    assert found["film--blender"].tags == (("team", "film"),)
    assert found["film--job--blender"].tags == ()
    assert {job.spec.key: job.spec.definition for job in run.jobs} == {
        "render": "film--blender",
        "blender": "film--job--blender",
        "report": "film--report",
    }
    assert compiled(text).run.definitions == ()


def test_the_digest_is_of_what_is_said_and_not_of_how() -> None:
    def digest(body: str) -> str:
        [made] = compiled(f"jobs: {{a: {body}}}", register=True).run.definitions
        return made.digest

    short = digest("{command: [x], env: {A: '1', B: '2'}, vcpus: 1.5, timeout: 2m}")
    aws = """{timeout: {attemptDurationSeconds: 120}, containerProperties: {command: [x], environment:
      [{name: A, value: '1'}, {name: B, value: '2'}], resourceRequirements: [{type: VCPU, value: '1.5'}]}}"""
    assert digest(aws) == short
    assert digest("{command: [x], env: {A: '1', B: '2'}, vcpus: 1.5, timeout: 3m}") != short


# --- a stored one under a job


def test_uses_of_a_stored_definition() -> None:
    registry = Registry(registered({**ECHO, "parameters": {"x": "1", "y": "2"}, "tags": {"team": "film"}}))
    text = "jobs: {a: {uses: NAME, parameters: {x: 7}, env: {A: b}}}"
    for name in ("blur", "'blur:1'", f"'{ARN}'", f"'{ARN}:1'"):
        spec = specs(text.replace("NAME", name), registry=registry)["a"]
        assert spec.definition == "blur:1"
        assert spec.command == ("echo", "Ref::x")
        assert dict(spec.parameters) == {"x": "7", "y": "2"}
        assert spec.container is not None
        assert spec.container.image == "busybox:1"
        assert spec.tags == ()


def test_without_a_revision_the_latest_active_one() -> None:
    made = [registered(ECHO, timeout={"attemptDurationSeconds": 60 * number}) for number in (1, 2, 3)]
    registry = Registry(*made, inactive=("blur:3",))
    [found] = specs("jobs: {a: {uses: blur}}", registry=registry).values()
    assert (found.definition, found.timeout_ms) == ("blur:2", 120_000)
    [found] = specs("jobs: {a: {uses: 'blur:1'}}", registry=registry).values()
    assert (found.definition, found.timeout_ms) == ("blur:1", 60_000)


def test_the_files_own_comes_first() -> None:
    registry = Registry(registered(ECHO))
    found = specs(
        "definitions: {blur: {command: [own]}}\njobs: {a: {uses: blur}, b: {uses: 'blur:1'}}", registry=registry
    )
    assert found["a"].command == ("own",)
    assert found["b"].definition == "blur:1"


def test_the_layers_over_a_stored_one() -> None:
    registry = Registry(registered(ECHO, timeout={"attemptDurationSeconds": 60}, retryStrategy={"attempts": 3}))
    text = "defaults: {timeout: 5m, memory: 64}\njobs: {a: {uses: blur, attempts: 2}}"
    [found] = specs(text, registry=registry).values()
    assert (found.timeout_ms, found.resources.memory_mib, found.retry.attempts) == (60_000, 64, 2)


def test_tags_reach_the_container_and_never_the_job() -> None:
    registry = Registry(registered(ECHO, propagateTags=True, tags={"a": "1", "b": "1"}))
    [found] = specs("jobs: {j: {uses: blur, tags: {b: '2', c: '2'}}}", registry=registry).values()
    assert dict(found.tags) == {"b": "2", "c": "2"}
    assert found.container is not None
    assert dict(found.container.labels) == {"a": "1", "b": "2", "c": "2"}
    many = Registry(registered(ECHO, propagateTags=True, tags={f"t{n}": "x" for n in range(49)}))
    assert problems("jobs: {j: {uses: blur, tags: {b: '2', c: '2'}}}", registry=many) == [
        "1:24: jobs.j.tags: propagates 51 tags with its definition's, and AWS Batch fails such a job; 50 at most"
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sharpen", "unknown definition 'sharpen'"),
        ("'blur:3'", "Job definition blur:3 does not exist; the latest ACTIVE one is blur:2"),
        ("'blur:1'", "Job definition blur:1 is INACTIVE: it was deregistered; the latest ACTIVE one is blur:2"),
        ("'blur:x'", "'blur:x': a revision is a number from 1, found 'x'"),
    ],
)
def test_what_is_not_there(name: str, told: str) -> None:
    registry = Registry(registered(ECHO), registered(ECHO), inactive=("blur:1",))
    [found] = problems(f"jobs: {{a: {{uses: {name}}}}}", registry=registry)
    assert found.startswith(f"1:18: jobs.a.uses: {told}")


def test_what_a_stored_one_may_not_do_is_told_where_it_is_used() -> None:
    box = {**ECHO["containerProperties"], "volumes": [{"name": "v", "host": {"sourcePath": "/etc"}}],
           "mountPoints": [{"sourceVolume": "v", "containerPath": "/x"}]}  # fmt: skip
    [found] = problems("jobs: {a: {uses: blur}}", registry=Registry(registered({"containerProperties": box})))
    assert found.startswith("1:18: jobs.a.uses: ")
    assert "/etc" in found


# --- what may be registered


def test_a_registration_is_kept_as_it_was_given() -> None:
    body = {**ECHO, "type": "container", "parameters": {"z": "1", "a": "2"}, "timeout": {"attemptDurationSeconds": 60}}
    made = registered({**body, "tags": {"k": "v"}})
    assert json.loads(made.body) == body
    assert list(json.loads(made.body)["parameters"]) == ["z", "a"]
    assert made.tags == (("k", "v"),)
    assert made.name == "blur"


def test_json_beyond_yaml_and_yaml_beyond_json() -> None:
    escaped = json.dumps({"jobDefinitionName": "blur", "containerProperties": {"command": ["echo", "\U0001f600"]}})
    assert "\\ud83d" in escaped
    assert "\U0001f600" in registered(escaped).body
    plain = "jobDefinitionName: blur\ncontainerProperties:\n  command: [echo, hi]\n"
    assert json.loads(registered(plain).body) == {"containerProperties": {"command": ["echo", "hi"]}}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"retryStrategy": {"evaluateOnExit": [{"action": "EXIT", "onReason": "*"}]}},
         "retryStrategy: RetryAttempts must be provided with retry strategy"),
        ({"containerProperties": {"image": "x", "user": "$(id"}},
         "containerProperties.user: User '$(id' does not match regex"),
        ({"jobDefinitionName": "a b"}, "jobDefinitionName: must have 1 to 128 letters, digits, `_` or `-`"),
        ({"parameters": {"p": "x" * 25_000}}, "Job definition size must be less than 24 KiB, got 25 KiB"),
        ({"containerProperties": {"image": "x", "environment": [{"name": "AWS_BATCH_X", "value": "1"}]}},
         "containerProperties.environment[0].name: 'AWS_BATCH_X' is reserved"),
        ({"containerProperties": {"image": "x"}, "eksProperties": {}}, "eksProperties: containerProperties and eksProperties exclude one another"),
        ({"dependsOn": [{"jobId": "x"}]}, "dependsOn: cannot stand here: it belongs to the job"),
        ({"containerProperties": {"image": "x", "volumes": [{"name": "v", "host": {"sourcePath": "./in"}}],
                                  "mountPoints": [{"sourceVolume": "v", "containerPath": "/in"}]}},
         "containerProperties.mountPoints[0]: './in' is relative, and a definition belongs to no folder"),
        ({"workdir": "sub"}, "workdir: 'sub' is relative"),
        ({"retryStrategy": {"attempts": 11}}, "retryStrategy.attempts: must be at most 10, found 11"),
        ({"containerPropertys": {}}, "containerPropertys: unknown key 'containerPropertys' (did you mean"),
    ],
)  # fmt: skip
def test_what_cannot_be_registered(body: dict[str, Any], told: str) -> None:
    found = refused(body)
    assert [each for each in found if told in each], found


def test_all_that_is_wrong_at_once() -> None:
    assert refused("[]")[0].endswith('"containerProperties": {…}}')
    told = refused({"jobDefinitionName": "?", "timeout": {"attemptDurationSeconds": 0}, "tags": []})
    assert [each.split(": ")[1] for each in told] == ["jobDefinitionName", "timeout", "tags"]


# --- what is registered from a file is, used again, the same job

words = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S"], include_characters=" "), min_size=1, max_size=12
).filter(lambda word: "${{" not in word)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: not name.upper().startswith(("AWS_BATCH", "FLOWBATCH_"))
)
targets = st.from_regex(r"/[a-eg-z][a-z]{0,5}", fullmatch=True)
rule = st.fixed_dictionaries(
    {"action": st.just("retry"), "exit": st.sampled_from(["1", "13*", "*"])},
    optional={
        "reason": st.sampled_from(["Out*", "X"]), "status": st.sampled_from(["Host EC2*"]), "memory": st.just("x1.5"),
    },
) | st.just({"action": "EXIT", "reason": "*"})  # fmt: skip
retry = st.fixed_dictionaries(
    {"attempts": st.integers(1, 10)},
    optional={"backoff": st.sampled_from(["10s", "500ms..5m"]), "rules": st.lists(rule, max_size=5)},
)
fake = st.fixed_dictionaries(
    {},
    optional={
        "duration": st.sampled_from(["5ms", "2m"]), "exit": st.integers(0, 255), "lost": st.booleans(), "output": words,
        "by_index": st.dictionaries(st.sampled_from(["0", "7"]), st.fixed_dictionaries({"exit": st.integers(0, 9)})),
    },
)  # fmt: skip
command = st.lists(words, min_size=1, max_size=4)
process = {
    "vcpus": st.sampled_from([0.001, 0.5, 2, 7.125]),
    "memory": st.integers(6, 4096), "env": st.dictionaries(names, words, max_size=3), "gpus": st.just(0),
    "parameters": st.dictionaries(names, words, max_size=3), "retry": retry, "timeout": st.sampled_from(["90s", "1500ms"]),
    "priority": st.integers(0, 9999), "stop_grace": st.sampled_from(["5s", "1ms"]), "tags": st.dictionaries(names, words),
    "lost_attempts": st.fixed_dictionaries({"free": st.integers(0, 3)}), "x-fake": fake,
}  # fmt: skip
box: dict[str, st.SearchStrategy[Any]] = {
    "pull": st.sampled_from(["missing", "always", "never"]), "readonly": st.booleans(), "init": st.booleans(),
    "network": st.sampled_from(["bridge", "none"]), "cpu": st.sampled_from(["shares", "quota"]), "shm": st.integers(1, 99),
    "ulimits": st.dictionaries(st.sampled_from(["nofile", "core"]), st.integers(0, 9)), "propagateTags": st.booleans(),
    "log": st.just({"driver": "json-file", "options": {"max-size": "1m"}}), "user": st.sampled_from(["7", "me:me"]),
    "tmpfs": st.just(["/f:size=3MiB,noexec"]),
    "volumes": st.dictionaries(targets, st.sampled_from(["./a", "/lab/b", "v", "host-0"])).map(
        lambda found: [f"{source}:{target}:ro" for target, source in found.items()]
    ),
}  # fmt: skip


SECRET = {"secrets": st.just({"SECRET-": "key"})}


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    body: dict[str, Any] = draw(st.fixed_dictionaries({"command": command}, optional={**process, **SECRET}))
    if draw(st.booleans()):
        body |= {"image": "busybox:1"} | draw(st.fixed_dictionaries({}, optional=box))
    else:
        body |= draw(st.fixed_dictionaries({}, optional={"workdir": st.sampled_from(["sub", "/lab/x"])}))
    if body.get("retry", {}).get("rules") and "memory" not in body:
        body["memory"] = 64
    return body


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(definitions(), st.booleans())
def test_a_definition_of_a_file_used_elsewhere_is_the_same_job(body: dict[str, Any], inline: bool) -> None:
    if inline:
        body.pop("tags", None)  # those are the job's then, and stay with it
    there = json.dumps(body, ensure_ascii=False)
    file = SECRETS + (f"jobs: {{a: {there}}}" if inline else f"definitions: {{d: {there}}}\njobs: {{a: {{uses: d}}}}")
    run = compiled(file, register=True, file="there.yaml").run
    registry: Lookup = Registry(*run.definitions)
    name = "there--a" if inline else "there--d"
    [again] = specs(SECRETS + f"jobs: {{a: {{uses: {name}}}}}", registry=registry).values()
    assert again.definition == f"{name}:1"
    assert unnamed(again) == unnamed(run.jobs[0].spec)
    [made] = [each for each in run.definitions if each.name == name]
    whole = {"jobDefinitionName": name, **json.loads(made.body), **({"tags": dict(made.tags)} if made.tags else {})}
    assert registered(json.dumps(whole, ensure_ascii=False)) == made  # nothing in it would be refused


def unnamed(spec: JobSpec) -> JobSpec:
    return replace(spec, definition="")
