"""`export`: a workflow for AWS Batch itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from flowbatch.cli.context import Place
from flowbatch.errors import InputError


@click.command()
@click.argument("workflow")
@click.option("--aws", is_flag=True, required=True, help="For AWS Batch (the one there is).")
@click.option("-p", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter of the workflow.")
@click.option("--only", multiple=True, metavar="JOB", help="This job and what it needs; may be repeated.")
@click.option("--image", metavar="IMAGE", help="Of jobs that have none: AWS Batch runs containers alone.")
@click.option("--shell", is_flag=True, help="A script of `aws batch` commands instead of JSON.")
@click.pass_obj
def export(
    place: Place, workflow: str, aws: bool, params: Sequence[str], only: Sequence[str], image: str | None, shell: bool
) -> int:
    """Print the calls that do in AWS Batch what WORKFLOW does here: RegisterJobDefinition and SubmitJob, in their order.

    Queues are meant by their names, and must be there. ${job:NAME} in `dependsOn` stands for the jobId that the submission NAME
    gave; with --shell a script keeps these ids itself. What AWS Batch cannot do is left out and told on standard error;
    `check --aws` names the lines.
    """
    from flowbatch.cli.load import load_plan
    from flowbatch.cli.output import clean
    from flowbatch.spec.exporting import export as exported
    from flowbatch.spec.exporting import script
    from flowbatch.spec.places import Surroundings

    plan = load_plan(place, workflow, params, only, allow=None, anywhere=True)
    around = Surroundings(str(Path(workflow).absolute().parent), str(Path.home()))
    try:
        made = exported(plan, around, image=image)
    except ValueError as error:
        raise InputError(f"{workflow}: {error}") from None
    for note in made.notes:
        click.echo(clean(f"note: {note}"), err=True)
    if made.differences:
        count = len(made.differences)
        click.echo(
            f"note: {count} line{'s' if count > 1 else ''} of the file AWS Batch treats otherwise: `check --aws`",
            err=True,
        )
    click.echo(script(made) if shell else json.dumps(made.document(), indent=2, ensure_ascii=False), nl=not shell)
    return 0
