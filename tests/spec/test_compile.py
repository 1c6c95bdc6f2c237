from __future__ import annotations

import pytest

from flowbatch.errors import WorkflowInvalid
from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import (
    Action,
    Environment,
    FakeScript,
    JobPlan,
    JobSpec,
    Need,
    Queue,
    RetryPolicy,
    Rule,
    RunPlan,
    SecretSource,
    Stage,
    When,
)
from flowbatch.model.resources import Resources
from flowbatch.spec.compile import parse
from tests.spec.building import MACHINE, compiled, problems, spec, specs, wrong

HELLO = "jobs: {hello: {array: 5, script: echo hello}}"


def test_the_smallest_workflow_whole() -> None:
    assert compiled(HELLO, file="here/hello.yaml").run == RunPlan(
        id=RunId("RUN"),
        workflow="hello",
        jobs=(
            JobPlan(
                JobId("id-0"),
                JobSpec(
                    key="hello",
                    queue="default",
                    command=("/bin/sh", "-ec", "echo hello"),
                    resources=Resources(1000, 0, 0),
                    size=5,
                    workdir="/lab",
                    definition="hello--hello",
                ),
            ),
        ),
        file="/lab/hello.yaml",
        source=HELLO,
    )


def test_every_short_key() -> None:
    text = """
    secrets: {key: {file: ~/.key}, token: {env: TOKEN}, made: {command: [pass, show, x]}}
    jobs:
      a: {script: first}
      b:
        command: [./run, 'Ref::name', 5, 1.50]
        needs: [a]
        vcpus: 0.5
        memory: 1GiB
        gpus: 0
        parameters: {name: 7}
        env: {MODE: 0022, ON: true, EMPTY: ''}
        secrets: {A: key, B: token, C: made}
        workdir: sub/../there
        retry:
          attempts: 4
          backoff: 10s..5m
          rules: [{reason: 'OutOfMemory*', action: retry, memory: x2}, {exit: 2, status: Host*, action: EXIT}]
        lost_attempts: {free: 3}
        timeout: 20m
        priority: 7
        tags: {team: x}
        stop_grace: 5s
        user: nobody
    """
    assert specs(text, root=True)["b"] == JobSpec(
        key="b",
        queue="default",
        command=("./run", "Ref::name", "5", "1.50"),
        resources=Resources(500, 1024, 0),
        needs=(Need(JobId("id-0")),),
        env=(("MODE", "0022"), ("ON", "true"), ("EMPTY", "")),
        secrets=(
            ("A", SecretSource(file="/home/me/.key")),
            ("B", SecretSource(env="TOKEN")),
            ("C", SecretSource(command=("pass", "show", "x"))),
        ),
        parameters=(("name", "7"),),
        workdir="/lab/there",
        retry=RetryPolicy(
            4,
            10_000,
            300_000,
            (
                Rule(Action.RETRY, reason="OutOfMemory*", memory_factor=2.0),
                Rule(Action.EXIT, exit_code="2", status_reason="Host*"),
            ),
            lost_free=3,
        ),
        timeout_ms=1_200_000,
        priority=7,
        tags=(("team", "x"),),
        stop_grace_ms=5_000,
        user="nobody",
        definition="f--b",
    )


def test_the_same_job_in_the_words_of_aws() -> None:
    short = """
    definitions: {blender: {command: [b, x], vcpus: 2, memory: 2048, env: {A: '1'}}}
    queues: {bulk: {}}
    secrets: {s: {env: S}}
    jobs:
      render: {script: x, array: 10, queue: bulk}
      denoise:
        uses: blender
        queue: bulk
        array: {size: 10, sequential: true}
        needs: [{each: render}]
        memory: 6GiB
        env: {B: '2'}
        secrets: {T: s}
        retry: {attempts: 2, rules: [{exit: '1*', action: exit}, {reason: X, status: Y, action: retry}]}
        timeout: 30m
        priority: 5
        stop_grace: 60s
    """
    aws = """
    definitions:
      blender:
        type: container
        containerProperties:
          command: [b, x]
          environment: [{name: A, value: '1'}]
          resourceRequirements: [{type: VCPU, value: '2'}, {type: MEMORY, value: '2048'}]
          secrets: [{name: T, valueFrom: s}]
    queues: {bulk: {}}
    secrets: {s: {env: S}}
    jobs:
      render: {script: x, arrayProperties: {size: 10}, jobQueue: bulk, jobName: render}
      denoise:
        jobDefinition: blender
        jobQueue: bulk
        arrayProperties: {size: 10}
        dependsOn: [{jobId: render, type: N_TO_N}, {type: SEQUENTIAL}]
        containerOverrides:
          environment: [{name: B, value: '2'}]
          resourceRequirements: [{type: MEMORY, value: '6144'}]
        retryStrategy:
          attempts: 2
          evaluateOnExit: [{onExitCode: '1*', action: EXIT}, {onReason: X, onStatusReason: Y, action: Retry}]
        timeout: {attemptDurationSeconds: 1800}
        schedulingPriorityOverride: 5
        stopTimeout: 60
    """
    assert specs(aws) == specs(short)


