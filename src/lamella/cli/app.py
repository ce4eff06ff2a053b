"""The `lamella` command: the verbs together, and what its exit status is."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_group

from lamella import __version__
from lamella.cli import output
from lamella.cli.alias import alias
from lamella.cli.cache import cache
from lamella.cli.check import check
from lamella.cli.convert import convert
from lamella.cli.delete import delete
from lamella.cli.deploy import deploy
from lamella.cli.doctor import doctor
from lamella.cli.export import export
from lamella.cli.failures import BROKEN_PIPE, INTERRUPTED, Failure, failure_of, unknown_verb
from lamella.cli.iam_policy import iam_policy
from lamella.cli.infer import infer
from lamella.cli.inspect import inspect
from lamella.cli.logs import logs
from lamella.cli.metrics import metrics
from lamella.cli.package import package
from lamella.cli.plan import plan
from lamella.cli.platforms import platforms
from lamella.cli.rollback import rollback
from lamella.cli.run import run
from lamella.cli.serve import serve
from lamella.cli.slice import slice
from lamella.cli.status import status
from lamella.cli.trigger import trigger
from lamella.cli.verify import verify

app = typer.Typer(
    name="lamella",
    help="Run any ONNX model in slices, verified against the whole model, in bounded memory.",
    epilog="Exit status: 0 done, 1 the answer is no, 2 wrong usage or input. `LAMELLA_DEBUG=1` shows tracebacks.",
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["--help", "-h"]},
)

for _verb, _panel in (
    (inspect, "Look at a model"),
    (check, "Look at a model"),
    (plan, "Look at a model"),
    (platforms, "Look at platforms"),
    (convert, "Make files"),
    (slice, "Make files"),
    (package, "Make files"),
    (run, "Run slices"),
    (verify, "Run slices"),
    (serve, "Run slices"),
    (deploy, "Deploy slices"),
    (infer, "Deploy slices"),
    (status, "Deploy slices"),
    (logs, "Deploy slices"),
    (metrics, "Deploy slices"),
    (rollback, "Deploy slices"),
    (alias, "Deploy slices"),
    (delete, "Deploy slices"),
    (doctor, "Deploy slices"),
    (export, "Deploy slices"),
):
    app.command(rich_help_panel=_panel)(_verb)
app.command("iam-policy", rich_help_panel="Deploy slices")(iam_policy)
app.add_typer(trigger, rich_help_panel="Deploy slices")
app.add_typer(cache, rich_help_panel="Deploy slices")


def _show_version(wanted: bool) -> None:
    if wanted:
        output.line(f"lamella {__version__}")
        raise typer.Exit


@app.callback()
def _lamella(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments, without the program's name; those of this process by default.

    Returns:
        The exit status: 0 done, 1 the answer is no, 2 wrong usage or input; 130 and 141 as shells report SIGINT and
        SIGPIPE.
    """
    output.prepare()
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        output.finish()
    except KeyboardInterrupt:
        output.message("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        output.abandon()
        return BROKEN_PIPE
    except Exception as error:
        failure = None if os.environ.get("LAMELLA_DEBUG") else failure_of(error)
        if failure is None:
            raise
        if isinstance(error, OSError):
            output.abandon()  # it may be stdout itself that cannot be written
        return _fail(failure)
    return status


def _run(arguments: list[str]) -> int:
    group = get_group(app)
    unknown = _unknown_verb(group, [argument for argument in arguments if not argument.startswith("-")])
    if unknown is not None:
        return _fail(unknown)
    try:
        # Not `app()`: that would handle errors, interrupts and closed pipes in its own way.
        with output.warnings_said(), group.make_context("lamella", arguments or ["--help"]) as context:
            group.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except SystemExit as end:  # how the library that prints `--help` takes it that nobody reads on
        raise BrokenPipeError from end
    return 0


def _unknown_verb(group: object, words: list[str], parents: str = "") -> Failure | None:
    """What to say where the first word is no verb, or the second none of the verbs that the first one has."""
    commands = getattr(group, "commands", None)
    if not words or commands is None:
        return None
    if words[0] not in commands:
        return unknown_verb(words[0], list(commands), parents)
    return _unknown_verb(commands[words[0]], words[1:], f"{parents}{words[0]} ")


def _fail(failure: Failure) -> int:
    output.error(failure.message, failure.hint)
    return failure.exit_status
