"""Every mistake gets its place and a sentence that says how to put it right; all of a file's mistakes come at once."""

from __future__ import annotations

import pytest

from flowbatch.model.jobspec import SecretSource
from tests.spec.building import problems, wrong


def test_everything_at_once_in_the_order_of_the_file() -> None:
    text = """\
jobz: {}
environments: {farm: {backend: dockr}}
queues: {bulk: {environments: [frm]}}
jobs:
  a: {script: x, needs: b}
  b: {script: x, needs: a}
  encode:
    script: x
    needs: denoize
    vcpuss: 3
    timeout: soon
  denoise: {uses: blendr, memory: lots}
  m: {script: x, retry: {attempts: 2, rules: [{exit: 1, action: retry, memory: x2}]}}
  n: {array: {lines: none.txt}, script: x}
"""
    assert problems(text) == [
        "1:1: jobz: unknown key 'jobz' (did you mean 'jobs'?)",
        "2:32: environments.farm.backend: must be local, process, docker or fake, found 'dockr'",
        "3:32: queues.bulk.environments[0]: unknown environment 'frm' (did you mean 'farm'?)",
        "5:25: jobs.a.needs: a cycle: a → b → a; none of them could ever start",
        "9:12: jobs.encode.needs: unknown job 'denoize' (did you mean 'denoise'?)",
        "10:5: jobs.encode.vcpuss: unknown key 'vcpuss' (did you mean 'vcpus'?)",
        "11:14: jobs.encode.timeout: 'soon' is not a duration; "
        "write seconds (90) or a duration such as 90s, 20m, 1h30m, 500ms",
        "12:19: jobs.denoise.uses: unknown definition 'blendr'",
        "12:35: jobs.denoise.memory: 'lots' is not a size; write MiB (512) or a size such as 512MiB, 3GiB, 2GB",
        "13:80: jobs.m.retry.rules[0].memory: job 'm' has no memory to multiply; give it `memory`",
        "14:22: jobs.n.array.lines: /lab/none.txt cannot be read: No such file or directory",
    ]