def test_defaults_under_definitions_under_jobs() -> None:
    text = """
    defaults: {attempts: 2, timeout: 30m, env: {A: d, B: d, C: d}, parameters: {p: d, q: d}, vcpus: 4, tags: {t: d}}
    definitions:
      base: {env: {B: u, C: u}, parameters: {q: u}, retry: {attempts: 5, backoff: 1s}, vcpus: 3, memory: 8, tags: {u: u}}
    jobs:
      a: {uses: base, script: x, env: {C: j}, attempts: 3, memory: 16}
      b: {uses: base, script: x}
      c: {script: x}
    """
    found = specs(text)
    assert dict(found["a"].env) == {"A": "d", "B": "u", "C": "j"}
    assert dict(found["a"].parameters) == {"p": "d", "q": "u"}
    assert dict(found["a"].tags) == {"t": "d"}  # a definition's tags are its own (aws-batch.md §6.3)
    assert found["a"].retry == RetryPolicy(3)  # whole: the definition's backoff is gone
    assert found["a"].resources == Resources(3000, 16, 0)
    assert found["b"].retry == RetryPolicy(5, 1000, 1000)
    assert found["c"].retry == RetryPolicy(2)
    assert {item.timeout_ms for item in found.values()} == {1_800_000}


def test_a_script_over_a_definitions_command() -> None:
    found = specs("definitions: {d: {command: [a]}}\njobs: {j: {uses: d, script: b}, k: {uses: d}}")
    assert found["j"].command == ("/bin/sh", "-ec", "b")
    assert found["k"].command == ("a",)


def test_resources_merge_by_type() -> None:
    text = """
    definitions: {d: {command: [a], resourceRequirements: [{type: VCPU, value: '4'}, {type: MEMORY, value: 2048}]}}
    jobs: {j: {uses: d, containerOverrides: {resourceRequirements: [{type: MEMORY, value: '4096'}]}}}
    """
    assert specs(text)["j"].resources == Resources(4000, 4096, 0)


def test_needs_in_every_form() -> None:
    text = """
    jobs:
      a: {script: x, array: 3}
      b: {script: x, needs: a}
      c: {script: x, needs: [a, {job: b, when: failure}]}
      d: {script: x, needs: [{each: a, when: done}]}
      e: {script: x, dependsOn: [{jobId: a, type: N_TO_N}, {job: b}]}
      f: {script: x, array: 3, needs: [a, {each: a}]}
    """
    a, b = JobId("id-0"), JobId("id-1")
    found = specs(text)
    assert found["b"].needs == (Need(a),)
    assert found["c"].needs == (Need(a), Need(b, When.FAILURE))
    assert found["d"].needs == (Need(a, When.DONE, each=True),)
    assert found["e"].needs == (Need(a, each=True), Need(b))
    assert found["f"].needs == (Need(a), Need(a, each=True))


def test_finally_is_a_stage_of_its_own() -> None:
    text = "jobs: {a: {script: x}}\nfinally: {z: {script: 'say ${{run.status}}'}, y: {script: x, needs: z}}"
    jobs = compiled(text).run.jobs
    assert [(job.spec.key, job.stage) for job in jobs] == [
        ("a", Stage.MAIN),
        ("z", Stage.FINALLY),
        ("y", Stage.FINALLY),
    ]
    assert jobs[1].spec.command[2] == "say ${{ run.status }}"
    assert jobs[2].spec.needs == (Need(JobId("id-1")),)


