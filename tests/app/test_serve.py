"""`serve` as a process: its start, its keys, its end, and tasks that outlive it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from flowbatch.http import keys
from tests.app.commands import Commands

pytestmark = pytest.mark.slow


def start(flowbatch: Commands, *words: str, said: list[str] | None = None) -> tuple[subprocess.Popen[str], str]:
    """The process and its URL, once it serves."""
    process = flowbatch.start("serve", "--listen", "127.0.0.1:0", *words)
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"Serving on (\S+)", line)
        if found is not None:
            return process, found[1]
        if said is not None:
            said.append(line)
    raise AssertionError("it never served")


def client(flowbatch: Commands, url: str, service: str = "batch") -> Any:
    """With the administrator's key, from the file that the server wrote."""
    text = (flowbatch.state / "admin.key").read_text(encoding="ascii")
    found = dict(re.findall(r"^(\w+) = (\S+)$", text, re.MULTILINE))
    return boto3.client(
        service, endpoint_url=url, region_name="us-east-1", config=Config(retries={"total_max_attempts": 1}), **found
    )


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(batch: Any, job: str, *statuses: str) -> dict[str, Any]:
    while True:
        [found] = batch.describe_jobs(jobs=[job])["jobs"]
        if found["status"] in statuses:
            return dict(found)


def define(batch: Any, name: str, *command: str) -> None:
    box = {"command": list(command), "resourceRequirements": [{"type": "VCPU", "value": "0.5"}]}
    batch.register_job_definition(jobDefinitionName=name, type="container", containerProperties=box)


def test_a_process_outlives_the_server_and_its_log_is_read(flowbatch: Commands, tmp_path: Path) -> None:
    server, url = start(flowbatch)
    batch = client(flowbatch, url)
    assert (flowbatch.state / "admin.key").stat().st_mode & 0o777 == 0o600
    pipe = flowbatch.pipe("go")
    define(
        batch,
        "wait",
        "sh",
        "-c",
        f"echo begun; read word < {pipe.path}; echo $word; echo done; echo HOME=$HOME SECRET=$TOP_SECRET; exit 3",
    )
    job = batch.submit_job(jobName="j", jobQueue="default", jobDefinition="wait")["jobId"]
    until(batch, job, "RUNNING")
    server.send_signal(signal.SIGTERM)
    assert flowbatch.end(server).code == 0
    shown = flowbatch.ok("show", job, "--json").json
    assert shown["status"] == "RUNNING"
    pipe.let(1)
    again, url = start(flowbatch)
    batch = client(flowbatch, url)
    found = until(batch, job, "FAILED")
    assert found["container"]["exitCode"] == 3
    assert len(found["attempts"]) == 1
    logs, stream = client(flowbatch, url, "logs"), found["container"]["logStreamName"]
    page = logs.get_log_events(logGroupName="/aws/batch/job", logStreamName=stream, startFromHead=True, limit=2)
    assert [each["message"] for each in page["events"]] == ["begun", "go"]
    arguments = {"logGroupName": "/aws/batch/job", "logStreamName": stream, "startFromHead": True}
    page = logs.get_log_events(nextToken=page["nextForwardToken"], **arguments)
    assert [each["message"] for each in page["events"]] == ["done", f"HOME={os.environ['HOME']} SECRET="]
    end = logs.get_log_events(nextToken=page["nextForwardToken"], **arguments)
    assert end["events"] == []
    assert end["nextForwardToken"] == page["nextForwardToken"]
    for prefix in (stream, stream[:-2], stream.rpartition("/")[0] + f"/{job}"):
        [told] = logs.describe_log_streams(logGroupName="/aws/batch/job", logStreamNamePrefix=prefix)["logStreams"]
        assert told["logStreamName"] == stream
        assert told["lastEventTimestamp"]
    elsewhere = f"{'0' * 8}-0000-0000-0000-{'0' * 12}"
    for prefix in (f"x/default/{job}", f"x/default/{elsewhere}", stream + "7"):
        assert not logs.describe_log_streams(logGroupName="/aws/batch/job", logStreamNamePrefix=prefix)["logStreams"]
    with pytest.raises(logs.exceptions.InvalidParameterException, match="up to the whole id of a job"):
        logs.describe_log_streams(logGroupName="/aws/batch/job", logStreamNamePrefix="env/default/")
    with pytest.raises(logs.exceptions.InvalidParameterException, match="limit"):
        logs.get_log_events(logGroupName="/aws/batch/job", logStreamName=stream, limit=10_001)
    matching = logs.filter_log_events(logGroupName="/aws/batch/job", logStreamNames=[stream], filterPattern="don")
    assert [each["message"] for each in matching["events"]] == ["done"]
    assert flowbatch.ok("logs", job).out.startswith("begun\n")
    assert "exited with 3" in flowbatch.ok("why", job).out
    again.send_signal(signal.SIGINT)
    assert flowbatch.end(again).code == 0


