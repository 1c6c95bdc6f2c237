"""The OpenAPI document: whole, stored as it is made, and true of the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flowbatch.cli.main import run
from flowbatch.http.native import table
from flowbatch.http.native.document import whole
from tests.http.rig import a_server
from tests.http.test_native_api import ARRAY, RUN, SINGLE, ask, ended, filled, spec, submit

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
    """With the components, so that its references lead somewhere."""
    return {**schema, "components": whole()["components"]}


def test_its_schemas_are_schemas_and_no_reference_dangles() -> None:
    schemas = whole()["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    text = json.dumps(whole())
    for part in text.split('"$ref": "')[1:]:
        name = part.partition('"')[0].removeprefix("#/components/schemas/")
        assert name in schemas


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
