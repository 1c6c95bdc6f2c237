"""`schema`: what an editor needs to complete and check a workflow file."""

from __future__ import annotations

import click


@click.command()
@click.argument("what", type=click.Choice(["workflow"]), default="workflow", metavar="[workflow]")
def schema(what: str) -> None:
    """Print the JSON schema of workflow files.

    Save it and name it in the first line of a workflow: `# yaml-language-server: $schema=workflow.schema.json`.
    """
    import json

    from flowbatch.spec.jsonschema import workflow_schema

    click.echo(json.dumps(workflow_schema(), indent=2, ensure_ascii=False))
