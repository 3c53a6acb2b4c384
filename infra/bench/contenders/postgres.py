"""The contender ``postgres``: queries of ``patterns`` on a PostgreSQL table. A scan is one prepared statement."""

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, LiteralString

from psycopg.rows import tuple_row
from psycopg.sql import SQL
from psycopg_pool import AsyncConnectionPool

from infra.serving.server import run_server
from infra.settings import Settings
from projections.base import LOWEST_VALUE
from projections.patterns import PatternRow, band_name
from projections.queries import (
    MAX_OFFSET,
    TOP_SYMBOLS,
    Cursor,
    Page,
    PatternQuery,
    PatternSort,
    PatternStatistics,
    ResultRow,
    TooDeepError,
    most_frequent,
    read_result,
)

CONNECTIONS = 8
"""Connections of one process. With more connections, the processes of PostgreSQL wait for each other."""

_SORT_VALUES: dict[PatternSort, LiteralString] = {
    "confidence": "confidence",
    "detected_at": "detected_at",
    "symbol": "symbol",
    "rs": "relative_strength",
    "volume": "relative_volume",
}

# The page comes from the index in the requested order. Only the rows of the page are read completely.
_SCAN = """
WITH page AS MATERIALIZED (
    SELECT {value} AS value, id FROM patterns WHERE {filters} AND {behind}
    ORDER BY {value} {order}, id {order} LIMIT %(limit)s OFFSET %(offset)s
)
SELECT (SELECT count(*) FROM patterns WHERE {filters}), page.value, patterns.log, patterns.document
FROM (SELECT) AS one LEFT JOIN (page JOIN patterns USING (id)) ON true
ORDER BY page.value {order}, page.id {order}
"""

# With two bounds of one column, the planner of a prepared statement expects almost no rows and does not use the index
# in the requested order, which takes three times as long at 100,000 patterns. It makes no estimate for a sum.
_CONDITIONS: dict[str, LiteralString] = {
    "symbols": "symbol = ANY(%(symbols)s)",
    "patterns": "pattern = ANY(%(patterns)s)",
    "tiers": "tier = ANY(%(tiers)s)",
    "rs_min": "relative_strength >= %(rs_min)s",
    "vol_min": "relative_volume >= %(vol_min)s",
    "rsi_min": "rsi >= %(rsi_min)s",
    "rsi_max": "rsi + 0 <= %(rsi_max)s",
}

_GET = b"SELECT log, document FROM patterns WHERE id = %s AND expires_at > %s"

_STATISTICS = b"""
SELECT symbol, pattern, tier, least(floor(confidence * 10)::int, 9) AS tenth,
    count(*), count(*) FILTER (WHERE confidence >= 0.8)
FROM patterns WHERE expires_at > %s
GROUP BY GROUPING SETS ((symbol), (pattern), (tier), (tenth), ())
"""


class PostgresPatternQueries:
    """Queries of the table in a database. The connection pool opens on first use."""

    source = "postgres"

    def __init__(self, dsn: str) -> None:
        self._pool = AsyncConnectionPool(
            dsn,
            min_size=CONNECTIONS,
            max_size=CONNECTIONS,
            kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": tuple_row},
            open=False,
        )

    async def close(self) -> None:
        """Close the connection pool."""
        await self._pool.close()

    def state(self, now: float) -> None:
        """Return None: the state is not known without a query."""

    async def scan(self, query: PatternQuery) -> Page[PatternRow]:
        """Return a page of the scan. Raises TooDeepError if the offset is too large."""
        if query.offset > MAX_OFFSET:
            empty = await self.scan(query._replace(offset=0, limit=0))
            if query.offset < empty.total:
                raise TooDeepError(f"row {query.offset} of {empty.total}")
            return empty
        values = _query_parameters(query)
        statement = _statement(query.sort_by, query.descending, frozenset(values))
        rows = await self._fetch(statement, values)
        results = [
            (value, read_result(PatternRow, log, document)) for _, value, log, document in rows if document is not None
        ]
        page, more = results[: query.limit], results[query.limit :]
        end = Cursor(page[-1][0], page[-1][1].row.id) if more and page else None
        return Page([row for _, row in page], rows[0][0], end)

    async def get(self, pattern_id: str, now: float) -> ResultRow[PatternRow] | None:
        """Return one active pattern; None if there is none."""
        rows = await self._fetch(_GET, (pattern_id, now))
        return read_result(PatternRow, *rows[0]) if rows else None

    async def statistics(self, now: float) -> PatternStatistics:
        """Return the counts of the patterns that are active at ``now``."""
        rows = await self._fetch(_STATISTICS, (now,))
        [(total, high)] = [row[4:] for row in rows if row[:4] == (None,) * 4]
        by_symbol, by_type, by_tier, by_tenth = (
            {row[column]: row[4] for row in rows if row[column] is not None} for column in range(4)
        )
        return PatternStatistics(
            total=total,
            high_confidence=high,
            by_type=most_frequent(by_type),
            by_tier=most_frequent(by_tier),
            by_confidence=most_frequent({band_name(tenth): count for tenth, count in by_tenth.items()}),
            by_symbol=most_frequent(by_symbol, TOP_SYMBOLS),
            symbols=len(by_symbol),
        )

    async def _fetch(self, statement: bytes, values: Mapping[str, Any] | Sequence[Any]) -> list[tuple[Any, ...]]:
        if self._pool.closed:
            await self._pool.open()
        async with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(statement, values)
            return await cursor.fetchall()


def _query_parameters(query: PatternQuery) -> dict[str, Any]:
    """Return the parameters of the statement. A filter that is not used has no parameter."""
    bounds = {
        "rs_min": query.rs_min,
        "vol_min": query.vol_min,
        "rsi_min": query.rsi_range and query.rsi_range[0],
    }
    values = {
        "now": query.now,
        "confidence_min": query.confidence_min,
        "limit": query.limit + 1 if query.limit else 0,
        "offset": query.offset,
        "symbols": None if query.symbols is None else list(query.symbols),
        "patterns": list(query.pattern_types) or None,
        "tiers": list(query.tiers) or None,
        # A row without the value must not match, however low the bound is.
        **{name: None if bound is None else max(bound, LOWEST_VALUE) for name, bound in bounds.items()},
        "rsi_max": query.rsi_range and query.rsi_range[1],
        "after": query.after and query.after.value,
        "key": query.after and query.after.key,
    }
    return {name: value for name, value in values.items() if value is not None}


@lru_cache(maxsize=1_000)
def _statement(sort_by: PatternSort, descending: bool, named: frozenset[str]) -> bytes:
    value = SQL(_SORT_VALUES[sort_by])
    filters = ["expires_at > %(now)s", "confidence >= %(confidence_min)s"]
    filters += [condition for name, condition in _CONDITIONS.items() if name in named]
    behind: LiteralString = "true"
    if "after" in named:
        behind = "({value}, id) < (%(after)s, %(key)s)" if descending else "({value}, id) > (%(after)s, %(key)s)"
    return (
        SQL(_SCAN)
        .format(
            value=value,
            filters=SQL(" AND ").join(map(SQL, filters)),
            behind=SQL(behind).format(value=value),
            order=SQL("DESC" if descending else "ASC"),
        )
        .as_bytes()
    )


def main(dsn: str) -> None:
    """Serve the API with the patterns of this database."""
    queries = PostgresPatternQueries(dsn)
    run_server(Settings(), lambda _client, _build, _logs: queries)


if __name__ == "__main__":
    main(sys.argv[1])
