"""The OpenAPI document: whole, stored as it is made, and true of the answers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import anyio
import pytest
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from flowbatch.cli.main import run
from flowbatch.http.native import table
from flowbatch.http.native.document import whole
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import FakeScript, JobSpec
from flowbatch.model.notify import Dead, Parked
from flowbatch.model.resources import Resources
from flowbatch.model.rows import ShelfRow
from flowbatch.model.stimuli import Shelve
from flowbatch.settings import parse_settings
from flowbatch.store.deliveries import refusal_objects
from flowbatch.store.outbox import Refusals
from tests.http.rig import FAKE, a_server
from tests.http.test_native_api import ARRAY, RUN, SINGLE, ask, ended, filled, get, spec, submit

STORED = Path(__file__).parents[2] / "schemas" / "openapi.json"


def test_the_stored_document_is_that_of_the_routes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "openapi"]) == 0
    made = capsys.readouterr().out
    assert made == STORED.read_text(encoding="utf-8"), "stale: flowbatch schema openapi > schemas/openapi.json"


def test_every_route_is_in_it_with_its_action() -> None:
    told = {
        (method.upper(), path): operation
        for path, operations in whole()["paths"].items()
        for method, operation in operations.items()
    }
    assert set(told) == {(route.method, route.path) for route in table.ROUTES}
    for route in table.ROUTES:
        operation = told[route.method, route.path]
        assert (operation["operationId"], operation["x-flowbatch-action"]) == (route.name, route.action)
        assert {each["name"] for each in operation["parameters"] if each["in"] == "path"} == set(route.variables)
        assert ("requestBody" in operation) == (route.method == "POST")
        assert operation["summary"].endswith(".") or ":" in operation["summary"], operation["summary"]
    assert len({operation["operationId"] for operation in told.values()}) == len(told)


def resolved(schema: Any) -> Any:
    """With the components, so that its references lead somewhere; and closed: an answer says nothing that is not in the document."""
    return closed({**schema, "components": whole()["components"]})


def closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(each) for key, each in schema.items()}
    return {"additionalProperties": False, **found} if isinstance(schema.get("properties"), dict) else found


def test_every_answer_of_json_says_what_it_has() -> None:
    for path, operations in whole()["paths"].items():
        for method, operation in operations.items():
            schema = operation["responses"]["200"]["content"].get("application/json", {}).get("schema")
            if method == "get" and operation["operationId"] not in ("OpenSocket", "GetDocument"):
                assert schema != {"type": "object"}, path


def test_its_schemas_are_schemas_and_no_reference_dangles() -> None:
    schemas = whole()["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    text = json.dumps(whole())
    for part in text.split('"$ref": "')[1:]:
        name = part.partition('"')[0].removeprefix("#/components/schemas/")
        assert name in schemas


def checked(route: str, answer: Any) -> None:
    [path] = [each.path for each in table.ROUTES if each.name == route]
    content = whole()["paths"][path]["get"]["responses"]["200"]["content"]
    Draft202012Validator(resolved(content["application/json"]["schema"])).validate(answer)


async def test_what_an_operator_has_set_up_is_as_it_says(tmp_path: Path) -> None:
    """Each kind of place, receiver and file with all that it has."""
    file = tmp_path / "events.jsonl"
    text = f"notify: [{{name: log, to: {{jsonl: {file}}}, events: [run.*]}}]\n"
    nightly = "schedule: {cron: '0 2 * * *', tz: Europe/Prague}\njobs: {a: {command: [x]}}\n"
    share = JobSpec("s", "fair", ("true",), Resources(1000, 0, 0), share="ann", fake=FakeScript(duration_ms=3_600_000))
    async with a_server(tmp_path, replace(FAKE, notify=parse_settings(text.encode(), "flowbatch.yaml").notify)) as rig:
        for path, body in (
            ("/environments", {"environment": "farm", "said": {"type": "unmanaged"}}),
            ("/environments/farm/nodes/n1", {"vcpus_milli": 1000}),
            ("/environments", {"environment": "cheap", "said": {"vcpus": 2, "spot": True, "notice": "5s"}}),
            ("/queues", {"queue": "fair", "said": {"environments": ["default"], "policy": {"shares": {"ann": 2}}}}),
            ("/scheduling-policies", {"scheduling_policy": "even", "said": {"share_decay": "1h"}}),
            ("/tokens", {"name": "licence", "total": 2, "tags": {"a": "b"}}),
        ):
            got = await ask(rig, path, body)
            assert got.status == 200, (path, got)
        row = ShelfRow("nightly.yaml", "0" * 64, nightly, Millis(0), False, None)
        assert (await rig.running.app.engine.ask(lambda ticket: Shelve(ticket, row))).error is None
        await submit(rig, (SINGLE, spec("one")))
        await ended(rig)
        await submit(rig, *((str(uuid4()), replace(share, key=f"s{at}")) for at in range(6)), run=str(uuid4()))
        with anyio.fail_after(20):
            while not (deliveries := await get(rig, "/deliveries?sink=log"))["deliveries"]:
                await anyio.lowlevel.checkpoint()
        queue = await get(rig, "/queues/fair")
        assert queue["front"]
        assert queue["utilization"]["shares"]
        places = await get(rig, "/environments")
        assert [each["environment"] for each in places["environments"]] == ["cheap", "default", "farm"]
        assert places["environments"][2]["nodes"]
        for route, answer in (
            ("ListDeliveries", deliveries),
            ("GetQueue", queue),
            ("ListQueues", await get(rig, "/queues")),
            ("ListEnvironments", places),
            ("ListTokens", await get(rig, "/tokens")),
            ("ListSchedulingPolicies", await get(rig, "/scheduling-policies")),
            ("ListSchedules", await get(rig, "/schedules")),
        ):
            [found] = [each for each in answer.values() if isinstance(each, list)][:1]
            assert found, route
            checked(route, answer)


def test_what_is_refused_is_as_it_says() -> None:
    """The rows of `deliveries --failed`, one of each kind."""
    sink = SimpleNamespace(key="log")
    refused = Refusals([Parked(3, 2, Millis(9), "503", 2)], [Dead(4, 9, Millis(9), "410")], [(5, 6, Millis(9))])
    outbox = SimpleNamespace(refusals=lambda _: refused)
    rows = refusal_objects(outbox, sink)  # type: ignore[arg-type]
    assert [each["state"] for each in rows] == ["parked", "dead", "gap"]
    checked("ListDeliveries", {"sinks": [], "failed": rows})


async def test_answers_are_what_it_says(tmp_path: Path) -> None:
    queries = {"Resolve": f"?address={RUN}/many:1", "ListDeliveries": "?failed=true"}
    async with a_server(tmp_path) as rig:
        await submit(rig, (SINGLE, spec("one")), (ARRAY, spec("many", 3)))
        await ended(rig)
        checked = 0
        for route in table.ROUTES:
            if not route.reads or route.name in ("FollowRun", "OpenSocket"):
                continue
            got = await ask(rig, filled(route) + queries.get(route.name, ""))
            assert got.status == 200, (route.name, got)
            content = whole()["paths"][route.path]["get"]["responses"]["200"]["content"]
            kind = got.headers["content-type"].partition(";")[0]
            known = {each.partition(";")[0]: each for each in content}
            assert kind in known, (route.name, kind)
            if kind == "application/json":
                Draft202012Validator(resolved(content[known[kind]]["schema"])).validate(got.json)
                checked += 1
        assert checked >= 15
        got = await ask(rig, "/runs/none")
        Draft202012Validator(resolved(whole()["components"]["schemas"]["Error"])).validate(got.json)
        assert (await ask(rig, "/openapi.json")).json == json.loads(STORED.read_text(encoding="utf-8"))
