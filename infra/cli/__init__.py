"""The ``tickview`` command."""

import sys
from importlib import import_module
from typing import Any

import typer
from eventsourcing.persistence import PersistenceError
from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from domain.errors import TickViewError
from infra.processes.lifeline import follow_supervisor
from infra.processes.logs import configure_logs
from infra.processes.python import ignore_working_directory

COMMANDS = {
    "up": "infra.cli.up:up",
    "record": "infra.cli.roles:record",
    "project": "infra.cli.roles:project",
    "archive": "infra.cli.archive:archive",
    "serve": "infra.cli.roles:serve",
    "publish": "infra.cli.publish:publish",
    "status": "infra.cli.status:status",
    "projections": "infra.cli.status:projections",
    "replay": "infra.cli.replay:replay",
    "rollback": "infra.cli.replay:rollback",
    "history": "infra.cli.history:history",
    "catalogue": "infra.cli.catalogue:app",
    "workspaces": "infra.cli.workspaces:app",
    "demo": "infra.cli.demo:demo",
    "dead-letters": "infra.cli.dead_letters:app",
    "config": "infra.cli.config:config",
    "token": "infra.cli.token:app",
    "audit": "infra.cli.audit:app",
    "bench": "infra.cli.bench:app",
}
"""Name -> where the command, or the group of commands, is."""


class Commands(TyperGroup):
    """Imports a command when it is asked for: a role starts sooner, and smaller, without what the others need."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them; None if there is none of this name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found = getattr(import_module(module), name)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False)
            alone.command()(found)
            found = alone
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="tickview",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def tickview() -> None:
    """Event-sourced read models for stock-chart patterns and backtests."""


def main() -> None:
    """Run the command; what a person can mend is said in one line, with exit code 1."""
    ignore_working_directory()
    follow_supervisor()
    configure_logs("error", "tickview")
    try:
        app()
    except ValidationError as error:
        # Only now, for it knows all parts of the service, which take a while to import.
        from infra.cli.settings_page import problems_of

        for problem in problems_of(error):
            _complain(problem)
    except TickViewError as error:
        _complain(str(error))
    except RedisError as error:
        _complain(f"Redis: {error}")
    except PersistenceError as error:
        _complain(" ".join(str(error).split()))
    else:
        return
    sys.exit(1)


def _complain(message: str) -> None:
    Console(stderr=True).print(f"[bold red]tickview:[/] {escape(message)}", highlight=False, soft_wrap=True)
