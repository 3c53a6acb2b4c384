"""The output of an error that ends a command: one line for each cause that the user can correct."""

from eventsourcing.persistence import PersistenceError
from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.markup import escape

from domain.errors import TickViewError
from infra.cli.output import notes
from infra.cli.settings_page import validation_problems


def print_error(error: Exception) -> bool:
    """Print an error that the user can correct. Return False, and print nothing, if the error is a defect."""
    lines = _lines(error)
    for line in lines:
        notes.print(f"[bold red]tickview:[/] {escape(line)}", highlight=False, soft_wrap=True)
    return bool(lines)


def _lines(error: Exception) -> list[str]:
    match error:
        case ValidationError():
            return validation_problems(error)
        case TickViewError():
            return [str(error)]
        case RedisError():
            return [f"Redis: {error}"]
        case PersistenceError():
            return [" ".join(str(error).split())]
        case _:
            return []
