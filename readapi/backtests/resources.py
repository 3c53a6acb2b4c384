"""``/api/backtests``: backtest runs with progress and results."""

from typing import Annotated, Any

from falcon.asgi import Request, Response
from pydantic import Field
from typing_extensions import TypedDict

from domain.streams import backtest_stream
from projections.backtests import BacktestRow
from projections.queries import BacktestQueries, BacktestSort, ResultRow, TooDeepError
from readapi.audit.event_documents import MAX_RELATED_EVENTS, HistoricEvent, related_events
from readapi.http.operation import Resource, operation
from readapi.http.parameters import ListOf, Name, PageNumber, PageSize, Parameters, SortOrder
from readapi.http.problems import not_found
from readapi.http.read_model import ReadModel
from readapi.http.responses import Pagination, pagination, send_with_etag
from readapi.patterns.scan import too_deep
from readapi.ports.archive import History
from readapi.ports.read_models import LiveBuild, provenance


class BacktestsParameters(Parameters):
    """Filters, order and page of the list of backtest runs."""

    status: ListOf[Name] | None = None
    """States to include: ``completed``, ``failed``, ``cancelled``, ``processing``, or any other state that a producer
    announced."""
    sort_by: BacktestSort = "updated_at"
    """Sort key: a time, the progress or a metric of the results. A run without this value counts as the lowest."""
    sort_order: SortOrder = "desc"
    """``asc`` for the lowest value first, ``desc`` for the exact reverse."""
    page: PageNumber = 1
    """Number of the page, from 1. Only the first 10,000 runs can be reached."""
    per_page: PageSize = 30
    """Highest number of runs on the page."""


class Backtest(TypedDict):
    """A backtest run.

    Times are in epoch seconds. ``progress`` is between 0 and 1. ``position`` is the position of the event that last
    changed the run, such as ``market-0=17``.
    """

    job_id: str
    status: str
    progress: Annotated[float, Field(ge=0, le=1)]
    started_at: float
    updated_at: float
    ended_at: float | None
    current_symbol: str | None
    processed_symbols: int | None
    estimated_completion: float | None
    results: dict[str, Any]
    error_message: str | None
    processing_time_seconds: float | None
    producer: str
    event_id: str
    correlation_id: str | None
    extra: dict[str, Any]
    position: str


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

    def __init__(self, backtests: ReadModel[BacktestQueries]) -> None:
        self.read_model = backtests

    @operation(
        "List backtest runs with progress and results.",
        scope="read",
        responses={200: BacktestPage},
        query=BacktestsParameters,
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, query: BacktestsParameters, live: LiveBuild[BacktestQueries]
    ) -> None:
        """Send one page of backtest runs."""
        try:
            page = await live.queries.runs(
                frozenset(query.status or ()),
                query.sort_by,
                descending=query.sort_order == "desc",
                offset=(query.page - 1) * query.per_page,
                limit=query.per_page,
            )
        except TooDeepError:
            raise too_deep("filter by status or reverse the order") from None
        content = BacktestPage(
            backtests=[backtest_document(result) for result in page.rows],
            pagination=pagination(query.page, query.per_page, page.total),
        )
        send_with_etag(req, resp, content)


class BacktestResource(Resource):
    """One backtest run."""

    def __init__(self, backtests: ReadModel[BacktestQueries], history: History | None) -> None:
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
        self, req: Request, resp: Response, _query: Parameters, *, live: LiveBuild[BacktestQueries], job_id: str
    ) -> None:
        """Send the run, or 404 if there is no run with this id."""
        result = await live.queries.get(job_id)
        if result is None:
            raise not_found(f"backtest {job_id!r}")
        stream = backtest_stream(job_id)
        events = await related_events(self._history, lambda history: history.of_stream(stream, MAX_RELATED_EVENTS))
        send_with_etag(req, resp, BacktestDocument(backtest=backtest_document(result), events=events))


def backtest_document(result: ResultRow[BacktestRow]) -> Backtest:
    """Convert a row of the read model to its JSON document."""
    row = result.row
    return {
        "job_id": row.job_id,
        "status": row.status,
        "progress": row.progress,
        "started_at": row.started_at,
        "updated_at": row.updated_at,
        "ended_at": row.ended_at,
        "current_symbol": row.current_symbol,
        "processed_symbols": row.processed_symbols,
        "estimated_completion": row.estimated_completion,
        "results": row.results,
        "error_message": row.error_message,
        "processing_time_seconds": row.processing_time_seconds,
        "producer": row.source,
        "event_id": row.event_id,
        "correlation_id": row.correlation_id,
        "extra": row.extra,
        "position": provenance(result),
    }
