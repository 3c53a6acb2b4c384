"""Output of the commands: tables for people and JSON for programs."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape
from rich.table import Table

from infra.processes.terminal import TerminalConsole, escape_controls_in_json

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

console = TerminalConsole(width=None if sys.stdout.isatty() else 200)
"""Console for results. A file or pipe gets lines of 200 characters, so that tables are not folded."""

notes = TerminalConsole(stderr=True)
"""Console for progress, warnings and errors: standard error, so that standard output contains only results."""


def print_json(value: Any) -> None:
    """Print one JSON document, indented and in UTF-8, whatever the encoding of the terminal is (RFC 8259)."""
    sys.stdout.flush()
    document = orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str)
    sys.stdout.buffer.write(escape_controls_in_json(document) + b"\n")
    sys.stdout.buffer.flush()


def escape_unencodable() -> None:
    """Let the output contain escapes for characters that its encoding lacks, such as letters with accents in ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], empty: str) -> None:
    """Print the values of the rows in a table with these columns, or the line ``empty`` if there are no rows."""
    if not rows:
        console.print(empty)
        return
    console.print(row_table(columns, rows))


def row_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table with these columns of the rows."""
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("" if row[column] is None else escape(str(row[column])) for column in columns))
    return table


def iso(moment: float) -> str:
    """Format epoch seconds as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
