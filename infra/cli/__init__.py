"""The ``tickview`` command."""

import sys

import typer
from eventsourcing.persistence import PersistenceError
from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.console import Console
from rich.markup import escape

from infra.cli import audit, bench, dead_letters, demo, history, publish, replay, roles, status, up
from infra.errors import StartupError
from infra.lifeline import follow_supervisor
from infra.telemetry import configure_logs
from projections.versions import NoSuchBuildError
from readapi.ports import NoSuchReadModelError

app = typer.Typer(
    name="tickview",
    help="Event-sourced read models for stock-chart patterns and backtests.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(up.up)
app.command()(roles.record)
app.command()(roles.project)
app.command()(roles.archive)
app.command()(roles.serve)
app.command()(publish.publish)
app.command()(status.status)
app.command()(status.projections)
app.command()(replay.replay)
app.command()(replay.rollback)
app.command()(history.history)
app.command()(demo.demo)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(audit.app, name="audit")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command; what a person can mend is said in one line, with exit code 1."""
    follow_supervisor()
    configure_logs("error", "tickview")
    try:
        app()
    except ValidationError as error:
        for problem in error.errors():
            _complain("TICKVIEW_" + ".".join(map(str, problem["loc"])).upper() + ": " + problem["msg"])
    except (StartupError, NoSuchReadModelError, NoSuchBuildError) as error:
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
