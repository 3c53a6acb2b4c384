"""``tickview new``: write the files that a new part needs."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any

import typer

from domain.event_types import EVENT_TYPES, EventTypeError, check_event_type
from domain.events import Event
from infra.cli.errors import CommandError
from infra.cli.output import JsonOption, console, print_json
from infra.cli.read_model_template import is_name_taken, read_model_source, specification_source
from infra.plugins import configure
from infra.plugins.schemas import GoldenSchemaError, write_schema
from projections.registry import READ_MODELS

_NAME = re.compile("[a-z][a-z0-9_]{0,63}")

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
        _print(str(_relative(path)))


@app.command(name="read-model")
def read_model(
    name: Annotated[str, typer.Argument(help="Name of the read model: small letters, digits and _.")],
    on: Annotated[str, typer.Option(metavar="EVENT", help="Event class whose latest event each row shows.")],
    json: JsonOption = False,
) -> None:
    """Write a read model and its specification into the working directory. Existing files do not change.

    The read model has one row per stream with the latest event. Every simple field of the event is a column. The read
    model runs at once, and is meant to be changed.

    Example: tickview new read-model latest_health --on HealthReported
    """
    plugins = configure().plugins
    event_type = _event_type(on)
    _check_name(name, event_type)
    test = f"test_{name}.py"
    _write({f"{name}.py": read_model_source(name, event_type), test: specification_source(name, event_type)})
    commands = [
        f"python -m pytest {test}",
        f"PYTHONPATH=. TICKVIEW_PLUGINS={','.join([*plugins, name])} tickview up",
    ]
    if json:
        print_json({"read_model": name, "event": on, "files": [f"{name}.py", test], "commands": commands})
    else:
        _print(f"{name}.py", test, "Next commands:", *(f"  {command}" for command in commands))


def _event_type(name: str) -> type[Event]:
    if name in EVENT_TYPES:
        return EVENT_TYPES[name]
    close = get_close_matches(name, EVENT_TYPES)
    known = f"Close names: {', '.join(close)}" if close else f"Known events: {', '.join(sorted(EVENT_TYPES))}"
    raise CommandError(f"There is no event {name}. {known}. TICKVIEW_PLUGINS names the modules with further events.")


def _check_name(name: str, event_type: type[Event]) -> None:
    if not _NAME.fullmatch(name) or iskeyword(name):
        raise CommandError(
            f"{name!r} cannot be the name of a read model: use small letters, digits and _, a letter first."
        )
    if name in READ_MODELS:
        raise CommandError(f"There is already a read model {name}. Choose another name.")
    if is_name_taken(name, event_type):
        raise CommandError(f"The class of {name} would have the name of a class that it imports. Choose another name.")
    if not Path(f"{name}.py").exists() and find_spec(name):
        raise CommandError(f"There is already a Python module {name}. Choose another name.")


def _write(files: Mapping[str, str]) -> None:
    """Write files into the working directory. Raises CommandError without writing if one of them exists."""
    if existing := [file for file in files if Path(file).exists()]:
        raise CommandError(f"{existing[0]} exists already and was not changed. Remove it, or choose another name.")
    for file, content in files.items():
        try:
            with Path(file).open("x", encoding="utf-8") as stream:
                stream.write(content)
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}.") from error


def _print(*lines: str) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


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
