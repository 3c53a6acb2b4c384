"""The catalogue in files: CSV with a header line, or JSON, by the ending of the file name."""

import csv
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import orjson

from infra.catalogue.errors import CatalogueError
from infra.catalogue.parsing import Columns, Rows, check_columns

MAX_BYTES = 256 * 1024 * 1024
"""Size of the largest file, in bytes."""


def read_file_rows(path: Path, member: str, identity: str, columns: Columns) -> Rows:
    """Read the rows of a file.

    Args:
        path: The file.
        member: The member of a JSON object that contains the array of rows. The array may also be the whole document.
        identity: The field that identifies a row.
        columns: The columns that have other names than their fields.

    Raises:
        CatalogueError: The file cannot be read, or it lacks a required column.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise CatalogueError(f"{path}: The name of a catalogue file must end in .csv or .json.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CatalogueError(f"{path}: The file has more than {MAX_BYTES:,} bytes, the limit for a catalogue file.")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CatalogueError(f"{path}: The file cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{path}: The file is not UTF-8 at byte {error.start}. Convert it to UTF-8.") from error
    if suffix == ".csv":
        return _csv_rows(path, text, identity, columns)
    return _json_rows(path, _json_items(path, text, member), identity, columns)


def _csv_rows(path: Path, text: str, identity: str, columns: Columns) -> Iterator[tuple[str, Mapping[str, Any]]]:
    # newline="": only the line ends of CSV end a row, not every line separator of Unicode.
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        check_columns(str(path), names, identity, columns)
        for values in reader:
            if values:
                yield f"{path.name} line {reader.line_num}", dict(zip(names, values, strict=False))
    except csv.Error as error:
        raise CatalogueError(f"{path}: Line {reader.line_num} is not valid CSV: {error}.") from error


def _json_items(path: Path, text: str, member: str) -> list[Any]:
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CatalogueError(f"{path}: The file is not valid JSON: {error}.") from error
    items = content.get(member) if isinstance(content, dict) else content
    if not isinstance(items, list):
        raise CatalogueError(
            f'{path}: The file must contain an array of objects, or an object with such an array as "{member}".'
        )
    return items


def _json_rows(
    path: Path, items: list[Any], identity: str, columns: Columns
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    rows: list[Mapping[str, Any]] = [item if isinstance(item, dict) else {} for item in items]
    if rows:
        check_columns(str(path), set().union(*rows), identity, columns)
    for number, row in enumerate(rows, 1):
        yield f"{path.name} item {number}", row
