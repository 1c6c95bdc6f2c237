"""The group of verbs. A verb's module is imported only when it runs, so that `--help` and completion stay quick."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from flowbatch import __version__
from flowbatch.cli.context import Place
from flowbatch.errors import FlowbatchError, InputError, WorkflowInvalid

# verb → (module, help). The help stands here so that the list of verbs imports nothing.
VERBS: Final[dict[str, tuple[str, str]]] = {
    "run": ("flowbatch.cli.run", "Run a workflow to its end, with live progress."),
    "submit": ("flowbatch.cli.submit", "Queue one job and print its id."),
    "check": ("flowbatch.cli.check", "Validate a workflow and print its plan; nothing starts."),
    "export": ("flowbatch.cli.export", "Print a workflow as calls of AWS Batch."),
    "graph": ("flowbatch.cli.graph", "Draw the jobs of a workflow or a run: ascii, mermaid, dot."),
    "runs": ("flowbatch.cli.lists", "List runs, the newest first."),
    "jobs": ("flowbatch.cli.lists", "List the jobs of a run."),
    "show": ("flowbatch.cli.show", "Show a run, a job, a child or an attempt in detail."),
    "logs": ("flowbatch.cli.logs", "Print the log of an attempt; -f follows it."),
    "why": ("flowbatch.cli.why", "Say in one sentence what a job waits for."),
    "cancel": ("flowbatch.cli.change", "Fail what has not started; what runs ends by itself."),
    "terminate": ("flowbatch.cli.change", "Cancel, and stop what runs."),
    "retry": ("flowbatch.cli.again", "Run again what failed, and what failed because of it."),
    "resume": ("flowbatch.cli.again", "Continue interrupted runs."),
    "events": ("flowbatch.cli.events", "Print the event log; -f follows it."),
    "environments": (
        "flowbatch.cli.environments",
        "List compute environments; enable, disable, update, delete; nodes.",
    ),
    "queues": (
        "flowbatch.cli.queues",
        "List job queues; what stands at the front of one; enable, disable, update, delete; policies.",
    ),
    "deliveries": ("flowbatch.cli.deliveries", "What became of events: delivered, owed, refused."),
    "redeliver": ("flowbatch.cli.redeliver", "Deliver events again: a range, one, or what was given up."),
    "notify": ("flowbatch.cli.notify", "Receivers of events: test, enable, flush."),
    "definitions": ("flowbatch.cli.definitions", "Job definitions: list, show, register, deregister."),
    "tokens": ("flowbatch.cli.tokens", "Consumable resources: list, show, create, update, delete."),
    "serve": ("flowbatch.cli.serve", "Serve the AWS Batch API, and run a folder of workflows."),
    "key": ("flowbatch.cli.key", "Keys and policies of the server: who may call what."),
    "audit": ("flowbatch.cli.audit", "Print the log of calls of the server; verify checks it."),
    "doctor": ("flowbatch.cli.doctor", "Check this machine, the state folder and the settings."),
    "schedules": ("flowbatch.cli.schedules", "List the scheduled workflows, the next one first."),
    "backup": ("flowbatch.cli.backup", "Copy the store while it is in use."),
    "gc": ("flowbatch.cli.gc", "Delete old runs and their logs."),
    "schema": ("flowbatch.cli.schema", "Print the JSON schema of workflow files, or of the settings."),
    "completion": ("flowbatch.cli.completion", "Print the completion script of a shell."),
}

# What a server of --server can be asked.
REMOTE: Final = frozenset(
    {
        "run", "submit", "runs", "jobs", "show", "logs", "why", "cancel", "terminate", "retry", "resume", "events", "queues",
        "environments", "definitions", "tokens", "schedules", "deliveries", "redeliver", "notify", "check", "graph", "schema", "completion", "export",
    }
)  # fmt: skip

TOO_MANY: Final = {errno.EMFILE, errno.ENFILE}
FULL: Final = {errno.ENOSPC, errno.EDQUOT}
NOT_OURS: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENAMETOOLONG}


class NobodyReads(Exception):
    """Whoever read our output has gone: `flowbatch jobs last | head`."""


class LazyGroup(click.Group):
    """Knows its verbs by name, and imports a verb's module when it is called or its own help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = VERBS.get(cmd_name)
        if known is None:
            return None
        command = getattr(importlib.import_module(known[0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            result: object = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:  # click would exit with 1 for it, which here means that a run failed
            raise NobodyReads from None
        return result

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs from the table, so that a Tab imports none of them; options as click does."""
        found = [CompletionItem(name, help=text) for name, (_, text) in VERBS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name not in VERBS:
            import difflib

            close = difflib.get_close_matches(name, VERBS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else " See `flowbatch --help`."
            raise click.UsageError(f"There is no command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--state", metavar="DIR", envvar="FLOWBATCH_STATE", help="State folder.  [default: ./.flowbatch]")
@click.option(
    "--config", metavar="FILE", envvar="FLOWBATCH_CONFIG", help="Settings.  [default: flowbatch.yaml beside it]"
)
@click.option("--server", metavar="URL", envvar="FLOWBATCH_SERVER", help="A server to ask instead of a folder.")
@click.option(
    "--key-file", metavar="FILE", envvar="FLOWBATCH_KEY_FILE", help="Its key; FLOWBATCH_KEY is the key itself."
)
@click.version_option(__version__, prog_name="flowbatch")
@click.pass_context
def flowbatch(
    ctx: click.Context, state: str | None, config: str | None, server: str | None, key_file: str | None
) -> None:
    """AWS Batch on your own machine: workflows of jobs and arrays, run durably by one process."""
    typed = []
    for option, value in (("state", state), ("config", config), ("server", server), ("key_file", key_file)):
        if value is not None and ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            typed += [f"--{option.replace('_', '-')}", value]
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False
    if server and ctx.invoked_subcommand in VERBS and ctx.invoked_subcommand not in REMOTE:
        known = ", ".join(verb for verb in VERBS if verb in REMOTE)
        raise InputError(
            f"{ctx.invoked_subcommand} works on a state folder here: leave --server out (and FLOWBATCH_SERVER unset); "
            f"with one there are {known}"
        )
    ctx.obj = place = Place(state, config, tuple(typed), server or None, key_file)
    ctx.call_on_close(place.close)


def run(arguments: Sequence[str]) -> int:
    """Runs a command line and returns its exit code: 2 for wrong input, 70 for a bug of ours; the rest as errors.py says."""
    try:
        result = flowbatch.main(list(arguments), prog_name="flowbatch", standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except FlowbatchError as error:
        return tell(error)
    except NobodyReads:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes on its way out
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return internal_error(error)
    return result if isinstance(result, int) else 0


def tell(error: FlowbatchError) -> int:
    """One message; what it quotes of names and reasons drives no terminal. Returns the exit code."""
    from flowbatch.cli.output import clean

    text = clean(str(error))
    click.echo(text if isinstance(error, WorkflowInvalid) else f"flowbatch: {text}", err=True)
    return error.exit_code


def internal_error(error: Exception) -> int:
    """An error of ours may come wrapped in groups by the task groups it passed; anything else is a bug, told in full."""
    ours = first_of_ours(error) or first_of_the_worlds(error)
    if ours is not None:
        return tell(ours)
    import traceback

    traceback.print_exception(error)
    click.echo(
        f"flowbatch: internal error: {error}. This is a bug. Nothing durable is lost: `flowbatch resume` continues.",
        err=True,
    )
    return 70


def stands_nowhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def came_of_output(error: BaseException) -> bool:
    """It was raised where all that verbs print is printed; an error of a write does not say of which file."""
    raised = error.__traceback__
    while raised is not None and raised.tb_next is not None:
        raised = raised.tb_next
    return raised is not None and raised.tb_frame.f_code in (click.echo.__code__, LazyGroup.invoke.__code__)


def first_of_ours(error: BaseException) -> FlowbatchError | None:
    if isinstance(error, FlowbatchError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for each in error.exceptions if (found := first_of_ours(each)) is not None), None)
    return None


def first_of_the_worlds(error: BaseException) -> InputError | None:
    """A file that may not be touched, a disk that is full: told as what it is, and where, for it is no bug."""
    if isinstance(error, FileNotFoundError) and error.filename is None and stands_nowhere():
        return InputError("the working directory is gone")
    if isinstance(error, OSError) and error.errno in TOO_MANY:
        return InputError(f"{error.strerror}: raise the limit, `ulimit -n`")
    if isinstance(error, OSError) and error.errno in NOT_OURS and error.filename is not None:
        return InputError(f"{os.fsdecode(error.filename)}: {error.strerror}")
    if isinstance(error, OSError) and error.errno in FULL and came_of_output(error):
        return InputError(f"the output cannot be written: {error.strerror}")
    if isinstance(error, BaseExceptionGroup):
        return next((found for each in error.exceptions if (found := first_of_the_worlds(each)) is not None), None)
    return None