def test_what_watches_the_server_needs_no_key(flowbatch: Commands) -> None:
    server, url = start(flowbatch)
    assert get(f"{url}/healthz") == (200, '{"status":"ok"}')
    assert get(f"{url}/readyz")[0] in (200, 503)
    code, text = get(f"{url}/metrics")
    assert code == 200
    assert 'flowbatch_calls_total{operation="-",status="421"} 1.0' not in text
    assert "flowbatch_jobs_open 0.0" in text
    assert get(f"{url}/healthz", Host="evil.example")[0] == 421
    assert get(f"{url}/v1/nothing")[0] == 404
    code, text = get(f"{url}/v1/tags/x")
    assert (code, json.loads(text)["__type"]) == (403, "MissingAuthenticationTokenException")
    server.terminate()
    assert flowbatch.end(server).code == 0


def test_the_owner_over_the_unix_socket_and_keys_of_the_command_line(flowbatch: Commands, tmp_path: Path) -> None:
    server, url = start(flowbatch)
    policy = flowbatch.write(
        "p.json", json.dumps({"Statement": [{"Effect": "Allow", "Action": "batch:List*", "Resource": "*"}]})
    )
    assert "in force" in flowbatch.ok("key", "policy", "put", "lists", policy).out
    made = flowbatch.ok("key", "create", "ci", "--policy", "lists", "--expires", "1h", "--json").json
    token = keys.parse_token(made["token"])
    assert token is not None
    request = urllib.request.Request(
        f"{url}/v1/listjobs",
        b'{"jobQueue":"default"}',
        {"Authorization": f"Bearer {made['token']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        assert json.loads(answer.read()) == {"jobSummaryList": []}
    flowbatch.ok("key", "rotate", made["access_key_id"])
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)
    refused = flowbatch.call("key", "revoke", "ci").err
    assert f"ci is a principal; name the key itself: fbk_{made['id']}" in refused
    flowbatch.ok("key", "revoke", made["id"])
    assert "revoked" in flowbatch.ok("key", "list").out
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(flowbatch.state / "http.sock"))
        stream.sendall(
            b"GET /v1/tags/arn%3Aaws%3Abatch%3Aus-east-1%3A000000000000%3Ajob-queue%2Fdefault HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n"
        )
        text = b"".join(iter(lambda: stream.recv(4096), b""))
    assert b'{"tags":{}}' in text
    server.terminate()
    assert flowbatch.end(server).code == 0
    assert "records, whole" in flowbatch.ok("audit", "verify").out
    names = {json.loads(line)["eventName"] for line in flowbatch.ok("audit", "--json").out.splitlines()}
    assert {"PutKey", "PutPolicy", "ListJobs", "ListTagsForResource"} <= names


def test_what_would_open_the_machine_is_refused(flowbatch: Commands) -> None:
    done = flowbatch.call("serve", "--listen", "0.0.0.0:0", "--insecure-no-auth")
    assert (done.code, "only a loopback address" in done.err) == (2, True)
    done = flowbatch.call("serve", "--listen", "0.0.0.0:0")
    assert (done.code, "must be encrypted" in done.err) == (2, True)


def test_without_keys_everything_is_allowed_and_that_is_said(flowbatch: Commands) -> None:
    said: list[str] = []
    server, url = start(flowbatch, "--insecure-no-auth", said=said)
    assert said[0].startswith("WARNING: --insecure-no-auth")
    batch = boto3.client(
        "batch", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
    )
    define(batch, "hello", "true")
    job = batch.submit_job(jobName="j", jobQueue="default", jobDefinition="hello")["jobId"]
    assert until(batch, job, "SUCCEEDED")["container"]["exitCode"] == 0
    server.terminate()
    assert flowbatch.end(server).code == 0


