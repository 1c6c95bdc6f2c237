"""`graph`: the jobs of a workflow file, or of a run with their statuses."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from flowbatch.cli.context import Place
from flowbatch.cli.output import clean, print_json

if TYPE_CHECKING:
    from flowbatch.cli.drawings import Node


@click.command()
@click.argument("what", metavar="WORKFLOW|RUN")
@click.option("-p", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter of the workflow.")
@click.option("--format", "form", type=click.Choice(["ascii", "mermaid", "dot"]), default="ascii", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Jobs and what they need, as one JSON object.")
@click.pass_obj
def graph(place: Place, what: str, params: Sequence[str], form: str, as_json: bool) -> int:
    """Draw the jobs of a workflow file, or those of a run with how they stand."""
    if Path(what).is_file() or params or what.endswith((".yaml", ".yml")):
        about, nodes = of_workflow(place, what, params)
    else:
        about, nodes = of_run(place, what)
    title = " ".join(word[:8] if name == "run" else word for name, word in about.items() if word)
    if as_json:
        print_json({**about, "jobs": [node_object(node) for node in nodes]})
        return 0
    if form == "ascii":
        from flowbatch.cli.drawings import draw

        lines = [clean(title), "", *draw(nodes, unicode=speaks_unicode())]
    else:
        from flowbatch.cli.diagrams import dot, mermaid

        lines = (mermaid if form == "mermaid" else dot)(title, nodes)
    click.echo("\n".join(lines))
    return 0


About = dict[str, str | None]  # what stands over the picture


def of_workflow(place: Place, file: str, params: Sequence[str]) -> tuple[About, list[Node]]:
    from flowbatch.cli.drawings import nodes_of
    from flowbatch.cli.load import load_plan

    plan = load_plan(place, file, params, allow=None)
    return {"workflow": plan.run.workflow, "run": None, "status": None}, nodes_of(plan.run.jobs)


def of_run(place: Place, name: str) -> tuple[About, list[Node]]:
    """The shape is that of the run's own plan, whatever the file says by now."""
    from flowbatch.cli.drawings import nodes_of

    with place.records() as reader:
        run = reader.run(name)
        plans = reader.plan(run).jobs
        jobs = {job.id: job for job in reader.jobs(run)}
    nodes = []
    for plan, node in zip(plans, nodes_of(plans), strict=True):
        job = jobs[plan.id]
        counts = {status.name: count for status, count in job.counts.items()}
        nodes.append(replace(node, status=job.status.name, counts={} if job.size is None else counts))
    return {"workflow": run.workflow, "run": run.id, "status": run.status.name}, nodes


def speaks_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")


def node_object(node: Node) -> dict[str, object]:
    return {
        "job": node.name,
        "array": node.size,
        "finally": node.last,
        "image": node.image,
        "needs": [{"job": edge.source, "when": str(edge.when), "each": edge.each} for edge in node.needs],
        "status": node.status,
        "counts": node.counts if node.size is not None and node.status is not None else None,
    }
