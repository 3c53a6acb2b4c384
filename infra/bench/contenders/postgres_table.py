"""The table of ``patterns`` in PostgreSQL: its columns, an index for each kind of query, and how to fill it.

A missing figure is stored as ``-Infinity`` and a missing time as ``Infinity``. Comparisons then need no condition for
NULL, and every index has the order of the answers.
"""

from collections.abc import Iterable

from psycopg import Connection
from psycopg.sql import SQL, Identifier

from projections.base import encode_row
from projections.columns import LOWEST
from projections.patterns import PatternRow
from projections.queries import ResultRow

SCHEMA = """
CREATE TABLE patterns (
    id text COLLATE "C" PRIMARY KEY,
    symbol text COLLATE "C" NOT NULL,
    pattern text COLLATE "C" NOT NULL,
    tier text COLLATE "C" NOT NULL,
    confidence float8 NOT NULL,
    detected_at float8 NOT NULL,
    expires_at float8 NOT NULL,
    relative_strength float8 NOT NULL,
    relative_volume float8 NOT NULL,
    rsi float8 NOT NULL,
    log text NOT NULL,
    document bytea NOT NULL
)
"""

COPY = """
COPY patterns (id, symbol, pattern, tier, confidence, detected_at, expires_at, relative_strength, relative_volume, rsi,
    log, document) FROM STDIN (FORMAT binary)
"""

TYPES = (*["text"] * 4, *["float8"] * 6, "text", "bytea")

# The indexes in the order of the answers contain all filtered columns, so that rows are read only for the page. The
# indexes for totals are as narrow as possible, because a count reads every matching entry.
INDEXES = """
(confidence, id) INCLUDE (symbol, pattern, tier, expires_at, relative_strength, relative_volume, rsi)
(detected_at, id) INCLUDE (symbol, pattern, tier, confidence, expires_at, relative_strength, relative_volume, rsi)
(relative_strength, id) INCLUDE (symbol, pattern, tier, confidence, expires_at, relative_volume, rsi)
(relative_volume, id) INCLUDE (symbol, pattern, tier, confidence, expires_at, relative_strength, rsi)
(symbol, id) INCLUDE (pattern, tier, confidence, expires_at, relative_strength, relative_volume, rsi)
(pattern, confidence, id) INCLUDE (symbol, tier, expires_at, relative_strength, relative_volume, rsi)
(confidence) INCLUDE (expires_at)
(rsi) INCLUDE (confidence, expires_at, relative_strength, relative_volume)
"""

DATABASE_SETTINGS = {
    # Just-in-time compilation takes longer than any of these queries.
    "jit": "off",
    # The other cores serve other requests.
    "max_parallel_workers_per_gather": "0",
    # All data is in memory.
    "random_page_cost": "1.0",
    "effective_cache_size": "1GB",
    "work_mem": "64MB",
}


def create_table(connection: Connection, rows: Iterable[ResultRow[PatternRow]]) -> None:
    """Create the table, fill it with rows, and create its indexes. The connection must be in autocommit mode."""
    connection.execute(SCHEMA)
    copy_rows(connection, rows)
    for index in INDEXES.strip().splitlines():
        connection.execute(SQL("CREATE INDEX ON patterns " + index))
    connection.execute("VACUUM (FREEZE, ANALYZE) patterns")
    for name, value in DATABASE_SETTINGS.items():
        setting = SQL("ALTER DATABASE {} SET {} = {}")
        connection.execute(setting.format(Identifier(connection.info.dbname), Identifier(name), value))


def copy_rows(connection: Connection, rows: Iterable[ResultRow[PatternRow]]) -> None:
    """Add rows to the table with COPY."""
    with connection.cursor().copy(COPY) as copy:
        copy.set_types(TYPES)
        for result in rows:
            copy.write_row(_values(result))


def _values(result: ResultRow[PatternRow]) -> tuple[str | float | bytes, ...]:
    row = result.row
    return (
        row.id,
        row.symbol,
        row.pattern,
        row.tier,
        row.confidence,
        row.detected_at,
        float("inf") if row.expires_at is None else row.expires_at,
        *(LOWEST if value is None else value for value in (row.relative_strength, row.relative_volume, row.rsi)),
        result.log,
        encode_row(row, result.position),
    )
