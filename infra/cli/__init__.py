"""The ``tickview`` command: its entry point, and the import of the one command that it runs."""

import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from infra.cli.commands import COMMANDS
from infra.cli.output import escape_unencodable
from infra.processes.lifeline import stop_with_supervisor
from infra.processes.memory import permanent_objects
from infra.processes.python import ignore_working_directory


class LazyCommands(TyperGroup):
    """The commands of ``tickview``. Each one is imported on use, so that a role starts fast and stays small."""

    def __init__(self, **options: Any) -> None:
        """Create the group, with the name and the summary of each command."""
        stubs = {name: TyperCommand(name, help=entry.summary) for name, entry in COMMANDS.items()}
        super().__init__(**{**options, "commands": stubs})

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the order of their table."""
        del ctx
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments begin with, and import it."""
        name, _, others = super().resolve_command(ctx, args)
        return name, load_command(name) if name else None, others


def load_command(name: str) -> Any:
    """Import a command, and configure the logs of its process. A role configures them again with its own level."""
    module, _, attribute = COMMANDS[name].target.partition(":")
    with permanent_objects():
        logs = import_module("infra.processes.logs")
        function_or_group = getattr(import_module(module), attribute)
    logs.configure_logs("error", "tickview")
    if isinstance(function_or_group, typer.Typer):
        command = typer.main.get_command(function_or_group)
    else:
        single = typer.Typer(add_completion=False)
        single.command()(function_or_group)
        command = typer.main.get_command(single)
    command.name = name
    return command


app = typer.Typer(
    name="tickview",
    cls=LazyCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"tickview {version('tickview')}")
        raise typer.Exit


@app.callback()
def tickview(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Record, query, archive and audit stock-chart patterns and backtests."""


def main() -> None:
    """Run the command. Print an error that the user can correct in one line, with exit code 1."""
    ignore_working_directory()
    escape_unencodable()
    stop_with_supervisor()
    try:
        app()
    except Exception as error:
        # Imported here, because the libraries whose errors it knows take longer than the start of some commands.
        from infra.cli.error_output import print_error

        if not print_error(error):
            raise
        sys.exit(1)