def test_what_cannot_be_read_hides_nothing_else_and_is_told_once() -> None:
    text = """\
jobs:
  a: {script: x, vcpus: 99999999999999999999}
  a: {script: x, attempts: !many 3}
  b: {script: x, attempts: 0, env: {1: x}}
"""
    assert problems(text) == [
        "2:25: jobs.a.vcpus: a whole number must fit 64 bits; put it in quotes if it is meant as text",
        "3:3: jobs.a: the key 'a' is written twice; the first is in line 2",
        "3:28: jobs.a.attempts: the tag '!many' is not supported; leave it out",
        "4:28: jobs.b.attempts: must be at least 1, found 0",
        "4:37: jobs.b.env: a key must be text; write it in quotes: '1'",
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("command: make all", "jobs.a.command: a list is needed, one element per argument; for a line of shell write"),
        ("command: []", "jobs.a.command: an empty command cannot be run; leave it out or name a program"),
        ("command: ['', a]", "jobs.a.command: the first element names the program; it cannot be empty"),
        ("command: [a, [b]]", "jobs.a.command[1]: one value is needed, found a list"),
        ("command: [a], script: b", "jobs.a.script: says the same as 'command'; give one of them"),
        ("script: ''", "jobs.a.script: cannot be empty"),
        ("script: 5", "jobs.a.script: text is needed, found 5; put it in quotes"),
        ("script: [a]", "jobs.a.script: text is needed, found a list"),
        ("attempts: 0", "jobs.a.attempts: must be at least 1, found 0"),
        ("attempts: 11", "jobs.a.attempts: must be at most 10, found 11"),
        ("attempts: '3'", "jobs.a.attempts: a whole number is needed, found '3'"),
        ("attempts: true", "jobs.a.attempts: a whole number is needed, found true"),
        ("attempts: 2.0", "jobs.a.attempts: a whole number is needed, found 2.0"),
        ("attempts: 2, retry: {attempts: 3}", "jobs.a.retry: says the same as 'attempts'; give one of them"),
        ("retry: {}", "jobs.a.retry: 'attempts' is missing"),
        ("retry: 3", "jobs.a.retry: a mapping (key: value) is needed, found 3"),
        (
            "retry: {attempts: 2, backoff: 5m..1s}",
            "jobs.a.retry.backoff: the backoff 5m..1s runs backwards; write 1s..5m",
        ),
        ("retry: {attempts: 2, rules: [{action: exit}]}", "jobs.a.retry.rules[0]: a rule needs at least one of exit"),
        ("retry: {attempts: 2, rules: [{exit: 1}]}", "jobs.a.retry.rules[0]: 'action' is missing"),
        (
            "retry: {attempts: 2, rules: [{exit: 1, action: stop}]}",
            "jobs.a.retry.rules[0].action: must be retry or exit",
        ),
        (
            "retry: {attempts: 2, rules: [{exit: 1x, action: exit}]}",
            "jobs.a.retry.rules[0].exit: '1x' is not an exit code",
        ),
        (
            "retry: {attempts: 2, rules: [{reason: '*a', action: exit}]}",
            "jobs.a.retry.rules[0].reason: '*a': `*` is taken",
        ),
        (
            "retry: {attempts: 2, rules: [{reason: " + "x" * 513 + ", action: exit}]}",
            "jobs.a.retry.rules[0].reason: a pat",
        ),
        (
            "retry: {attempts: 2, rules: [{exit: 1, action: exit, memory: x2}], x-a: 1}, memory: 8",
            "jobs.a.retry.rules[0].mem",
        ),
        (
            "retry: {attempts: 2, rules: [" + "{exit: 1, action: exit}, " * 6 + "]}",
            "jobs.a.retry.rules: has at most 5 entr",
        ),
        (
            "retry: {attempts: 2, rules: [{exit: 1, onExitCode: 2, action: exit}]}",
            "jobs.a.retry.rules[0].onExitCode: says",
        ),
        ("timeout: {seconds: 5}", "jobs.a.timeout: write a duration (20m), or AWS's {attemptDurationSeconds: 1200}"),
        ("timeout: -5", "jobs.a.timeout: a duration above 0 is needed, found -5"),
        ("priority: 10000", "jobs.a.priority: must be at most 9999, found 10000"),
        ("vcpus: 0", "jobs.a.vcpus: vCPUs must lie between 0.001 and 1,000,000, found 0"),
        (
            "vcpus: 2, resourceRequirements: [{type: VCPU, value: '2'}]",
            "jobs.a.resourceRequirements[0]: says the same as",
        ),
        (
            "resourceRequirements: [{type: VCPU, value: x}]",
            "jobs.a.resourceRequirements[0].value: 'x' is not an amount",
        ),
        (
            "resourceRequirements: [{type: CPU, value: '1'}]",
            "jobs.a.resourceRequirements[0].type: must be 'VCPU', 'MEMORY'",
        ),
        ("memory: 5, containerOverrides: {memory: 6}", "jobs.a.containerOverrides.memory: says the same as 'memory'"),
        ("env: [A=b]", "jobs.a.env: a mapping (key: value) is needed, found a list"),
        ("env: {A: }", "jobs.a.env.A: a value is missing; write '' for an empty one"),
        ("env: {'A=B': c}", "jobs.a.env.A=B: 'A=B' is not the name of an environment variable"),
        ("env: {FLOWBATCH_X: c}", "jobs.a.env.FLOWBATCH_X: 'FLOWBATCH_X' is reserved"),
        (
            "env: {A: b}, environment: [{name: C, value: d}]",
            "jobs.a.environment: says the same as 'env'; give one of them",
        ),
        ("secrets: {A: key}", "jobs.a.secrets.A: unknown secret 'key'"),
        ("secrets: [{name: A}]", "jobs.a.secrets: each item is {name: VARIABLE, valueFrom: name of a secret}"),
        (
            "user: root",
            "jobs.a.user: a process can run as another user only where flowbatch runs as root; leave it out",
        ),
        ("queue: bulk", "jobs.a.queue: unknown queue 'bulk'; known: default"),
        ("queue: 'a b'", "jobs.a.queue: 'a b' is not a name; names have 1 to 128 letters, digits, `_` or `-`"),
        ("uses: a:3", "jobs.a.uses: Job definition a:3 does not exist; `flowbatch definitions list` has those that do"),
        ("tokens: {a: 1}", "jobs.a.tokens.a: unknown tokens 'a'"),
        ("containerOverrides: {instanceType: x}", "jobs.a.containerOverrides.instanceType: not yet: it belongs"),
        ("jobName: b", "jobs.a.jobName: the job's name is its key, 'a'; leave this out"),
        ("type: container", "jobs.a.type: cannot stand here: it belongs to a definition"),
        ("needs: [{}]", "jobs.a.needs[0]: names no job; write its key, {each: KEY} or {job: KEY}"),
        ("needs: [5]", "jobs.a.needs[0]: a job's name or a mapping such as {each: render} is needed, found 5"),
        ("needs: [{each: true}]", "jobs.a.needs[0].each: an array's name is needed, as in {each: render}, found true"),
        ("needs: a", "jobs.a.needs: a cycle: a → a; none of them could ever start"),
        ("needs: {job: a, each: a}", "jobs.a.needs: names more than one job; give one of job, each, jobId"),
        (
            "needs: [{job: b, type: SEQUENTIAL}]",
            "jobs.a.needs[0]: SEQUENTIAL orders the children of this job and names",
        ),
        (
            "needs: [{job: b, when: succes}]",
            "jobs.a.needs[0].when: must be 'success', 'failure' or 'done', found 'succes' (",
        ),
        (
            "needs: {each: 11111111-2222-3333-4444-555555555555}",
            "jobs.a.needs: each waits index by index, and 11111111-2222-3333-4444-555555555555 is not of this file; give",
        ),
        ("tags: {" + ", ".join(f"t{n}: x" for n in range(51)) + "}", "jobs.a.tags: has at most 50 entries"),
        ("x-fake: {by_index: {x: {}}}", "jobs.a.x-fake.by_index.x: a number of its own from 0 on is needed, found 'x'"),
        (
            "x-fake: {by_attempt: {'0': {}}}",
            "jobs.a.x-fake.by_attempt.0: a number of its own from 1 on is needed, found '0'",
        ),
        ("x-fake: {exit: 256}", "jobs.a.x-fake.exit: must be at most 255, found 256"),
        ("x-fake: {durations: 1s}", "jobs.a.x-fake.durations: unknown key 'durations' (did you mean 'duration'?)"),
        ("lost_attempts: 3", "jobs.a.lost_attempts: a mapping (key: value) is needed, found 3"),
        ("qqq: 1", "jobs.a.qqq: unknown key 'qqq'; keys of your own begin with x-"),
        ("tolerate: 1", "jobs.a.tolerate: 'tolerate' belongs into `array`: {size: 10, tolerate: …}"),
        ("matrix: {x: [1]}", "jobs.a.matrix: 'matrix' is a source of children, and belongs into `array`: {matrix: …}"),
        ("backoff: 1s", "jobs.a.backoff: 'backoff' belongs into `retry`: {attempts: 3, backoff: …}"),
    ],
)
def test_one_mistake_one_message(body: str, message: str) -> None:
    found = wrong(body)
    assert len(found) == 1
    assert found[0].startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jobs: {}", "1:7: jobs: there is no job; the least is `jobs: {hello: {script: echo hello}}`"),
        ("name: x", "1:1: 'jobs' is missing"),
        ("jobs: [a]", "1:7: jobs: a mapping (key: value) is needed, found a list"),
        ("jobs: {a: }", "1:11: jobs.a: a mapping (key: value) is needed, found nothing"),
        ("jobs: {a: {}}", "1:8: jobs.a: needs a `command` or a `script`"),
        ("jobs: {a b: {script: x}}", "1:8: jobs.a b: 'a b' is not a name; names have 1 to 128 letters"),
        ("jobs: {" + "a" * 129 + ": {script: x}}", "1:8: jobs." + "a" * 129 + ": 'aaaaaaaaa"),
        ("on: push\njobs: {a: {script: x}}", "1:1: on: unknown key 'on'; keys of your own begin with x-"),
        ("flowbatch: 2\njobs: {a: {script: x}}", "1:12: flowbatch: must be 1, found 2"),
        ("deadline: -1\njobs: {a: {script: x}}", "1:11: deadline: a duration above 0 is needed, found -1"),
        (
            "schedule: {cron: x}\njobs: {a: {script: x}}",
            "1:18: schedule.cron: 'x' is no schedule: five fields are needed",
        ),
        (
            "schedule: {cron: '0 25 * * *'}\njobs: {a: {script: x}}",
            "1:18: schedule.cron: '0 25 * * *' is no schedule: bad hour",
        ),
        ("schedule: {tz: UTC}\njobs: {a: {script: x}}", "1:1: schedule: 'cron' is missing"),
        (
            "schedule: {cron: '@daily', tz: Europe/Prag}\njobs: {a: {script: x}}",
            "1:32: schedule.tz: 'Europe/Prag' is no time zone",
        ),
        (
            "schedule: {cron: '@daily', missed: some}\njobs: {a: {script: x}}",
            "1:36: schedule.missed: must be 'skip', 'latest' or 'all'",
        ),
        ("start: later\njobs: {a: {script: x}}", "1:8: start: must be 'manual', found 'later'"),
        (
            "schedule: {cron: '@daily'}\nstart: manual\njobs: {a: {script: x}}",
            "2:1: start: a workflow with a schedule starts by that",
        ),
        (
            "volumes: {a: {keeps: true}}\njobs: {a: {script: x}}",
            "1:15: volumes.a.keeps: unknown key 'keeps' (did you mean 'keep'?)",
        ),
        (
            "defaults: {needs: a}\njobs: {a: {script: x}}",
            "1:12: defaults.needs: cannot stand here: every job has its own",
        ),
        (
            "definitions: {d: {queue: a}}\njobs: {a: {script: x}}",
            "1:19: definitions.d.queue: cannot stand here: it belongs to the job",
        ),
        (
            "secrets: {s: {}}\njobs: {a: {script: x}}",
            "1:14: secrets.s: needs one of env, file, command: where its value",
        ),
        ("secrets: {s: {env: A, file: b}}\njobs: {a: {script: x}}", "1:14: secrets.s: needs one of env, file, command"),
        (
            "secrets: {s: {env: A}}\njobs: {a: {script: x, env: {B: c}, secrets: {B: s}}}",
            "2:46: jobs.a.secrets.B: 'B' is in `env` too; give it once",
        ),
        (
            "jobs: {a: {script: x}}\nfinally: {a: {script: x}}",
            "2:11: finally.a: is the name of a job already; every job has its own",
        ),
        (
            "jobs: {a: {script: x, needs: z}}\nfinally: {z: {script: x}}",
            "1:30: jobs.a.needs: 'z' is a `finally` job, which begins after all others; nothing can wait for it",
        ),
        (
            "jobs: {a: {script: x}}\nfinally: {z: {script: x, needs: a}}",
            "2:33: finally.z.needs: 'a' is no `finally` job; these begin after all others and need only each other",
        ),
        (
            "environments: {e: {type: unmanaged}}\njobs: {a: {script: x}}",
            "2:8: jobs.a: e of queue default has no nodes; register some",
        ),
        (
            "environments: {e: {type: spot}}\njobs: {a: {script: x}}",
            "1:26: environments.e.type: must be managed or unmanaged, found 'spot'",
        ),
        (
            "environments: {e: {type: unmanaged, vcpus: 2, nodes: {n: {vcpus: 1}}}}\njobs: {a: {script: x}}",
            "1:37: environments.e.vcpus: is for managed environments; of an unmanaged one the nodes say what there is",
        ),
        (
            "environments: {e: {type: unmanaged, nodes: {n: {vcpus: 1, endpoint: 'tcp://h:2375'}}}}\njobs: {a: {script: x}}",
            "1:69: environments.e.nodes.n.endpoint: another Engine is declared in the settings (flowbatch.yaml) or by `flowbatch environments nodes add`",
        ),
        (
            "environments: {e: {type: unmanaged, nodes: {n: {vcpus: 1}, m: {vcpus: 2}}}}\njobs: {a: {script: x, vcpus: 3}}",
            "2:30: jobs.a.vcpus: needs 3 vCPU, the largest environment of queue default has 2 vCPU",
        ),
        (
            "environments: {e: {nodes: {n: {vcpus: 1}}}}\njobs: {a: {script: x}}",
            "1:20: environments.e.nodes: are for `type: unmanaged`; give that, or leave them out",
        ),
        (
            "environments: {e: {vcpus: 2, min_vcpus: 3}}\njobs: {a: {script: x}}",
            "1:41: environments.e.min_vcpus: 3 is more than the most it may have, 2",
        ),
        (
            "environments: {e: {spot: true, min_vcpus: 1}}\njobs: {a: {script: x}}",
            "1:32: environments.e.min_vcpus: Spot keeps nothing, it has what others leave; leave it out",
        ),
        (
            "environments: {e: {notice: 3s}}\njobs: {a: {script: x}}",
            "1:20: environments.e.notice: is for `spot: true`",
        ),
        (
            "environments: {e: {backend: podman}}\njobs: {a: {script: x}}",
            "1:29: environments.e.backend: must be local, pro",
        ),
        (
            "environments: {e: {state: on}}\njobs: {a: {script: x}}",
            "1:27: environments.e.state: must be enabled or disabled",
        ),
        (
            "environments: {e: {vcpus: 1, max_vcpus: 2}}\njobs: {a: {script: x}}",
            "1:30: environments.e.max_vcpus: says the same as 'vcpus'; give one of them",
        ),
        (
            "queues: {q: {environments: []}}\njobs: {a: {script: x}}",
            "1:28: queues.q.environments: is empty; name an envi",
        ),
        (
            "queues: {q: {policy: fair}}\njobs: {a: {script: x}}",
            "1:22: queues.q.policy: a mapping",
        ),
        (
            "queues: {q: {environments: [no]}}\njobs: {a: {script: x}}",
            "1:29: queues.q.environments[0]: unknown environment",
        ),
    ],
)
def test_one_mistake_in_the_rest_of_the_file(text: str, message: str) -> None:
    found = problems(text)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_a_mistake_brings_no_others_with_it() -> None:
    text = """
    environments: {e: {vcpus: many}}
    queues: {q: {environments: [e]}, r: {priority: high}}
    secrets: {s: {file: 5}}
    definitions: {d: {command: make}, e: 5}
    params: {p: {type: integer, default: x}, q: {type: integr, default: 3, min: 1}}
    jobs:
      a: {uses: d, queue: q, secrets: {S: s}}
      b: {uses: e, queue: r, needs: c}
      c: {script: x, array: {size: big}, vcpus: '${{ params.p }}'}
      d: {script: x, needs: [{each: c}]}
      e: {script: '${{ params.p }}'}
    """
    assert [problem.split(": ")[1] for problem in problems(text)] == [
        "environments.e.vcpus",
        "queues.r.priority",
        "secrets.s.file",
        "definitions.d.command",
        "definitions.e",
        "params.p.default",
        "params.q.type",
        "jobs.c.array.size",
    ]


