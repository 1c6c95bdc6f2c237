"""The OpenAPI document of the native API, made of its table of routes and their shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from inspect import cleandoc
from typing import Any, Final

from msgspec import Struct
from msgspec.json import schema_components
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from flowbatch import __version__
from flowbatch.http.native.once import HEADER, KEY_MAX
from flowbatch.http.native.routes import NativeRoute
from flowbatch.http.native.streams import EVENTS
from flowbatch.http.operations.shapes import Shape

REF: Final = "#/components/schemas/{model}"
JSON: Final = "application/json"
PACKED: Final = "application/octet-stream"
ERROR: Final = {
    "type": "object",
    "description": "What went wrong; its name is in the header x-amzn-errortype too.",
    "required": ["__type", "message"],
    "properties": {"__type": {"type": "string"}, "message": {"type": "string"}},
}
REFUSED: Final = {JSON: {"schema": {"$ref": REF.format(model="Error")}}}
KEY: Final = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Of your choice, new for each submission: what is sent again with it, and the same body, is made once and answered "
    "alike, also after a restart, for as long as the run or job is kept.",
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_MAX},
}
ABOUT: Final = """Runs, jobs, logs, events and what else the command line shows, as JSON: snake_case keys, times in epoch milliseconds. \
A call needs a key as its bearer token, and its policies must allow the action that each operation names in `x-flowbatch-action`. \
The AWS Batch API on the same port is described by AWS."""


def document(routes: Iterable[NativeRoute]) -> dict[str, Any]:
    found = tuple(routes)
    shapes = dict.fromkeys(shape for route in found for shape in (route.answers, route.each) if shape is not None)
    answers = [shape for shape in shapes if issubclass(shape, BaseModel)]
    structs = [shape for shape in shapes if issubclass(shape, Struct)]
    bodies: list[type[BaseModel]] = [route.takes for route in found if route.takes is not None and not route.reads]
    said = [(model, "serialization") for model in answers]
    taken = [(model, "validation") for model in dict.fromkeys(bodies)]
    refs, schemas = models_json_schema([*said, *taken], ref_template=REF)  # type: ignore[list-item]
    own, parts = schema_components(structs, ref_template="#/components/schemas/{name}")
    of_answers: dict[object, Schema] = dict(zip(structs, own, strict=True))
    of_answers |= {model: refs[model, "serialization"] for model in answers}
    paths: dict[str, dict[str, Any]] = {}
    for route in found:
        answer = of_answers.get(route.answers)
        body = None if route.takes is None or route.reads else refs[route.takes, "validation"]
        each = None if route.each is None else refs[route.each, "serialization"]
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route, answer, each, body)
    return {
        "openapi": "3.1.0",
        "info": {"title": "flowbatch", "version": __version__, "description": ABOUT, "license": {"name": "Apache-2.0"}},
        "security": [{"key": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "fbk_…, of `flowbatch key create`"}
            },
            "schemas": {"Error": ERROR, **used(paths, {**parts, **schemas.get("$defs", {})})},
        },
    }


Schema = Mapping[str, Any]


def used(paths: Schema, schemas: Mapping[str, Schema]) -> dict[str, Schema]:
    """Those that something refers to: which others pydantic adds depends on what was built before."""
    found: dict[str, Schema] = {}
    left = references(paths)
    while left:
        name = left.pop()
        if name in schemas and name not in found:
            found[name] = schemas[name]
            left |= references(schemas[name])
    return dict(sorted(found.items()))


def references(value: object) -> set[str]:
    if isinstance(value, Mapping):
        own = {value["$ref"].rpartition("/")[2]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def operation(route: NativeRoute, answer: Schema | None, each: Schema | None, body: Schema | None) -> dict[str, Any]:
    """`each`: of the data of a server-sent event."""
    about = cleandoc(route.act.__doc__ or "")
    content = {kind: {"schema": schema_of(kind, each)} for kind in route.kinds}
    if answer is not None or not route.kinds:
        content[JSON] = {"schema": answer or {"type": "object"}}
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": about.partition("\n\n")[0].replace("\n", " "),
        "x-flowbatch-action": route.action,
        "parameters": [*map(path_parameter, route.variables), *(query_parameters(route.takes) if route.reads else ())],
        "responses": {
            "200": {"description": "The answer.", "content": content},
            "default": {
                "description": "It is refused.",
                "content": REFUSED,
            },
        },
    }
    if about.partition("\n\n")[2]:
        found["description"] = about.partition("\n\n")[2]
    if route.once:
        found["parameters"].append(KEY)
        found["responses"]["422"] = {"description": "This key was sent before with another body.", "content": REFUSED}
    if body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    return found


def schema_of(kind: str, each: Schema | None) -> Schema:
    if kind == EVENTS and each is not None:
        return each
    if kind == JSON:
        return {"type": "object"}
    return {"type": "string", "format": "binary"} if kind == PACKED else {"type": "string"}


def path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def query_parameters(shape: type[Shape] | None) -> list[dict[str, Any]]:
    if shape is None:
        return []
    schema = shape.model_json_schema()
    needed = schema.get("required", [])
    found = []
    for name, given in schema.get("properties", {}).items():
        about = {key: value for key, value in given.items() if key not in ("title", "description")}
        parameter = {"name": name, "in": "query", "required": name in needed, "schema": about}
        if "description" in given:
            parameter["description"] = given["description"]
        found.append(parameter)
    return found


@cache
def whole() -> dict[str, Any]:
    from flowbatch.http.native.table import ROUTES

    return document(ROUTES)
