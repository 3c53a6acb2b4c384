"""The contender ``postgres``: scans of ``patterns`` on a PostgreSQL table. A scan is one prepared statement."""

import sys
from functools import lru_cache
from typing import Any, LiteralString

from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composable, Identifier, Placeholder
from psycopg_pool import AsyncConnectionPool

from infra.bench.contenders.measured_scans import serve_scans
from projections.columns import LOWEST_NUMBER
from projections.patterns import PatternRow
from projections.queries import MAX_OFFSET, Cursor, Equality, Page, Query, TooDeepError, read_result

CONNECTIONS = 8
"""Connections of one process. With more connections, the processes of PostgreSQL wait for each other."""

# The page comes from the index in the requested order. Only the rows of the page are read completely.
_SCAN = """
WITH page AS MATERIALIZED (
    SELECT {value} AS value, id FROM patterns WHERE {filters} AND {behind}
    ORDER BY {value} {order}, id {order} LIMIT %(limit)s OFFSET %(offset)s
)
SELECT (SELECT count(*) FROM patterns WHERE {filters}), page.value, patterns.log, patterns.id, patterns.document
FROM (SELECT) AS one LEFT JOIN (page JOIN patterns USING (id)) ON true
ORDER BY page.value {order}, page.id {order}
"""

# With two bounds of one column, the planner of a prepared statement expects almost no rows and does not use the index
# in the requested order, which takes three times as long at 100,000 patterns. It makes no estimate for a sum.
_CONDITIONS: dict[str, LiteralString] = {"is": "{} = ANY({})", "from": "{} >= {}", "to": "{} + 0 <= {}"}


class PostgresScans:
    """Scans of the table in a database. The connection pool opens on first use. All symbols are in upper case."""

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

    async def page(self, query: Query) -> Page[PatternRow]:
        """Return a page of the scan. Raises TooDeepError if the offset is too large."""
        if query.offset > MAX_OFFSET:
            empty = await self.page(query._replace(offset=0, limit=0))
            if query.offset < empty.total:
                raise TooDeepError(query, empty.total)
            return empty
        values = _values(query)
        statement = _statement(query.sort_by, query.descending, frozenset(values))
        rows = await self._fetch(statement, values)
        results = [
            (value if query.sort_by else None, read_result(PatternRow, log, key, document))
            for _, value, log, key, document in rows
            if document is not None
        ]
        page, more = results[: query.limit], results[query.limit :]
        end = Cursor(page[-1][0], page[-1][1].key) if more and page else None
        return Page([row for _, row in page], rows[0][0], end)

    async def _fetch(self, statement: bytes, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        if self._pool.closed:
            await self._pool.open()
        async with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(statement, values)
            return await cursor.fetchall()


def _values(query: Query) -> dict[str, Any]:
    """Return the parameters of the statement: ``is``, ``from`` and ``to`` with a column for the filters."""
    values: dict[str, Any] = {
        "now": query.now,
        "limit": query.limit + 1 if query.limit else 0,
        "offset": query.offset,
    }
    for each in query.filters:
        if isinstance(each, Equality):
            values[f"is {each.column}"] = list(each.values)
        else:
            # A row without the value must not match, however low the bound is.
            values[f"from {each.column}"] = max(each.lowest, LOWEST_NUMBER)
            if each.highest < float("inf"):
                values[f"to {each.column}"] = each.highest
    if query.after is not None:
        values["after"], values["key"] = query.after.value if query.sort_by else 0.0, query.after.key
    return values


@lru_cache(maxsize=1_000)
def _statement(sort_by: str | None, descending: bool, names: frozenset[str]) -> bytes:
    value: Composable = Identifier(sort_by) if sort_by else SQL("0::float8")
    filters: list[Composable] = [SQL("expires_at > %(now)s")]
    for name in sorted(names):
        kind, _, column = name.partition(" ")
        if column:
            filters.append(SQL(_CONDITIONS[kind]).format(Identifier(column), Placeholder(name)))
    behind: LiteralString = "true"
    if "after" in names:
        behind = "({value}, id) < (%(after)s, %(key)s)" if descending else "({value}, id) > (%(after)s, %(key)s)"
    return (
        SQL(_SCAN)
        .format(
            value=value,
            filters=SQL(" AND ").join(filters),
            behind=SQL(behind).format(value=value),
            order=SQL("DESC" if descending else "ASC"),
        )
        .as_bytes()
    )


if __name__ == "__main__":
    serve_scans(PostgresScans(sys.argv[1]))