def test_more_than_twenty_needs() -> None:
    jobs = "\n".join(f"  j{n}: {{script: x}}" for n in range(21))
    names = ", ".join(f"j{n}" for n in range(21))
    assert problems(f"jobs:\n{jobs}\n  z: {{script: x, needs: [{names}]}}") == [
        "23:25: jobs.z.needs: Job cannot have more than 20 dependencies; it has 21"
    ]


def test_a_job_is_needed_once() -> None:
    text = """
    jobs:
      a: {script: x, array: 3}
      b: {script: x, needs: [a, a]}
      c: {script: x, dependsOn: [{jobId: a, type: N_TO_N}, {each: a}]}
      d: {script: x, needs: [a, {job: a, when: failure}]}
    """
    assert problems(text) == [
        "4:33: jobs.b.needs[1]: 'a' is needed twice; leave one out",
        "5:60: jobs.c.dependsOn[1]: 'a' is needed twice; leave one out",
        "6:33: jobs.d.needs[1]: 'a' cannot both succeed and fail; for either end write {job: a, when: done} alone",
    ]


def test_absent_secrets_are_told_with_the_rest_and_in_their_place() -> None:
    text = """
    secrets:
      key: {env: KEY}
      token: {file: ./token}
      unused: {env: UNUSED}
      made: {command: [pass, show, x]}
    jobs:
      a: {script: x, secrets: {A: key, B: token}}
      b: {script: x, secrets: {A: key, M: made}, memory: lots}
      c: {script: x, secrets: {A: kay}}
    """

    def absent(source: SecretSource) -> str | None:
        return None if source.command else f"no {source.env or source.file}"

    found = problems(text, absent=absent)
    assert [problem.split(":")[0:3:2] for problem in found[:2]] == [
        ["3", " secrets.key.env"],
        ["4", " secrets.token.file"],
    ]
    assert found[0].endswith(": no KEY; job 'a' needs it")
    assert found[1].endswith(": no /lab/token; job 'a' needs it")
    assert [problem.split(": ")[1] for problem in found[2:]] == ["jobs.b.memory", "jobs.c.secrets.A"]


