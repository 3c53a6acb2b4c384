"""``/api/backtests``: the runs with their progress and results, and one of them."""

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
    """Which runs, in which order."""

    status: ListOf[Name] | None = None
    """States: ``processing`` and others under way as announced; ``completed``, ``failed``, ``cancelled``."""
    sort_by: BacktestSort = "updated_at"
    """A time, the progress or a metric of the results; a run that has no such value is the lowest."""
    sort_order: SortOrder = "desc"
    """``desc`` is the exact reverse of ``asc``."""
    page: PageNumber = 1
    """Number of the page, from 1; only the first 10,000 runs can be paged."""
    per_page: PageSize = 30
    """Runs a page."""


class Backtest(TypedDict):
    """A run. Times are epoch seconds; ``progress`` is from 0 to 1; ``position`` is where the event stands that
    last changed it (``market-0=17``).
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


class BacktestsAnswer(TypedDict):
    """A page of runs."""

    backtests: list[Backtest]
    pagination: Pagination


class BacktestAnswer(TypedDict):
    """One run and its first 100 events; null while the archive cannot be asked."""

    backtest: Backtest
    events: list[HistoricEvent] | None


class BacktestsResource(Resource):
    """All runs."""

    def __init__(self, backtests: ReadModel[BacktestQueries]) -> None:
        self.read_model = backtests

    @operation(
        "Backtest runs with progress and results",
        scope="read",
        responses={200: BacktestsAnswer},
        query=BacktestsParameters,
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, query: BacktestsParameters, live: LiveBuild[BacktestQueries]
    ) -> None:
        """The page."""
        try:
            page = await live.queries.runs(
                frozenset(query.status or ()),
                query.sort_by,
                descending=query.sort_order == "desc",
                offset=(query.page - 1) * query.per_page,
                limit=query.per_page,
            )
        except TooDeepError:
            raise too_deep("narrow it down by status, or reverse the order") from None
        answer = BacktestsAnswer(
            backtests=[backtest_document(found) for found in page.rows],
            pagination=pagination(query.page, query.per_page, page.total),
        )
        send_with_etag(req, resp, answer)


class BacktestResource(Resource):
    """One run."""

    def __init__(self, backtests: ReadModel[BacktestQueries], history: History | None) -> None:
        self.read_model = backtests
        self._history = history

    @operation(
        "One backtest run and its events",
        scope="read",
        responses={200: BacktestAnswer},
        path={"job_id": "The run's id, as announced"},
        problems=(404,),
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, _query: Parameters, *, live: LiveBuild[BacktestQueries], job_id: str
    ) -> None:
        """The run."""
        found = await live.queries.get(job_id)
        if found is None:
            raise not_found(f"backtest {job_id!r}")
        stream = backtest_stream(job_id)
        events = await related_events(self._history, lambda history: history.of_stream(stream, MAX_RELATED_EVENTS))
        send_with_etag(req, resp, BacktestAnswer(backtest=backtest_document(found), events=events))


def backtest_document(found: ResultRow[BacktestRow]) -> Backtest:
    """The run as it is shown."""
    row = found.row
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
        "position": provenance(found),
    }
