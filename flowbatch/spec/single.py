"""A job that is queued by itself, as a workflow with that one job: the rules of workflow files judge it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from flowbatch.errors import WorkflowInvalid


def single_text(name: str, layer: Mapping[str, object]) -> bytes:
    """`layer`: what a workflow file would say of the job. What looks like an expression in it is text, as a shell gave it."""
    return json.dumps({"jobs": {name: layer}}, ensure_ascii=False).replace("${{", "$\\u007b{").encode()


def single_problems(error: WorkflowInvalid, name: str) -> list[str]:
    """Each begins with the word of the job that is wrong: `vcpus: …`."""
    return [f"{each.path.removeprefix(f'jobs.{name}.')}: {each.message}" for each in error.problems]
