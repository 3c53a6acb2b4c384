"""The catalogue from the platform's PostgreSQL: two tables, read in one transaction that cannot write."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from psycopg import Connection, Cursor, Error, IsolationLevel, OperationalError, connect
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from infra.catalogue.parsing import MOST_SYMBOLS, Columns, Rows, check_columns
from infra.processes.errors import StartupError
from infra.settings.table_names import format_table_name, parse_table_name

CONNECT_SECONDS = 5
STATEMENT_MILLISECONDS = 60_000
ROWS_AT_ONCE = 1_000

TABLES_TOLD = 20
"""Where the one that was named is not there, at most."""

# What differs in capitals alone is the likeliest to be meant.
_READABLE = """
SELECT CASE WHEN pg_table_is_visible(c.oid) THEN ARRAY[relname] ELSE ARRAY[nspname, relname] END::text[],
    count(*) OVER ()
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition
    AND nspname <> 'information_schema' AND nspname !~ '^pg_'
    AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
ORDER BY lower(relname) <> lower(%s), nspname, relname LIMIT %s
"""


@contextmanager
def platform(dsn: str) -> Iterator[Connection]:
    """A read-only transaction, of one moment. Raises StartupError where the database cannot be read."""
    try:
        # A database without an encoding of its own would give bytes.
        with connect(dsn, connect_timeout=CONNECT_SECONDS, client_encoding="UTF8") as connection:
            connection.read_only = True
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.execute(SQL("SET LOCAL statement_timeout = {}").format(STATEMENT_MILLISECONDS))
            yield connection
    except Error as error:
        reason = " ".join((error.diag.message_primary or str(error)).split())
        cause = "DSN" if isinstance(error, OperationalError) else "SYMBOLS_TABLE and TICKVIEW_CATALOGUE_UNIVERSES_TABLE"
        raise StartupError(
            f"the platform's database cannot be read: {reason}; see TICKVIEW_CATALOGUE_{cause}"
        ) from error


def has_table(connection: Connection, table: str) -> bool:
    """Whether there is a table, or a view, of this name."""
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [Identifier(*parse_table_name(table)).as_string()])
    [[there]] = found
    return bool(there)


def check_table(connection: Connection, table: str, setting: str) -> None:
    """See that there is such a table. Raises StartupError, which tells those that may be read."""
    if has_table(connection, table):
        return
    found = connection.execute(_READABLE, [parse_table_name(table)[-1], TABLES_TOLD]).fetchall()
    told = [format_table_name(parts) for parts, _ in found] or ["none that its user may read"]
    if found and found[0][1] > len(found):
        told.append(f"{found[0][1] - len(found)} others")
    raise StartupError(f"the platform's database has no table or view {table}: it has {', '.join(told)}; see {setting}")


def rows_of_table(connection: Connection, table: str, fields: tuple[str, ...], columns: Columns) -> Rows:
    """The rows of a table, of the columns that it has of those wanted.

    The first field tells rows apart. Raises StartupError where a column is missing, as ``check_columns`` says.
    """
    name = Identifier(*parse_table_name(table))
    there = connection.execute(SQL("SELECT * FROM {} LIMIT 0").format(name)).description or ()
    known = {column.name for column in there}
    check_columns(f"table {table} of the platform", known, fields[0], columns)
    wanted = [columns.get(field, field) for field in fields]
    chosen = SQL(", ").join(Identifier(column) for column in wanted if column in known)
    statement = SQL("SELECT {} FROM {} ORDER BY {} LIMIT {}").format(
        chosen, name, Identifier(wanted[0]), MOST_SYMBOLS + 1
    )
    with connection.cursor(f"tickview_{fields[0]}", row_factory=dict_row) as cursor:
        cursor.itersize = ROWS_AT_ONCE
        yield from _numbered(cursor.execute(statement), table)


def _numbered(cursor: Cursor[dict[str, Any]], table: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, row in enumerate(cursor, 1):
        yield f"{table} row {number}", row
