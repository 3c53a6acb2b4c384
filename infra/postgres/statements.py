"""SQL statements by name, from the file ``statements.sql`` beside the code that executes them.

A statement begins with the line ``-- name: NAME``. Comment lines describe its purpose, parameters and result. The SQL
follows, up to the semicolon at the end of a line. Placeholders have the form of psycopg (``%(name)s``); identifiers in
braces (``{table}``) are composed with ``psycopg.sql``.
"""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import LiteralString

from domain.errors import TickViewError

FILE = "statements.sql"
"""Name of the file that holds the statements of a package."""

_NAME = "-- name: "


class StatementError(TickViewError):
    """A file of SQL statements is malformed, or a statement is missing from it."""


class Statements(Mapping[str, LiteralString]):
    """The SQL statements of one package by name, without comments. An unknown name raises StatementError."""

    def __init__(self, source: str, text: str) -> None:
        self._source = source
        self._statements: dict[str, LiteralString] = {}
        for block in text.split(f"\n{_NAME}")[1:]:
            name, _, body = block.partition("\n")
            if name in self._statements:
                raise StatementError(f"{source} has two statements with the name {name}. Rename one of them.")
            self._statements[name] = _statement(f"{name} in {source}", body)

    def __getitem__(self, name: str) -> LiteralString:
        try:
            return self._statements[name]
        except KeyError:
            raise StatementError(f"{self._source} has no statement with the name {name}.") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


def load_statements(package: str) -> Statements:
    """Load the SQL statements of a package when a module of the package is imported.

    Args:
        package: The name of the package, which is ``__package__`` of the importing module.

    Returns:
        The statements by name.

    Raises:
        StatementError: Two statements have one name, or a statement has no description or no SQL.
    """
    return Statements(f"{package}/{FILE}", (files(package) / FILE).read_text(encoding="utf-8"))


def _statement(title: str, body: str) -> LiteralString:
    """Return the SQL of a block without comments, because psycopg would look for placeholders in them."""
    lines = body.rstrip().splitlines()
    if not lines or not lines[0].startswith("--"):
        raise StatementError(f"The statement {title} has no description. Describe it in comment lines below its name.")
    sql = "\n".join(line for line in lines if not line.lstrip().startswith("--")).strip().removesuffix(";")
    if not sql:
        raise StatementError(f"The statement {title} has no SQL.")
    return sql
