"""`schema`: what an editor needs to complete and check a workflow file or the settings, and a receiver to read events."""

from __future__ import annotations

import click


@click.command()
@click.argument(
    "what",
    type=click.Choice(["workflow", "settings", "event", "openapi"]),
    default="workflow",
    metavar="[workflow|settings|event|openapi]",
)
def schema(what: str) -> None:
    """Print the JSON schema of workflow files, of the settings, or of events; or the OpenAPI document of a server's native API.

    Save it and name it in the first line of the file: `# yaml-language-server: $schema=workflow.schema.json`.
    """
    import json

    if what == "event":
        from flowbatch.hooks.event_schema import event_schema

        made = event_schema()
    elif what == "openapi":
        from flowbatch.http.native.document import whole

        made = whole()
    else:
        from flowbatch.spec.jsonschema import settings_schema, workflow_schema

        made = workflow_schema() if what == "workflow" else settings_schema()
    click.echo(json.dumps(made, indent=2, ensure_ascii=False))
