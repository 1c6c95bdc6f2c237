from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowbatch.cli.check import some, span_text
from flowbatch.cli.main import run
from flowbatch.cli.output import duration_text

FILM = """\
name: film
params: {frames: {type: integer, min: 1, max: 100, default: 10}}
deadline: 6h
environments: {farm: {backend: process, vcpus: 4, memory: 8GiB}}
queues: {bulk: {environments: [farm]}}
defaults: {queue: bulk, attempts: 2}
jobs:
  fetch: {script: fetch, timeout: 90s}
  render:
    needs: fetch
    array: {size: '${{ params.frames }}', max_running: 6, tolerate: 2}
    memory: 3GiB
    script: render
    retry: {attempts: 4, backoff: 10s..5m, rules: [{exit: 2, action: exit}]}
  denoise: {needs: [{each: render}], memory: 1GiB, script: denoise}
  alarm: {needs: [{job: render, when: failure}], script: alarm}
finally:
  report: {script: report}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def check(text: str, *arguments: str) -> int:
    Path("film.yaml").write_text(text, encoding="utf-8")
    return run(["check", "film.yaml", *arguments])


def test_the_plan_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(FILM, "-p", "frames=20") == 0
    printed, errors = capsys.readouterr()
    assert errors == ""
    assert printed.splitlines() == [
        "film is valid: 5 jobs, 43 tasks.",
        "Parameters: frames=20",
        "Deadline: 6h from its creation, finally excepted.",
        "",
        "JOB               SIZE  EACH TASK      QUEUE        TIMEOUT  ATTEMPTS  NEEDS",
        "fetch             -     1 vCPU         bulk → farm  1m30s    2         -",
        "render            20    1 vCPU, 3 GiB  bulk → farm  -        4         fetch",
        "denoise           20    1 vCPU, 1 GiB  bulk → farm  -        2         each render",
        "alarm             -     1 vCPU         bulk → farm  -        2         render (failure)",
        "report (finally)  -     1 vCPU         bulk → farm  -        2         all of the above",
        "",
        "render: at most 6 run at once; 2 may fail; backoff 10s..5m; 1 retry rule",
        "denoise: 2 may fail",
        "",
        "Environment farm (process): 4 vCPU, 8 GiB",
        "Note: memory is omitted in fetch, alarm and report: it reserves nothing and limits nothing.",
    ]


def test_nothing_is_stored() -> None:
    assert check(FILM) == 0
    assert [path.name for path in Path().iterdir()] == ["film.yaml"]


def test_the_plan_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(FILM, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert list(plan) == [
        "valid", "workflow", "file", "params", "deadline_ms", "jobs", "environments", "queues", "notes", "warnings",
    ]  # fmt: skip
    assert plan["valid"] is True
    assert plan["params"] == {"frames": 10}
    assert [job["job"] for job in plan["jobs"]] == ["fetch", "render", "denoise", "alarm", "report"]
    denoise = plan["jobs"][2]
    assert denoise["array"] == 10
    assert denoise["needs"] == [{"job": "render", "when": "success", "each": True}]
    assert denoise["memory_mib"] == 1024
    assert plan["jobs"][4]["finally"] is True


def test_only_some_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(FILM, "--only", "render", "--json") == 0
    assert [job["job"] for job in json.loads(capsys.readouterr().out)["jobs"]] == ["fetch", "render", "report"]


BROKEN = """\
jobs:
  a: {script: a, needs: denoize}
  denoise: {script: b, attemps: 2}
