"""The catalogue from files: CSV with a line of column names, or JSON, by the file's ending."""

import csv
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import orjson

from infra.catalogue.parsing import Columns, Rows, check_columns
from infra.processes.errors import StartupError

MOST_BYTES = 256 * 1024 * 1024


def rows_of(path: Path, member: str, identity: str, columns: Columns) -> Rows:
    """The rows of a file. JSON is an array of objects, or an object that has it as its ``member``.

    Raises StartupError for a file that cannot be read as a whole, or that lacks a column as ``check_columns`` says.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise StartupError(f"{path}: should end in .csv or .json, so that it is known how to read it")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise StartupError(f"{path}: has more than the {MOST_BYTES:,} bytes that a catalogue may have")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StartupError(f"{path}: is not UTF-8 at byte {error.start}") from error
    if suffix == ".csv":
        return _csv_rows(path, text, identity, columns)
    return _json_rows(path, _items(path, text, member), identity, columns)


def _csv_rows(path: Path, text: str, identity: str, columns: Columns) -> Iterator[tuple[str, Mapping[str, Any]]]:
    # Lines end as in CSV, and not at every character that ends one in Unicode.
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        check_columns(str(path), names, identity, columns)
        for values in reader:
            if values:
                yield f"{path.name} line {reader.line_num}", dict(zip(names, values, strict=False))
    except csv.Error as error:
        raise StartupError(f"{path} line {reader.line_num}: is no CSV: {error}") from error


def _items(path: Path, text: str, member: str) -> list[Any]:
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise StartupError(f"{path}: is no JSON: {error}") from error
    items = content.get(member) if isinstance(content, dict) else content
    if not isinstance(items, list):
        raise StartupError(f'{path}: should be an array of objects, or an object with one as "{member}"')
    return items


def _json_rows(
    path: Path, items: list[Any], identity: str, columns: Columns
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    rows: list[Mapping[str, Any]] = [item if isinstance(item, dict) else {} for item in items]
    if rows:
        check_columns(str(path), set().union(*rows), identity, columns)
    for number, row in enumerate(rows, 1):
        yield f"{path.name} item {number}", row
