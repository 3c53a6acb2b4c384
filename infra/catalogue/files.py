"""The catalogue from files: CSV with a line of column names, or JSON, by the file's ending."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from infra.catalogue.entries import Rows
from infra.errors import StartupError

MOST_BYTES = 256 * 1024 * 1024


def rows_of(path: Path, member: str) -> Rows:
    """The rows of a file. JSON is an array of objects, or an object that has it as its ``member``.

    Raises StartupError for a file that cannot be read as a whole.
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
    return _csv_rows(path, text) if suffix == ".csv" else _json_rows(path, text, member)


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    try:
        for row in reader:
            # What stands behind the last column has no name.
            yield (
                f"{path.name} line {reader.line_num}",
                {name: value for name, value in row.items() if name is not None},
            )
    except csv.Error as error:
        raise StartupError(f"{path} line {reader.line_num}: is no CSV: {error}") from error


def _json_rows(path: Path, text: str, member: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise StartupError(f"{path}: is no JSON: {error}") from error
    items = content.get(member) if isinstance(content, dict) else content
    if not isinstance(items, list):
        raise StartupError(f'{path}: should be an array of objects, or an object with one as "{member}"')
    for number, item in enumerate(items, 1):
        yield f"{path.name} item {number}", item if isinstance(item, dict) else {}
