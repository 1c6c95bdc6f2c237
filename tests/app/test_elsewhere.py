"""A file whose jobs need jobs of other runs, by their ids."""

from __future__ import annotations

import pytest

from tests.app.commands import Commands

pytestmark = pytest.mark.slow

FIRST = "jobs: {parts: {array: 3, script: 'test $AWS_BATCH_JOB_ARRAY_INDEX != 1'}, one: {script: 'true'}}"


def test_jobs_of_a_run_that_has_ended(flowbatch: Commands) -> None:
    assert flowbatch.call("run", flowbatch.write("first.yaml", FIRST)).code == 1
    ids = {job["job"]: job["id"] for job in flowbatch.ok("jobs", "last", "--json").json}
    second = f"""
name: second
jobs:
  after: {{needs: {ids["one"]}, script: 'true'}}
  each: {{array: 3, needs: [{{each: {ids["parts"]}}}, after], script: 'true'}}
  mend: {{dependsOn: [{{jobId: {ids["parts"]}, when: failure}}], script: 'true'}}
"""
    shown = flowbatch.ok("check", flowbatch.write("second.yaml", second)).out
    assert f"job {ids['one']}" in shown
    assert flowbatch.call("run", flowbatch.write("second.yaml", second)).code == 1
    states = {(job["job"], job["index"]): job["status"] for job in flowbatch.ok("jobs", "last", "--all", "--json").json}
    assert [states["each", index] for index in range(3)] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert (states["after", None], states["mend", None]) == ("SUCCEEDED", "SUCCEEDED")
    assert flowbatch.ok("why", "last/each:1").out == (
        "each:1 FAILED without an attempt: it needs parts:1, which FAILED\n"
    )
    assert (
        flowbatch.ok("run", "--dry-run", "second.yaml").out.splitlines()[-1].startswith("Dry run: nothing was started")
    )
    again = flowbatch.call("retry", "last")  # what it needs of elsewhere has not been mended
    assert again.code == 1
    assert flowbatch.ok("show", "last", "--json").json["status"] == "FAILED"


def test_jobs_that_are_not_here_are_told_where_the_file_names_them(flowbatch: Commands) -> None:
    job = "11111111-2222-3333-4444-555555555555"
    lost = flowbatch.write("lost.yaml", f"jobs: {{a: {{needs: {job}, script: 'true'}}}}")
    for verb in ("check", "run"):
        refused = flowbatch.call(verb, lost)
        assert (refused.code, refused.err) == (
            2,
            f"{lost}:1:19: jobs.a.needs: there is no job {job}: this state folder is new\n",
        )
    assert not flowbatch.state.exists()
    flowbatch.ok("run", flowbatch.write("parts.yaml", "jobs: {parts: {array: 2, script: 'true'}}"))
    [parts] = flowbatch.ok("jobs", "last", "--json").json
    text = f"jobs:\n  a: {{needs: {job}, script: x}}\n  b: {{needs: ['{parts['id']}:7'], script: x}}\n"
    refused = flowbatch.call("run", flowbatch.write("two.yaml", text))
    assert (refused.code, refused.err.splitlines()) == (
        2,
        [
            f"{flowbatch.folder}/two.yaml:2:14: jobs.a.needs: there is no job {job} in this state folder",
            f"{flowbatch.folder}/two.yaml:3:14: jobs.b.needs: job {parts['id']} has 2 children, counted from 0: "
            "it has no child 7",
        ],
    )
    assert len(flowbatch.ok("runs", "--json").json) == 1
