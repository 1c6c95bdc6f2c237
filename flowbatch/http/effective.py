"""What conditions of policies may ask of jobs and definitions as they would run: of every container, wherever it stands
(security.md §1, aws-batch.md §13.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flowbatch.model.jobspec import JobSpec

Context = dict[str, Sequence[str]]
FLAT: Final = (
    "image",
    "user",
    "privileged",
    "logConfiguration",
    "log",
)  # which a definition may have outside containerProperties


def contexts_of_spec(spec: JobSpec) -> list[Context]:
    """One of each program: a process has no image, and a user where it names one."""
    return [context_of_program(program) for program in spec.programs]


def context_of_program(spec: JobSpec) -> Context:
    box = spec.container
    if box is None:
        return {"batch:user": (spec.user,)} if spec.user else {}
    found: Context = {
        "batch:image": (box.image,),
        "batch:privileged": ("true" if box.privileged else "false",),
        "batch:logdriver": (box.log.driver if box.log is not None else "awslogs",),
    }
    if box.user:
        found["batch:user"] = (box.user,)
    return found


def contexts_of_body(body: Mapping[str, Any]) -> list[Context]:
    """Of what is registered, in AWS's spelling or that of a workflow file; an object that is not understood counts for nothing, and is refused elsewhere."""
    return [context_of_box(box) for box in boxes(body)] or [{}]


def boxes(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """containerProperties with what a workflow file says beside them, and those of every node range, task and container below it."""
    own = body.get("containerProperties")
    flat = {key: body[key] for key in FLAT if key in body}
    if isinstance(own, Mapping) or flat:
        yield {**flat, **(own if isinstance(own, Mapping) else {})}
    nodes = body.get("nodeProperties")
    for group in items(nodes, "nodeRangeProperties"):
        box = group.get("container")
        if isinstance(box, Mapping):
            yield box
        yield from boxes(group)
    for task in items(body.get("ecsProperties"), "taskProperties"):
        yield from items(task, "containers")
    for part in items(body, "containers"):
        yield from boxes(part) if "containerProperties" in part else iter((part,))


def items(holder: object, key: str) -> Iterator[Mapping[str, Any]]:
    found = holder.get(key) if isinstance(holder, Mapping) else None
    for each in found if isinstance(found, list) else ():
        if isinstance(each, Mapping):
            yield each


def context_of_box(box: Mapping[str, Any]) -> Context:
    found: Context = {"batch:privileged": ("true" if box.get("privileged") is True else "false",)}
    for key, condition in (("image", "batch:image"), ("user", "batch:user")):
        if isinstance(box.get(key), str):
            found[condition] = (box[key],)
    log = box.get("logConfiguration", box.get("log"))
    driver = log.get("logDriver", log.get("driver")) if isinstance(log, Mapping) else None
    if isinstance(log, Mapping) and isinstance(driver, str):
        found["batch:logdriver"] = (driver,)
        options = log.get("options")
        for option in ("group", "region", "stream-prefix", "create-group"):
            value = options.get(f"awslogs-{option}") if isinstance(options, Mapping) else None
            if isinstance(value, str):
                found[f"batch:awslogs{option.replace('-', '')}"] = (value,)
    return found
