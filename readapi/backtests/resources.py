"""``/api/backtests``: backtest runs with progress and results."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import orjson
from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from domain.streams import backtest_stream
from projections.backtests import BacktestRow, Backtests
from projections.queries import ALWAYS, Query, ResultRow, RowQueries, TooDeepError
from readapi.audit.event_documents import MAX_RELATED_EVENTS, HistoricEvent, related_events
from readapi.http.operation import Resource, operation
from readapi.http.parameters import ListOf, Name, PageNumber, PageSize, Parameters, SortOrder
from readapi.http.problems import invalid, not_found
from readapi.http.read_model import ReadModel
from readapi.http.responses import Pagination, pagination, send_with_etag
from readapi.ports.archive import History
from readapi.ports.read_models import LiveRows
from readapi.read_models.filter_parameters import filters_of
from readapi.read_models.hints import FilterValues
from readapi.read_models.pages import PAGE_BYTES, too_deep
from readapi.read_models.rendering import render_within
from readapi.read_models.schemas import document_type

RUN = Backtests.views["run"]

if TYPE_CHECKING:
    Backtest = dict[str, Any]
    SortKey = str
else:
    Backtest = document_type(Backtests, RUN, "Backtest")
    SortKey = Literal[tuple(name for name, column in Backtests.columns.items() if column.sort)]


class BacktestsParameters(Parameters):
    """Filters, order and page of the list of backtest runs."""

    status: ListOf[Name] | None = None
    """States to include: ``completed``, ``failed``, ``cancelled``, ``processing``, or another state that a run has."""
    sort_by: SortKey = "updated_at"
    """Sort key: a time, the progress or a metric of the results. A run without this value counts as the lowest."""
    sort_order: SortOrder = "desc"
    """``asc`` for the lowest value first, ``desc`` for the exact reverse."""
    page: PageNumber = 1
    """Number of the page, from 1. Only the first 10,000 runs can be reached."""
    per_page: PageSize = 30
    """Highest number of runs on the page."""


class BacktestPage(TypedDict):
    """A page of backtest runs."""

    backtests: list[Backtest]
    pagination: Pagination


class BacktestDocument(TypedDict):
    """A backtest run and its first 100 events. ``events`` is null while the archive is unavailable."""

    backtest: Backtest
    events: list[HistoricEvent] | None


class BacktestsResource(Resource):
    """All backtest runs."""

    def __init__(self, backtests: ReadModel[RowQueries[BacktestRow]]) -> None:
        self.read_model = backtests

    @operation(
        "List backtest runs with progress and results.",
        scope="read",
        responses={200: BacktestPage},
        query=BacktestsParameters,
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, query: BacktestsParameters, live: LiveRows[BacktestRow]
    ) -> None:
        """Send one page of backtest runs."""
        filters = filters_of(Backtests, {"status": query.status})
        await FilterValues(Backtests, filters).check(live.queries, ALWAYS)
        try:
            page = await live.queries.page(
                Query(
                    ALWAYS,
                    filters,
                    sort_by=query.sort_by,
                    descending=query.sort_order == "desc",
                    offset=(query.page - 1) * query.per_page,
                    limit=query.per_page,
                )
            )
        except TooDeepError:
            raise too_deep("filter by status or reverse the order") from None
        runs = orjson.Fragment(render_page(page.rows))
        send_with_etag(req, resp, {"backtests": runs, "pagination": pagination(query.page, query.per_page, page.total)})


def render_page(runs: Sequence[ResultRow[BacktestRow]]) -> bytes:
    """Encode the runs of a page as a JSON array.

    Raises:
        Problem: 400, several runs have more than ``PAGE_BYTES``. A page cannot end early, because the next page has a
            number and no cursor.
    """
    encoded, number = render_within(runs, RUN, ALWAYS, PAGE_BYTES)
    if number < len(runs):
        reason = f"is too high: these runs have more than {PAGE_BYTES:,} bytes; at most {number} of them fit a page"
        raise invalid([{"field": "per_page", "reason": reason}])
    return encoded


class BacktestResource(Resource):
    """One backtest run."""

    def __init__(self, backtests: ReadModel[RowQueries[BacktestRow]], history: History | None) -> None:
        self.read_model = backtests
        self._history = history

    @operation(
        "Show a backtest run and its events.",
        scope="read",
        responses={200: BacktestDocument},
        path={"job_id": "Id of the backtest job, as the producer announced it."},
        problems=(404,),
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, _query: Parameters, *, live: LiveRows[BacktestRow], job_id: str
    ) -> None:
        """Send the run, or 404 if there is no run with this id."""
        result = await live.queries.get(job_id, ALWAYS)
        if result is None:
            raise not_found(f"backtest {job_id!r}")
        stream = backtest_stream(job_id)
        events = await related_events(self._history, lambda history: history.of_stream(stream, MAX_RELATED_EVENTS))
        send_with_etag(req, resp, BacktestDocument(backtest=RUN.render(result, ALWAYS), events=events))
