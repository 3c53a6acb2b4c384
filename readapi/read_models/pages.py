"""The pages of a read model for one request, from the live build or from the history."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from projections.queries import MAX_OFFSET, Page, Query, RowQueries, TooDeepError
from projections.versions import Build
from projections.views import View
from readapi.http.problems import Problem, invalid
from readapi.http.read_model import FRESH, Staleness
from readapi.read_models.downloads import Documents
from readapi.read_models.page_parameters import following
from readapi.read_models.rendering import end_of_second


class PageSource(NamedTuple):
    """The build that answers a request."""

    page: Callable[[Query], Awaitable[Page[Any]]]
    moment: float
    """Moment of the answer, in epoch seconds."""
    read_model: str
    build: Build
    source: str
    """Origin of the answer: ``redis``, ``replica`` or ``archive``."""
    staleness: Staleness = FRESH
    queries: RowQueries[Any] | None = None
    """The queries of the live build. None for a moment in the past."""

    async def read(self, query: Query) -> Page[Any]:
        """Read a page. Raises Problem (400) if page numbers do not reach the page."""
        try:
            return await self.page(query)
        except TooDeepError:
            raise too_deep("use the cursor in next to read further pages") from None


def too_deep(advice: str) -> Problem:
    """Create the problem 400 for a page that page numbers cannot reach. ``advice`` tells the client what to do."""
    return invalid([{"field": "page", "reason": f"lies beyond the first {MAX_OFFSET:,} rows; {advice}"}])


async def all_documents(source: PageSource, query: Query, view: View, first: Page[Any]) -> AsyncIterator[Documents]:
    """Yield the documents of all rows in batches.

    Args:
        source: The build that answers.
        query: The query for the first batch.
        view: The view in which the rows are shown.
        first: The first batch, which is read already.
    """
    now = end_of_second(source.moment)
    page = first
    while True:
        yield [view.render(result, now) for result in page.rows]
        next_query = following(query, page.end)
        if next_query is None:
            return
        query = next_query
        page = await source.page(query)
