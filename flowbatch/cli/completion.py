"""`completion`: click's own script for a shell. It asks `flowbatch` itself what fits, so it never goes stale."""

from __future__ import annotations

from typing import Final

import click

HOW: Final = {
    "bash": 'add to ~/.bashrc:  eval "$(flowbatch completion bash)"',
    "zsh": 'add to ~/.zshrc, after compinit:  eval "$(flowbatch completion zsh)"',
    "fish": "run once:  flowbatch completion fish > ~/.config/fish/completions/flowbatch.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(HOW)))
def completion(shell: str) -> None:
    """Print the completion script of SHELL; its last line says where it goes."""
    from click.shell_completion import get_completion_class

    from flowbatch.cli.main import flowbatch

    maker = get_completion_class(shell)
    assert maker is not None
    # bash's class asks the installed bash for its version, which this machine may not have: only the text is wanted
    text = maker.source_template % maker(flowbatch, {}, "flowbatch", "_FLOWBATCH_COMPLETE").source_vars()
    click.echo(f"{text.strip()}\n\n# {HOW[shell]}")
