"""All rows that match a query, page by page."""

from collections.abc import AsyncIterator
from typing import TypeVar

from projections.queries import Query, ResultRow, RowQueries

Row = TypeVar("Row")

ROWS_PER_PAGE = 1_000
"""Number of rows that are read at once."""


async def all_rows(queries: RowQueries[Row], query: Query) -> AsyncIterator[ResultRow[Row]]:
    """Yield all rows that match a query, in its order."""
    while True:
        page = await queries.page(query._replace(limit=ROWS_PER_PAGE))
        for result in list(page.rows):
            yield result
        if page.end is None:
            return
        query = query._replace(after=page.end)