def test_cycles_are_drawn_from_their_first_job() -> None:
    text = """
    jobs:
      z: {script: x, needs: c}
      c: {script: x, needs: [free, b]}
      a: {script: x, needs: c}
      b: {script: x, needs: a}
      free: {script: x}
      p: {script: x, needs: q}
      q: {script: x, needs: p}
    finally:
      f: {script: x, needs: g}
      g: {script: x, needs: f}
    """
    assert problems(text) == [
        "4:36: jobs.c.needs[1]: a cycle: c → b → a → c; none of them could ever start",
        "8:29: jobs.p.needs: a cycle: p → q → p; none of them could ever start",
        "11:29: finally.f.needs: a cycle: f → g → f; none of them could ever start",
    ]


@pytest.mark.slow
def test_a_very_long_cycle_is_shortened() -> None:
    jobs = "\n".join(f"  j{n}: {{script: x, needs: j{(n + 1) % 3000}}}" for n in range(3000))
    (found,) = problems(f"jobs:\n{jobs}")
    assert found.startswith("2:26: jobs.j0.needs: a cycle: j0 → j1 → j2")
    assert "… (2,989 more)" in found
    assert found.endswith("→ j2999 → j0; none of them could ever start")


@pytest.mark.slow
def test_problems_stop_where_nobody_reads_on() -> None:
    jobs = "\n".join(f"  j{n}: {{script: x, needs: k{n}, vcpu: 1}}" for n in range(3000))
    assert 100 <= len(problems(f"jobs:\n{jobs}")) <= 200


def test_a_long_environment_is_refused_before_a_start_would_be() -> None:
    text = (
        "x-v: &v " + "v" * 60_000 + "\njobs: {a: {script: x, env: {" + ", ".join(f"E{n}: *v" for n in range(20)) + "}}}"
    )
    assert problems(text) == [
        "2:8: jobs.a: its command and environment have 1,200,061 characters; at most 1,048,576 can be passed"
    ]


def test_a_merged_environment_cannot_fill_the_store() -> None:
    env = "x-e: &e {" + ", ".join(f"E{n}: {'v' * 60_000}" for n in range(10)) + "}\n"
    jobs = "\n".join(f"  j{n}: {{script: x, env: {{<<: *e}}}}" for n in range(200))
    assert problems(f"{env}jobs:\n{jobs}") == [
        "2:1: jobs: the commands and environments have more than 67,108,864 characters together"
    ]
