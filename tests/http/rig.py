"""A server on a real loopback port with boto3 as its client, whose answers are held against botocore's own model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session
from botocore.model import ListShape, MapShape, Shape, StructureShape

from flowbatch.folder import StateFolder
from flowbatch.http import keys
from flowbatch.http.service import Limits
from flowbatch.model.jobspec import Environment, Queue
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Resume
from flowbatch.serve import Compiling, Listening, Serving, serving
from flowbatch.settings import Settings

FAKE: Final = Settings((Environment("default", "fake", Resources(4000, 8192, 1)),), (Queue("default"),))
REGION: Final = "us-east-1"
PYTHON: Final = {str: str, int: int, float: float, bool: bool}
SCALARS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "string": str,
    "integer": int,
    "long": int,
    "boolean": bool,
    "float": (float, int),
    "double": (float, int),
}


@dataclass
class Rig:
    running: Serving

    @property
    def url(self) -> str:
        return self.running.urls[0]

    def client(
        self, service: str = "batch", key: str | None = None, secret: str | None = None, retries: int = 0
    ) -> Any:
        """boto3's, with the administrator's key unless another is given. Its answers are checked."""
        if key is None:
            assert self.running.administrator is not None
            key, secret = keys.PREFIX + self.running.administrator.id, self.running.secret
        made = boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": retries + 1}, max_pool_connections=4),
        )
        made.meta.events.register("after-call.*", check_answer)
        return made

    async def call(self, operation: Callable[..., Any], /, **arguments: Any) -> Any:
        """In a thread, for boto3 blocks and the server is in this loop."""
        return await anyio.to_thread.run_sync(lambda: operation(**arguments))

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Any:
        return await self.send(self.signed(path, body, headers))

    def signed(self, path: str, body: bytes, headers: Mapping[str, str]) -> Any:
        """A request of our own making, with the administrator's key."""
        assert self.running.administrator is not None
        assert self.running.secret is not None
        known = Credentials(keys.PREFIX + self.running.administrator.id, self.running.secret)
        made = AWSRequest("POST", self.url + path, {"content-type": "application/json", **headers}, body)
        SigV4Auth(known, "batch", REGION).add_auth(made)
        return made.prepare()

    async def send(self, ready: Any) -> Any:
        answer = await anyio.to_thread.run_sync(lambda: URLLib3Session().send(ready))
        return json.loads(answer.content)

    async def until_ended(self, client: Any, *ids: str) -> list[Any]:
        """Waits turn by turn, then describes."""
        state = self.running.app.engine.machine.state
        turned = anyio.Event()

        def look(_: object) -> None:
            nonlocal turned
            turned.set()

        self.running.app.engine.observe(look)
        with anyio.fail_after(30):
            while any(each.partition(":")[0] in state.jobs for each in ids):
                turned = anyio.Event()
                if any(each.partition(":")[0] in state.jobs for each in ids):
                    await turned.wait()
        await self.running.app.engine.ask(lambda ticket: Resume(ticket))  # the turn in which they left is durable
        found: list[Any] = (await self.call(client.describe_jobs, jobs=list(ids)))["jobs"]
        return found

    async def define(self, name: str, fake: Mapping[str, Any] | None = None, **more: Any) -> None:
        """A definition as `flowbatch definitions register` makes it: it may say what the fake backend does."""
        from flowbatch.spec.definitions import read_registration

        box = {"command": ["true"], "resourceRequirements": [{"type": "VCPU", "value": "1"}]}
        body = {"jobDefinitionName": name, "type": "container", "containerProperties": box, **more}
        if fake is not None:
            body["x-fake"] = fake
        made = read_registration(json.dumps(body).encode(), "test")
        arguments = {"name": made.name, "body": made.body, "digest": made.digest, "tags": dict(made.tags)}
        await self.running.app.verbs.call("register_definition", arguments)

    async def key(self, name: str, *statements: Mapping[str, Any], **more: Any) -> tuple[str, str]:
        """A key of a principal with these statements as its one policy: its id and its secret."""
        verbs = self.running.app.verbs
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        await verbs.call("put_policy", {"name": name, "document": document})
        made: Any = await verbs.call("put_key", {"id": keys.new_id(), "name": name, "policies": [name], **more})
        secret = keys.secret_of(self.running.service.master, made["id"], made["generation"])
        return keys.PREFIX + made["id"], secret


@asynccontextmanager
async def a_server(
    folder: Path,
    settings: Settings = FAKE,
    *,
    limits: Limits | None = None,
    open_to_all: bool = False,
    compiling: Compiling | None = None,
) -> AsyncIterator[Rig]:
    listening = Listening((("127.0.0.1", 0),), limits=limits or Limits(), open_to_all=open_to_all)
    async with serving(StateFolder(folder / "state"), settings, listening, compiling=compiling) as running:
        yield Rig(running)


def check_answer(http_response: Any, parsed: Mapping[str, Any], model: Any, **_: Any) -> None:
    """Raises AssertionError where an answer of ours is not what the service's model says."""
    assert http_response.headers.get("x-amzn-requestid"), model.name
    if http_response.status_code == 200:
        raw = json.loads(http_response.content) if http_response.content else {}
        if model.output_shape is not None:
            conform(raw, model.output_shape, model.name)
        else:
            assert raw == {}, f"{model.name} has no output"


def conform(value: Any, shape: Shape, place: str) -> None:
    if isinstance(shape, StructureShape):
        assert isinstance(value, dict), f"{place}: {value!r} is no structure"
        unknown = value.keys() - {member.serialization.get("name", name) for name, member in shape.members.items()}
        assert not unknown, f"{place}: {shape.name} has no {sorted(unknown)}"
        missing = (
            set(shape.required_members) - value.keys() - {"startedAt"}
        )  # of a job that never ran (aws-batch.md §1.3)
        assert not missing, f"{place}: {shape.name} needs {sorted(missing)}"
        for name, member in shape.members.items():
            if name in value:
                conform(value[name], member, f"{place}.{name}")
    elif isinstance(shape, ListShape):
        assert isinstance(value, list), f"{place}: {value!r} is no list"
        for at, each in enumerate(value):
            conform(each, shape.member, f"{place}[{at}]")
    elif isinstance(shape, MapShape):
        assert isinstance(value, dict), f"{place}: {value!r} is no map"
        for key, each in value.items():
            conform(each, shape.value, f"{place}[{key}]")
    else:
        wanted = SCALARS[shape.type_name]
        assert isinstance(value, wanted), f"{place}: {value!r} is no {shape.type_name}"
        assert wanted is bool or not isinstance(value, bool), f"{place}: {value!r} is no {shape.type_name}"
        known = getattr(shape, "enum", None)
        assert not known or value in known, f"{place}: {value!r} is none of {known}"
