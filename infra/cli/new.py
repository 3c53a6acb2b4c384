"""``tickview new``: write the files that a new part needs."""

from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any

import typer

from domain.event_types import EventTypeError, check_event_type
from infra.cli.errors import CommandError
from infra.cli.output import JsonOption, console, print_json
from infra.plugins.schemas import GoldenSchemaError, write_schema

app = typer.Typer(help="Write the files that a new part of a plug-in needs.", no_args_is_help=True)


@app.callback()
def new() -> None:
    """Write the files that a new part of a plug-in needs."""


@app.command(name="event-schema")
def event_schema(
    event: Annotated[str, typer.Argument(help="The event class, as MODULE:CLASS.")], json: JsonOption = False
) -> None:
    """Write the golden schema of an event class beside its module. An existing file does not change.

    The module must be on Python's module search path, for example through PYTHONPATH.

    Example: tickview new event-schema halts.events:TradingHalted
    """
    event_type = _import(event)
    try:
        check_event_type(event_type)
        path = write_schema(event_type)
    except (EventTypeError, GoldenSchemaError) as error:
        raise CommandError(f"{event} {error}.") from error
    if json:
        print_json({"event": event_type.__name__, "version": event_type.class_version, "file": str(path)})
    else:
        console.print(str(_relative(path)), markup=False, highlight=False, soft_wrap=True)


def _relative(path: Path) -> Path:
    """Return a path below the working directory in relation to it, and any other path unchanged."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _import(event: str) -> Any:
    try:
        return resolve_name(event)
    except Exception as error:
        raise CommandError(
            f"{event} cannot be imported: {' '.join(f'{type(error).__name__}: {error}'.split())}."
        ) from error
