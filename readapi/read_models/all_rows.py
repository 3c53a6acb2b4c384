"""All rows that match a query, batch by batch."""

from collections.abc import AsyncIterator
from typing import TypeVar

from projections.queries import Query, ResultRow, RowQueries

Row = TypeVar("Row")

ROWS_PER_BATCH = 1_000
"""Number of rows that are read at once."""


def first_batch(query: Query) -> Query:
    """Return the query for the first batch of all rows that match a query."""
    return query._replace(offset=0, after=None, limit=ROWS_PER_BATCH)


async def all_rows(queries: RowQueries[Row], query: Query) -> AsyncIterator[ResultRow[Row]]:
    """Yield all rows that match a query, in its order."""
    query = first_batch(query)
    while True:
        page = await queries.page(query)
        for result in list(page.rows):
            yield result
        if page.end is None:
            return
        query = query._replace(after=page.end)