def test_a_job_alone_is_stopped_without_a_server(flowbatch: Commands) -> None:
    server, url = start(flowbatch)
    batch = client(flowbatch, url)
    define(batch, "sleep", "sleep", "1000")
    jobs = [batch.submit_job(jobName="j", jobQueue="default", jobDefinition="sleep")["jobId"] for _ in range(2)]
    for job in jobs:
        until(batch, job, "RUNNING")
    server.terminate()
    assert flowbatch.end(server).code == 0
    assert "1 task" in flowbatch.ok("terminate", jobs[0], "--reason", "enough").out
    shown = flowbatch.ok("show", jobs[0], "--json").json
    assert shown["status"] == "FAILED"
    assert flowbatch.ok("show", jobs[1], "--json").json["status"] == "RUNNING"
    again, url = start(flowbatch)
    batch = client(flowbatch, url)
    batch.terminate_job(jobId=jobs[1], reason="all")
    assert until(batch, jobs[1], "FAILED")["statusReason"] == "all"
    again.kill()  # kill -9: what is durable stays
    assert flowbatch.end(again).code == -signal.SIGKILL
    last, url = start(flowbatch)
    found = client(flowbatch, url).describe_jobs(jobs=jobs)["jobs"]
    assert [job["statusReason"] for job in found] == ["enough", "all"]
    last.terminate()
    assert flowbatch.end(last).code == 0
    assert "records, whole" in flowbatch.ok("audit", "verify").out


def test_more_connections_than_descriptors_keep_the_server_from_nothing(flowbatch: Commands) -> None:
    """F48: 256 descriptors, and 400 connections that say nothing. Those beyond are turned away, and tasks start meanwhile."""
    flowbatch.prefix = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"]
    server, url = start(flowbatch)
    flowbatch.prefix = []
    host, port = url.removeprefix("http://").split(":")
    held = [socket.create_connection((host, int(port)), 10) for _ in range(400)]
    assert get(f"{url}/healthz")[0] == 503
    job = flowbatch.ok("submit", "--array", "50", "--vcpus", "0.01", "--", "sh", "-c", "exec sleep 0.1").out.strip()
    while flowbatch.ok("show", job, "--json").json["status"] != "SUCCEEDED":
        assert server.poll() is None
    for each in held:
        each.close()
    while get(f"{url}/healthz") != (200, '{"status":"ok"}'):
        assert server.poll() is None
    begun = time.monotonic()
    server.terminate()
    assert flowbatch.end(server).code == 0
    assert time.monotonic() - begun < 10


def test_whoever_listens_does_not_keep_the_server_from_its_end(flowbatch: Commands) -> None:
    """F46: within ten seconds, with a stream of events open, connections that idle, and half a request; the task goes on."""
    server, url = start(flowbatch)
    host, port = url.removeprefix("http://").split(":")
    pipe = flowbatch.pipe("go")
    job = flowbatch.ok("submit", "--", "sh", "-c", f"read word < {pipe.path}; exit 7").out.strip()
    while flowbatch.ok("show", job, "--json").json["status"] != "RUNNING":
        assert server.poll() is None
    held = [socket.create_connection((host, int(port)), 10) for _ in range(20)]
    for each in held[:10]:
        each.sendall(b"POST /v1/listjobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(str(flowbatch.state / "http.sock"))
    stream.sendall(b"GET /api/v1/events?follow=true HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    assert b"200 OK" in stream.recv(4096)
    begun = time.monotonic()
    server.send_signal(signal.SIGTERM)
    server.send_signal(signal.SIGTERM)
    assert flowbatch.end(server).code == 0
    assert time.monotonic() - begun < 10
    for each in (*held, stream):
        each.close()
    again, _ = start(flowbatch)
    pipe.let(1)
    while (shown := flowbatch.ok("show", job, "--json").json)["status"] != "FAILED":
        assert again.poll() is None
    assert shown["exit_code"] == 7
    assert shown["attempts"] == 1
    again.terminate()
    assert flowbatch.end(again).code == 0