"""


def test_all_problems_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(BROKEN) == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    lines = errors.splitlines()
    assert lines[0].startswith("film.yaml:2:25: jobs.a.needs: unknown job 'denoize' (did you mean 'denoise'?)")
    assert lines[1].startswith("film.yaml:3:24: jobs.denoise.attemps: unknown key 'attemps' (did you mean 'attempts'?)")
    assert len(lines) == 2


def test_problems_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(BROKEN, "--json") == 2
    told = json.loads(capsys.readouterr().out)
    assert told["valid"] is False
    assert [(problem["line"], problem["column"]) for problem in told["problems"]] == [(2, 25), (3, 24)]
    assert list(told["problems"][0]) == ["file", "line", "column", "path", "message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nowhere.yaml"], "nowhere.yaml: the workflow cannot be read: No such file or directory"),
        (["check", "nowhere.yaml", "--aws"], "nowhere.yaml: the workflow cannot be read: No such file or directory"),
        (["export", "film.yaml"], "Missing option '--aws'"),
        (["check"], "Missing argument"),
    ],
)
def test_wrong_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_warning_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("jobs: {a: {command: [echo, 'Ref::x']}}") == 0
    printed, errors = capsys.readouterr()
    assert errors.startswith("film.yaml:1:")
    assert errors.endswith("(warning)\n")
    assert printed.startswith("film is valid: 1 job, 1 task.")


def test_an_array_of_0_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("jobs: {a: {array: 0, memory: 1, script: a}}") == 0
    assert "Note: a: an array of 0 succeeds without an attempt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (500, "500ms"), (1500, "1500ms"), (90_000, "1m30s"), (1_200_000, "20m"), (5_400_000, "1h30m")],
)
def test_spans_as_a_file_has_them(ms: int, text: str) -> None:
    assert span_text(ms) == text


def test_names_are_counted_where_they_are_many() -> None:
    assert some(["a"]) == "a"
    assert some(["a", "b", "c"]) == "a, b and c"
    assert some(list("abcdefgh")) == "a, b, c, d, e and 3 more"


def test_a_name_that_is_nearly_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(FILM) == 0
    assert run(["check", "film.yml"]) == 2
    assert "cannot be read: No such file or directory (did you mean 'film.yaml'?)" in capsys.readouterr().err
    assert run(["check", "nothing-like-it.yaml"]) == 2
    assert "did you mean" not in capsys.readouterr().err


PLAIN = "jobs: {a: {image: 'busybox:1', memory: 64, command: [echo, hi]}, b: {image: 'x:1', memory: 64, needs: a}}"


def test_what_aws_would_treat_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(PLAIN, "--aws") == 0
    assert capsys.readouterr() == ("", "AWS Batch would do the same with every line.\n")
    assert check(PLAIN.replace("needs: a", "needs: a, timeout: 5s"), "--aws") == 1
    printed, errors = capsys.readouterr()
    assert printed == "film.yaml:1:106: jobs.b.timeout: AWS Batch refuses a timeout below 60 s; this is 5 s\n"
    assert errors == "1 line that AWS Batch would treat otherwise.\n"
    assert check(FILM, "--aws", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["same"] is False
    assert [each["line"] for each in told["differences"] if each["path"] == "deadline"] == [3]


def test_a_workflow_for_aws(capsys: pytest.CaptureFixture[str]) -> None:
    Path("film.yaml").write_text(PLAIN.replace("64,", "900GiB,"), encoding="utf-8")  # more than any machine of ours has
    assert run(["export", "--aws", "film.yaml"]) == 0
    printed, errors = capsys.readouterr()
    assert [call["name"] for call in json.loads(printed)["calls"]] == ["film--a", "a", "film--b", "b"]
    assert errors == ""
    assert run(["export", "--aws", "--shell", "film.yaml"]) == 0
    assert capsys.readouterr().out.startswith("#!/bin/sh\n")
    Path("film.yaml").write_text("jobs: {a: {script: x}}", encoding="utf-8")
    assert run(["export", "--aws", "film.yaml"]) == 2
    assert capsys.readouterr().err == (
        "flowbatch: film.yaml: no `image` in a, and AWS Batch runs containers alone; --image names one for them\n"
    )


def test_a_parameter_that_is_true_is_written_as_in_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    text = "params: {fast: {type: boolean, default: true}, rate: {type: number, default: 0.5}}\njobs: {a: {command: [x]}}\n"
    assert check(text) == 0
    assert "Parameters: fast=true, rate=0.5" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (412, "412 ms"),
        (3_210, "3.2 s"),
        (247_000, "4m07s"),
        (7_500_000, "2h05m"),
        (273_600_000, "3d04h"),
        (30 * 86_400_000, "30d"),
    ],
)
def test_how_long_something_took(ms: int, text: str) -> None:
    assert duration_text(ms) == text
