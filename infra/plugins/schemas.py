"""Golden schemas of plug-ins' events: files in the folder ``schemas`` beside the module of an event class.

Each schema version has one file. It shows in review that the stored form of an event changes, and TickView refuses to
start if the class no longer has the schema of its version.
"""

import json
import sys
from pathlib import Path
from typing import Any

from domain.errors import TickViewError
from domain.events import Event
from domain.schemas import schema_of


class GoldenSchemaError(TickViewError):
    """An event class and its golden file do not agree. The message is a clause whose subject is the class."""


def schema_path(event_type: type[Event], version: int) -> Path:
    """Return the path of the golden file of one schema version.

    Raises:
        GoldenSchemaError: The module of the class is not a file.
    """
    file = getattr(sys.modules[event_type.__module__], "__file__", None)
    if file is None:
        raise GoldenSchemaError("has no golden schema: its module is not a file")
    return Path(file).parent / "schemas" / f"{event_type.__name__}.v{version}.json"


def check_schema(event_type: type[Event]) -> None:
    """Check that every schema version has a golden file, and that the class has the schema of the present version.

    Raises:
        GoldenSchemaError: A golden file is missing or unreadable, or the class has another schema.
    """
    command = f"tickview new event-schema {event_type.__module__}:{event_type.__qualname__}"
    version = event_type.class_version
    for older in range(1, version):
        if not schema_path(event_type, older).is_file():
            raise GoldenSchemaError(f"has no golden schema {schema_path(event_type, older)}: restore the file")
    path = schema_path(event_type, version)
    if not path.is_file():
        raise GoldenSchemaError(f"has no golden schema {path}: write it with `{command}`, and package the file")
    if _read(path) != schema_of(event_type):
        raise GoldenSchemaError(
            f"has another schema than {path}: raise class_version to {version + 1}, write "
            f"upcast_v{version}_v{version + 1}, then run `{command}`"
        )


def write_schema(event_type: type[Event]) -> Path:
    """Write the golden file of the present schema version, and return its path. An existing file does not change.

    Raises:
        GoldenSchemaError: The file exists with another schema, or it cannot be written.
    """
    path = schema_path(event_type, event_type.class_version)
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(schema_of(event_type), indent=2, ensure_ascii=False) + "\n")
    except FileExistsError:
        check_schema(event_type)
    except OSError as error:
        raise GoldenSchemaError(f"has a golden schema {path} that cannot be written: {error.strerror}") from error
    return path


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise GoldenSchemaError(f"has a golden schema {path} that cannot be read: {error}") from error
