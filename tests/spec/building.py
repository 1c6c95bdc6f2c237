"""Three-word builders: a text to a plan, to its jobs, to its problems."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from flowbatch.errors import WorkflowInvalid
from flowbatch.model.jobspec import Environment, JobSpec, Queue, SecretSource
from flowbatch.model.resources import Resources
from flowbatch.model.tokens import Token
from flowbatch.spec.arrays import SourceRequest
from flowbatch.spec.compile import Document, Plan, nothing_registered, parse, plan
from flowbatch.spec.definitions import Lookup
from flowbatch.spec.policy import Guard, Policy, Root, plain
from flowbatch.spec.serving import House

MACHINE = (Environment("default", "local", Resources(8000, 16 * 1024, 0), title="default"),)
GUARD = Guard(Policy(mounts=(Root("/lab"),)), plain)


def nothing(request: SourceRequest) -> list[str]:
    raise FileNotFoundError(2, "No such file or directory", request.path)


def compiled(
    text: str | bytes | Document,
    *,
    params: Mapping[str, str] | None = None,
    read_source: Callable[[SourceRequest], list[str]] = nothing,
    available: tuple[Environment, ...] = MACHINE,
    queues: tuple[Queue, ...] = (),
    root: bool = False,
    guard: Guard | None = GUARD,
    only: tuple[str, ...] = (),
    absent: Callable[[SecretSource], str | None] | None = None,
    file: str = "f.yaml",
    tokens: tuple[Token, ...] = (),
    registry: Lookup = nothing_registered,
    register: bool = False,
    house: House | None = None,
) -> Plan:
    count = itertools.count()
    return plan(
        text if isinstance(text, Document) else parse(text.encode() if isinstance(text, str) else text, file),
        params=params or {},
        run_id="RUN",
        new_id=lambda: f"id-{next(count)}",
        folder="/lab",
        home="/home/me",
        read_source=read_source,
        available=available,
        queues=queues,
        root=root,
        guard=guard,
        only=only,
        absent=absent,
        tokens=lambda: tokens,
        registry=registry,
        register=register,
        house=house,
    )


def specs(text: str, **given: object) -> dict[str, JobSpec]:
    return {job.spec.key: job.spec for job in compiled(text, **given).run.jobs}  # type: ignore[arg-type]


def spec(body: str, **given: object) -> JobSpec:
    """Of the one job `a`; `body` is what stands in its braces."""
    return specs(f"jobs: {{a: {{script: x, {body}}}}}", **given)["a"]


def problems(text: str | bytes, **given: object) -> list[str]:
    """Each as `line:column: path: message`; none where the file is right."""
    try:
        compiled(text, **given)  # type: ignore[arg-type]
    except WorkflowInvalid as error:
        return [str(problem).removeprefix("f.yaml:") for problem in error.problems] or ["nothing said"]
    return []


def wrong(body: str, **given: object) -> list[str]:
    """Paths and messages of what is wrong with the one job `a`, which has a script unless its body says what to run."""
    script = "" if "command" in body or "script" in body else "script: x, "
    found = problems(f"jobs: {{a: {{{script}{body}}}}}", **given)
    return [problem.split(" ", 1)[1] for problem in found]
