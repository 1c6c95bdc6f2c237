"""Routes of the native API: a method, a path with variables, the action that it needs, and the shapes of what goes in and out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from msgspec import Struct
from msgspec.structs import force_setattr
from pydantic import BaseModel, ConfigDict

from flowbatch.http.calls import Call, Request, Route
from flowbatch.http.failures import ClientFailure, Failure, MethodNotAllowed
from flowbatch.http.operations.shapes import S, Shape, read

Answers = type[BaseModel] | type[Struct]  # the shapes of the API, or those of the engine as they are
PREFIX: Final = "/api/v1"
FIELDS_MAX: Final = 32  # of a query
BODY_MAX: Final = 1024 * 1024
DOCUMENT: Final = f"{PREFIX}/openapi.json"


class Query(Shape):
    """What stands behind the question mark: texts, of which numbers and truths are made."""

    model_config = ConfigDict(strict=False)


class NotFound(Failure):
    status = 404
    code = "NotFoundException"


class NativeRoute(Route, frozen=True):
    """`given` of its calls has the path's variables, the query's fields and the body's. The shapes are for the document too."""

    method: str = "GET"
    path: str = PREFIX  # `/api/v1/runs/{run}`
    takes: type[Shape] | None = None  # the query of a GET, the body of a POST
    answers: Answers | None = None  # None: no JSON
    kinds: tuple[str, ...] = ()  # of an answer that is no JSON, or need not be
    each: type[BaseModel] | None = None  # the data of each server-sent event
    once: bool = False  # it takes an Idempotency-Key
    steps: tuple[str, ...] = ()  # of the path, always: told by it

    def __post_init__(self) -> None:
        force_setattr(self, "steps", tuple(self.path.split("/")))

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(step[1:-1] for step in self.steps if step.startswith("{"))

    def match(self, steps: list[str]) -> dict[str, str] | None:
        if len(steps) != len(self.steps):
            return None
        found = {}
        for wanted, step in zip(self.steps, steps, strict=True):
            if wanted.startswith("{"):
                if not step:
                    return None
                found[wanted[1:-1]] = unquote(step)
            elif wanted != step:
                return None
        return found


class Router:
    def __init__(self, routes: Iterable[NativeRoute]) -> None:
        self.routes = tuple(routes)

    def find(self, request: Request) -> tuple[NativeRoute, dict[str, str]]:
        """And the variables of its path. Raises NotFound, MethodNotAllowed."""
        steps = request.path.split("/")
        for route in self.routes:
            if route.method == request.method and (found := route.match(steps)) is not None:
                return route, found
        if others := {route.method for route in self.routes if route.match(steps) is not None}:
            raise MethodNotAllowed(request.method, request.path, others)
        raise NotFound(f"There is nothing at {request.method} {request.path[:128]}; {DOCUMENT} says what there is")


def fields_of(query: str) -> dict[str, str]:
    """Raises ClientFailure: of a field that is there twice nobody knows which is meant."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError as error:
        raise ClientFailure(f"The query cannot be read: {error}") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ClientFailure("The query has a field twice")
    return found


def asked(call: Call, shape: type[S]) -> S:
    """What the call takes, checked; the variables of its path aside. Raises ClientFailure."""
    return read(shape, {key: value for key, value in call.given.items() if not key.startswith("{")})


def variable(call: Call, name: str) -> str:
    return str(call.given[f"{{{name}}}"])


def given_of(request: Request, variables: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
    return {**body, **fields_of(request.query), **{f"{{{name}}}": value for name, value in variables.items()}}


Act = Callable[[Call], Awaitable[Any]]


def get(path: str, name: str, act: Act, answers: Answers | None = None, **more: Any) -> NativeRoute:
    return NativeRoute(
        name, f"flowbatch:{name}", act, reads=True, method="GET", path=PREFIX + path, answers=answers, **more
    )


def post(path: str, name: str, act: Act, answers: Answers | None = None, **more: Any) -> NativeRoute:
    return NativeRoute(
        name, f"flowbatch:{name}", act, body_max=BODY_MAX, method="POST", path=PREFIX + path, answers=answers, **more
    )