def test_only_keeps_a_job_and_what_it_needs() -> None:
    text = """
    jobs:
      a: {script: x}
      b: {script: x, needs: a}
      c: {script: x, array: {lines: missing}}
      d: {script: x, needs: [b, c]}
    finally: {z: {script: x}}
    """
    assert [job.spec.key for job in compiled(text, only=("b",)).run.jobs] == ["a", "b", "z"]
    assert problems(text, only=("e",)) == ["2:5: jobs: --only e: there is no such job"]
    assert problems(text, only=("z",))[0].startswith("7:15: finally.z: --only z: `finally` jobs run in any case")


def test_x_keys_are_free_everywhere() -> None:
    text = """
    x-note: {anything: [goes]}
    params: {p: {default: '1', x-ui: slider}}
    jobs: {a: {script: x, x-owner: me, retry: {attempts: 2, x-why: because}, array: {size: 2, x-y: 1}}}
    """
    assert specs(text)["a"].retry == RetryPolicy(2)


def test_x_keys_that_look_like_names_of_jobs_are_jobs() -> None:
    assert list(specs("jobs: {x-a: {script: x}}")) == ["x-a"]


def test_the_script_of_the_fake_backend() -> None:
    found = spec(
        "x-fake: {duration: 2s, exit: 3, output: hi, by_index: {'2': {exit: 0, by_attempt: {'1': {lost: true}}}}}"
    )
    assert found.fake == FakeScript(
        duration_ms=2000,
        exit_code=3,
        output="hi",
        by_index={
            2: FakeScript(
                duration_ms=2000,
                exit_code=0,
                output="hi",
                by_attempt={1: FakeScript(duration_ms=2000, exit_code=0, output="hi", lost=True)},
            )
        },
    )
    assert specs("jobs: {a: {x-fake: {}}}")["a"].command == ("/bin/sh", "-c", ":")


def test_names_of_workflows() -> None:
    assert compiled(f"name: mine\n{HELLO}").run.workflow == "mine"
    assert compiled(HELLO, file="a/b/my film.v2.yaml").run.workflow == "my-film-v2"


def test_a_deadline() -> None:
    assert compiled(f"deadline: 6h\n{HELLO}").run.deadline_ms == 21_600_000


def test_the_engines_places_where_the_file_has_none() -> None:
    engine = (
        Environment("one", "process", Resources(2000, 512, 0)),
        Environment("two", "local", Resources(4000, 1024, 0)),
    )
    made = compiled(
        "jobs: {a: {script: x, queue: bulk}, b: {script: x}}", available=engine, queues=(Queue("bulk", 3, ("one",)),)
    )
    assert (made.run.environments, made.run.queues) == ((), ())
    assert made.environments == engine
    assert made.queues == (Queue("bulk", 3, ("one",)), Queue("default", 1, ("one", "two"), title="default"))


def test_the_files_own_places() -> None:
    text = """
    environments: {farm: {vcpus: 12, memory: 48GiB, backend: process}, light: {state: disabled, gpus: 1}}
    queues: {bulk: {environments: farm, priority: 2, max_running: 9}, all: {state: DISABLED}}
    jobs: {a: {script: x, queue: bulk}}
    """
    run = compiled(text).run
    assert run.environments == (
        Environment("farm", "process", Resources(12_000, 49_152, 0), title="farm"),
        Environment("light", "local", Resources(8000, 16_384, 1), enabled=False, title="light"),
    )
    assert run.queues == (
        Queue("bulk", 2, ("farm",), max_running=9, title="bulk"),
        Queue("all", 1, ("farm", "light"), enabled=False, title="all"),
        Queue("default", 1, ("farm", "light"), title="default"),
    )


def test_queues_of_the_file_over_the_engines_environments() -> None:
    run = compiled("queues: {q: {environments: [default]}}\njobs: {a: {script: x, queue: q}}").run
    assert run.environments == ()
    assert [queue.name for queue in run.queues] == ["q", "default"]


