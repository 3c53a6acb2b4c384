"""The catalogue in the platform's PostgreSQL database: two tables, read in one read-only transaction."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from psycopg import Connection, Cursor, Error, IsolationLevel, OperationalError, connect
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from infra.catalogue.errors import CatalogueError
from infra.catalogue.parsing import MAX_SYMBOLS, Columns, Rows, check_columns
from infra.postgres.statements import load_statements
from infra.settings.table_names import format_table_name, parse_table_name

CONNECT_TIMEOUT_SECONDS = 5
"""Timeout of the connection, in seconds."""

STATEMENT_TIMEOUT_MILLISECONDS = 60_000
"""Timeout of one statement, in milliseconds."""

FETCH_SIZE = 1_000
"""Number of rows that the server sends at once."""

MAX_LISTED_TABLES = 20
"""Highest number of tables that a refusal lists."""

_statements = load_statements(__package__)
_LIMIT_STATEMENT_TIME = SQL(_statements["limit_statement_time"])
_HAS_TABLE = _statements["has_table"]
_SELECT_READABLE_TABLES = _statements["select_readable_tables"]
_SELECT_NO_ROWS = SQL(_statements["select_no_rows"])
_SELECT_ROWS = SQL(_statements["select_rows"])


@contextmanager
def open_platform(dsn: str) -> Iterator[Connection]:
    """Open a read-only transaction that sees one snapshot of the platform's database.

    Raises:
        CatalogueError: The database cannot be read.
    """
    try:
        # A database with the encoding SQL_ASCII would otherwise return bytes.
        with connect(dsn, connect_timeout=CONNECT_TIMEOUT_SECONDS, client_encoding="UTF8") as connection:
            connection.read_only = True
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.execute(_LIMIT_STATEMENT_TIME.format(milliseconds=STATEMENT_TIMEOUT_MILLISECONDS))
            yield connection
    except Error as error:
        reason = " ".join((error.diag.message_primary or str(error)).split())
        names = ["DSN"] if isinstance(error, OperationalError) else ["SYMBOLS_TABLE", "UNIVERSES_TABLE"]
        settings = " and ".join("TICKVIEW_CATALOGUE_" + name for name in names)
        raise CatalogueError(f"The platform's database cannot be read: {reason}. Check {settings}.") from error


def has_table(connection: Connection, table: str) -> bool:
    """Check whether a table or view exists."""
    [[exists]] = connection.execute(_HAS_TABLE, [Identifier(*parse_table_name(table)).as_string()])
    return bool(exists)


def check_table(connection: Connection, table: str, setting: str) -> None:
    """Check that a table or view exists.

    Raises:
        CatalogueError: The table or view does not exist. The message lists the tables that the user can read.
    """
    if has_table(connection, table):
        return
    rows = connection.execute(_SELECT_READABLE_TABLES, [parse_table_name(table)[-1], MAX_LISTED_TABLES]).fetchall()
    tables = [format_table_name(parts) for parts, _ in rows] or ["no tables"]
    if rows and rows[0][1] > len(rows):
        tables.append(f"{rows[0][1] - len(rows)} others")
    raise CatalogueError(
        f"The platform's database has no table or view {table}. Its user can read {', '.join(tables)}. "
        f"Correct {setting}."
    )


def read_table_rows(connection: Connection, table: str, fields: tuple[str, ...], columns: Columns) -> Rows:
    """Read the rows of a table.

    Args:
        connection: The read-only transaction.
        table: The name of the table.
        fields: The fields to read. The first field identifies a row. The others may be missing.
        columns: The columns that have other names than their fields. They must exist.

    Raises:
        CatalogueError: A required column is missing.
    """
    name = Identifier(*parse_table_name(table))
    description = connection.execute(_SELECT_NO_ROWS.format(table=name)).description or ()
    existing = {column.name for column in description}
    check_columns(f"The platform's table {table}", existing, fields[0], columns)
    names = [columns.get(field, field) for field in fields]
    selected = SQL(", ").join(Identifier(column) for column in names if column in existing)
    statement = _SELECT_ROWS.format(columns=selected, table=name, key=Identifier(names[0]), limit=MAX_SYMBOLS + 1)
    with connection.cursor(f"tickview_{fields[0]}", row_factory=dict_row) as cursor:
        cursor.itersize = FETCH_SIZE
        yield from _numbered(cursor.execute(statement), table)


def _numbered(cursor: Cursor[dict[str, Any]], table: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, row in enumerate(cursor, 1):
        yield f"{table} row {number}", row
