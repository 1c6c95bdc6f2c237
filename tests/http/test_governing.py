"""What the settings of a server say about jobs of its API: secrets, and what some principals may ask for in some queues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from msgspec.structs import replace

from flowbatch.model.jobspec import Environment, Queue
from flowbatch.model.resources import Resources
from flowbatch.settings import Settings, parse_settings
from tests.http.rig import FAKE, a_server

LOCAL = Settings((Environment("default", "local", Resources(4000, 8192)),), (Queue("default"), Queue("urgent")))
SUBMIT = {"Effect": "Allow", "Action": ["batch:SubmitJob", "batch:RegisterJobDefinition"], "Resource": "*"}


async def refused(rig: Any, client: Any, definition: str, queue: str = "default") -> str:
    with pytest.raises(ClientError) as caught:
        await rig.call(client.submit_job, jobName="j", jobQueue=queue, jobDefinition=definition)
    return str(caught.value)


async def test_a_job_has_secrets_of_the_settings_that_its_principal_may_read(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("x")
    text = b"secrets: {db: {file: s}, gone: {file: not-there}}\n"
    settings = replace(FAKE, secrets=parse_settings(text, str(tmp_path / "flowbatch.yaml")).secrets)
    async with a_server(tmp_path, settings) as rig:
        for name in ("db", "gone", "unknown"):
            box = {"command": ["true"], "secrets": [{"name": "PASSWORD", "valueFrom": name}]}
            await rig.define(
                name, containerProperties={**box, "resourceRequirements": [{"type": "VCPU", "value": "1"}]}
            )
        admin = rig.client()
        assert "secret 'unknown' is not among those of the server's settings" in await refused(rig, admin, "unknown")
        assert "there is no file" in await refused(rig, admin, "gone")
        plain = rig.client("batch", *await rig.key("plain", SUBMIT))
        said = await refused(rig, plain, "db")
        assert (
            "secretsmanager:GetSecretValue on resource: arn:aws:secretsmanager:us-east-1:000000000000:secret:db" in said
        )
        read = {
            "Effect": "Allow",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": "arn:aws:secretsmanager:*:*:secret:db",
        }
        reader = rig.client("batch", *await rig.key("reader", SUBMIT, read))
        await rig.call(reader.submit_job, jobName="j", jobQueue="default", jobDefinition="db")
        await rig.call(admin.submit_job, jobName="j", jobQueue="default", jobDefinition="db")


async def test_rules_of_the_container_policy_are_asked_by_queue_and_principal(tmp_path: Path) -> None:
    text = b"policy: {processes: false, rules: [{queues: [urgent], principals: [alice], privileged: true, processes: true}]}"
    settings = replace(LOCAL, policy=parse_settings(text, str(tmp_path / "flowbatch.yaml")).policy)
    async with a_server(tmp_path, settings) as rig:
        needs = [
            {"type": "VCPU", "value": "100"},
            {"type": "MEMORY", "value": "64"},
        ]  # what fits nowhere starts nothing
        await rig.define(
            "root", containerProperties={"image": "busybox", "privileged": True, "resourceRequirements": needs}
        )
        await rig.define("process", containerProperties={"command": ["true"], "resourceRequirements": needs})
        alice = rig.client("batch", *await rig.key("alice", SUBMIT))
        bob = rig.client("batch", *await rig.key("bob", SUBMIT))
        for client, queue in ((bob, "urgent"), (bob, "default"), (alice, "default"), (rig.client(), "urgent")):
            assert "root on this machine" in await refused(rig, client, "root", queue)
            assert "the settings allow containers alone here" in await refused(rig, client, "process", queue)
        for definition in ("root", "process"):
            await rig.call(alice.submit_job, jobName="j", jobQueue="urgent", jobDefinition=definition)
        assert "root on this machine" in await refused(rig, bob, "root", "urgent")  # whoever was asked before


async def test_what_is_flowbatchs_own_is_never_mounted(tmp_path: Path) -> None:
    policy = parse_settings(f"policy: {{mounts: [{tmp_path}]}}".encode(), str(tmp_path / "flowbatch.yaml")).policy
    async with a_server(tmp_path, replace(LOCAL, policy=policy)) as rig:
        box = {
            "image": "busybox",
            "volumes": [{"name": "v", "host": {"sourcePath": str(tmp_path / "state")}}],
            "mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}],
            "resourceRequirements": [{"type": "VCPU", "value": "100"}, {"type": "MEMORY", "value": "64"}],
        }
        await rig.define("state", containerProperties=box)
        assert "is data of flowbatch or Docker and is never mounted" in await refused(rig, rig.client(), "state")


async def test_a_policy_on_images_holds_for_every_container_of_a_definition(tmp_path: Path) -> None:
    async with a_server(tmp_path, LOCAL) as rig:
        good = {**SUBMIT, "Condition": {"StringEquals": {"batch:Image": "good"}}}
        client = rig.client("batch", *await rig.key("careful", good))
        needs = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
        ranges = [
            {"targetNodes": f"{at}:{at}", "container": {"image": image, "resourceRequirements": needs}}
            for at, image in enumerate(("good", "evil"))
        ]
        nodes = {"numNodes": 2, "mainNode": 0, "nodeRangeProperties": ranges}
        with pytest.raises(ClientError, match="not authorized to perform: batch:RegisterJobDefinition"):
            await rig.call(
                client.register_job_definition, jobDefinitionName="n", type="multinode", nodeProperties=nodes
            )
        await rig.call(
            rig.client().register_job_definition, jobDefinitionName="n", type="multinode", nodeProperties=nodes
        )
        assert "not authorized to perform: batch:SubmitJob" in await refused(rig, client, "n")