def test_the_engines_queues_are_not_mixed_with_the_files_environments() -> None:
    text = "environments: {e: {}}\njobs: {a: {script: x, queue: bulk}}"
    assert problems(text, queues=(Queue("bulk"),)) == ["2:30: jobs.a.queue: unknown queue 'bulk'; known: default"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("memory: 64GiB", "jobs.a.memory: needs 64 GiB, the largest environment of queue default has 16 GiB"),
        ("vcpus: 9", "jobs.a.vcpus: needs 9 vCPU, the largest environment of queue default has 8 vCPU"),
        ("gpus: 1", "jobs.a.gpus: needs 1 GPU, the largest environment of queue default has 0 GPU"),
    ],
)
def test_what_can_never_fit(body: str, message: str) -> None:
    assert wrong(body) == [message]


def test_what_fits_nowhere_at_once() -> None:
    engine = (Environment("a", "local", Resources(8000, 100, 0)), Environment("b", "local", Resources(1000, 900, 0)))
    assert wrong("vcpus: 8, memory: 900", available=engine) == [
        "jobs.a.memory: needs 8 vCPU, 900 MiB at once, and no environment of queue default has all of it "
        "(a has 8 vCPU, 100 MiB; b has 1 vCPU, 900 MiB)"
    ]
    assert wrong("vcpus: 1", available=(Environment("d", "docker", Resources(8000, 100, 0)),)) == [
        "jobs.a.vcpus: no environment of queue default runs processes"
    ]


def test_what_parse_alone_can_tell() -> None:
    text = b"params: {n: {type: integer}}\njobs: {a: {script: x, array: '${{ params.n }}', needs: b, vcpus: '${{ params.m }}'}}"
    assert [str(problem) for problem in parse(text, "f").problems()] == [
        "f:2:56: jobs.a.needs: unknown job 'b'; known: a",
        "f:2:66: jobs.a.vcpus: unknown parameter 'm'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f: the file is empty; the least is `jobs: {hello: {script: echo hello}}`"),
        ("[a]", "f:1:1: a workflow is a mapping of keys; the least is `jobs: {hello: {script: echo hello}}`"),
        ("hello", "f:1:1: a workflow is a mapping of keys; the least is `jobs: {hello: {script: echo hello}}`"),
    ],
)
def test_no_workflow_at_all(text: str, message: str) -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        parse(text.encode(), "f")
    assert str(caught.value) == message


def test_machine_for_reference() -> None:
    assert MACHINE[0].capacity == Resources(8000, 16_384, 0)


ELSEWHERE = "11111111-2222-3333-4444-555555555555"


def test_jobs_of_elsewhere_are_needed_by_their_ids() -> None:
    found = specs(f"""
      jobs:
        a: {{script: x, needs: {ELSEWHERE}}}
        b: {{script: x, array: 2, dependsOn: [{{jobId: {ELSEWHERE.upper()}, type: N_TO_N}}, {{jobId: a}}]}}
        c: {{script: x, needs: [{{job: "{ELSEWHERE}:7"}}, {{job: {ELSEWHERE}, when: failure}}]}}
    """)
    assert found["a"].needs == (Need(JobId(ELSEWHERE)),)
    assert found["b"].needs == (Need(JobId("id-0")), Need(JobId(ELSEWHERE), each=True))
    assert found["c"].needs == (Need(JobId(ELSEWHERE), index=7), Need(JobId(ELSEWHERE), When.FAILURE))


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        (f"[{{each: '{ELSEWHERE}:1'}}]", "names one child"),
        (f"[{{job: '{ELSEWHERE}:1', when: done}}]", "only its success"),
        (f"[{ELSEWHERE}, {ELSEWHERE}]", "is needed twice"),
        (f"'{ELSEWHERE}:x'", "unknown job"),
    ],
)
def test_wrong_needs_of_elsewhere(needs: str, said: str) -> None:
    assert said in problems(f"jobs: {{a: {{script: x, array: 2, needs: {needs}}}}}")[0]


def test_finally_needs_nothing_of_elsewhere() -> None:
    assert (
        "is no `finally` job"
        in problems(f"jobs: {{a: {{script: x}}}}\nfinally: {{b: {{script: x, needs: {ELSEWHERE}}}}}")[0]
    )
