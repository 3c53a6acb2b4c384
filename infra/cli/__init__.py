"""The ``tickview`` command: its entry point and the table of its commands."""

import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from eventsourcing.persistence import PersistenceError
from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.markup import escape
from typer.core import TyperGroup

from domain.errors import TickViewError
from infra.cli.output import escape_unencodable
from infra.processes.lifeline import stop_with_supervisor
from infra.processes.logs import configure_logs
from infra.processes.python import ignore_working_directory
from infra.processes.terminal import TerminalConsole

COMMANDS = {
    "up": "infra.cli.up:up",
    "record": "infra.cli.roles:record",
    "project": "infra.cli.roles:project",
    "archive": "infra.cli.archive:archive",
    "alert": "infra.cli.alert:alert",
    "serve": "infra.cli.roles:serve",
    "publish": "infra.cli.publish:publish",
    "status": "infra.cli.status:status",
    "query": "infra.cli.query:query",
    "projections": "infra.cli.status:projections",
    "replay": "infra.cli.replay:replay",
    "rollback": "infra.cli.replay:rollback",
    "partitions": "infra.cli.partitions:app",
    "history": "infra.cli.history:history",
    "catalogue": "infra.cli.catalogue:app",
    "workspaces": "infra.cli.workspaces:app",
    "users": "infra.cli.users:app",
    "demo": "infra.cli.demo:demo",
    "dead-letters": "infra.cli.dead_letters:app",
    "config": "infra.cli.config:config",
    "new": "infra.cli.new:app",
    "token": "infra.cli.token:app",
    "audit": "infra.cli.audit:app",
    "bench": "infra.cli.bench:app",
}
"""Name of a command or of a group of commands -> module and attribute."""


class LazyCommands(TyperGroup):
    """The commands of ``tickview``. Each one is imported on use, so that a role starts fast and stays small."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command and return it; None if there is no command of this name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        function_or_group = getattr(import_module(module), name)
        if isinstance(function_or_group, typer.Typer):
            command = typer.main.get_command(function_or_group)
        else:
            single = typer.Typer(add_completion=False)
            single.command()(function_or_group)
            command = typer.main.get_command(single)
        command.name = cmd_name
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
    configure_logs("error", "tickview")
    try:
        app()
    except ValidationError as error:
        # Imported here, because the import takes longer than the start of most commands.
        from infra.cli.settings_page import validation_problems

        for problem in validation_problems(error):
            _print_error(problem)
    except TickViewError as error:
        _print_error(str(error))
    except RedisError as error:
        _print_error(f"Redis: {error}")
    except PersistenceError as error:
        _print_error(" ".join(str(error).split()))
    else:
        return
    sys.exit(1)


def _print_error(message: str) -> None:
    TerminalConsole(stderr=True).print(f"[bold red]tickview:[/] {escape(message)}", highlight=False, soft_wrap=True)
