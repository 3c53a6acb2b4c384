"""``/api/dashboard/stats``: numbers of events by day, minute, type and producer, and numbers of symbols."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from domain.events import PatternDetected
from projections.activity import ActivityRow, day_of, minute_of
from projections.queries import ALWAYS, Query, RowQueries
from readapi.catalogue.filters import Catalogue
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Days, Parameters
from readapi.http.read_model import ReadModel
from readapi.http.responses import send_with_etag
from readapi.ports.errors import UnavailableError
from readapi.ports.read_models import LiveRows
from readapi.read_models.all_rows import all_rows

MAX_SOURCES = 100
"""Highest number of producers in the statistics."""

MINUTES = 30
"""Number of minutes in the statistics. ``activity`` keeps more, so that times from the future displace none of them."""


class DashboardParameters(Parameters):
    """The period of the statistics."""

    days: Days = 7
    """Number of days (UTC) in the statistics, including today."""


class DayStatistics(TypedDict):
    """Number of events on one day (UTC), such as ``2026-11-23``."""

    day: str
    events: int


class MinuteStatistics(TypedDict):
    """Number of patterns detected in one minute. ``minute`` is its begin in epoch seconds."""

    minute: int
    detections: int


class TodayStatistics(TypedDict):
    """Numbers of events today (UTC)."""

    events: int
    patterns_detected: int
    patterns_expired: int
    backtests_completed: int
    backtests_failed: int


class EventStatistics(TypedDict):
    """Numbers of events in the requested period. An event belongs to the day on which it occurred.

    ``by_minute`` has the last 30 minutes, up to the present one. It counts all detections, also of patterns that have
    ended since. ``by_source`` has the 100 producers with the most events, and ``sources`` is the number of all
    producers. ``latest`` is the time of the last event of each type, in epoch seconds.
    """

    total: int
    today: TodayStatistics
    by_day: list[DayStatistics]
    by_minute: list[MinuteStatistics]
    by_type: dict[str, int]
    by_source: dict[str, int]
    sources: int
    latest: dict[str, float]


class SymbolCounts(TypedDict):
    """Numbers of symbols in the catalogue: all, active, and the active symbols by market and by sector."""

    total: int
    active: int
    by_market: dict[str, int]
    by_sector: dict[str, int]


class DashboardDocument(TypedDict):
    """The statistics of the dashboard. ``symbols`` is null while the API process loads the catalogue."""

    statistics: EventStatistics
    symbols: SymbolCounts | None


class DashboardResource(Resource):
    """The statistics of the dashboard."""

    def __init__(
        self,
        activity: ReadModel[RowQueries[ActivityRow]],
        catalogue: Catalogue,
        clock: Callable[[], float],
    ) -> None:
        self.read_model = activity
        self._catalogue = catalogue
        self._clock = clock

    @operation(
        "Show statistics of events and symbols.",
        scope="read",
        responses={200: DashboardDocument},
        query=DashboardParameters,
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, query: DashboardParameters, live: LiveRows[ActivityRow]
    ) -> None:
        """Send the statistics of the requested days."""
        now = self._clock()
        today = datetime.fromtimestamp(now, UTC)
        days = [day_of((today - timedelta(days=back)).timestamp()) for back in range(query.days)]
        minutes = _minutes_until(now)
        rows = await _rows_between(live.queries, min(days[-1], day_of(minutes[0])), days[0])
        statistics = _statistics([row for row in rows if row.day >= days[-1]], days, _by_minute(rows, minutes))
        send_with_etag(req, resp, DashboardDocument(statistics=statistics, symbols=self._symbol_counts()))

    def _symbol_counts(self) -> SymbolCounts | None:
        with suppress(UnavailableError):
            total, active, by_market, by_sector = self._catalogue.symbol_index(self._catalogue.symbols.live).statistics
            return SymbolCounts(total=total, active=active, by_market=dict(by_market), by_sector=dict(by_sector))
        return None


async def _rows_between(queries: RowQueries[ActivityRow], first: str, last: str) -> Sequence[ActivityRow]:
    """Return the rows of a period. An event of a later day, which is still to come, does not count."""
    rows: list[ActivityRow] = []
    async for result in all_rows(queries, Query(ALWAYS, sort_by="day", descending=True)):
        if result.row.day < first:
            break
        if result.row.day <= last:
            rows.append(result.row)
    return rows


def _minutes_until(now: float) -> Sequence[int]:
    """Return the begins of the last minutes up to the present one, in epoch seconds."""
    present = int(now // 60) * 60
    return range(present - 60 * (MINUTES - 1), present + 60, 60)


def _by_minute(rows: Iterable[ActivityRow], minutes: Iterable[int]) -> list[MinuteStatistics]:
    detections = Counter[tuple[str, str]]()
    for row in rows:
        if row.event_type == PatternDetected.__name__:
            detections.update({(row.day, minute): number for minute, number in row.minutes.items()})
    return [{"minute": each, "detections": detections[day_of(each), minute_of(each)]} for each in minutes]


def _statistics(rows: Iterable[ActivityRow], days: Sequence[str], by_minute: list[MinuteStatistics]) -> EventStatistics:
    by_day, by_type, by_source, today = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    latest: dict[str, float] = {}
    for row in rows:
        by_day[row.day] += row.events
        by_type[row.event_type] += row.events
        by_source[row.source] += row.events
        latest[row.event_type] = max(row.latest_at, latest.get(row.event_type, 0.0))
        if row.day == days[0]:
            today[row.event_type] += row.events
    return {
        "total": by_day.total(),
        "today": {
            "events": today.total(),
            "patterns_detected": today["PatternDetected"],
            "patterns_expired": today["PatternExpired"],
            "backtests_completed": today["BacktestCompleted"],
            "backtests_failed": today["BacktestFailed"],
        },
        "by_day": [{"day": day, "events": by_day[day]} for day in sorted(days)],
        "by_minute": by_minute,
        "by_type": dict(by_type.most_common()),
        "by_source": dict(by_source.most_common(MAX_SOURCES)),
        "sources": len(by_source),
        "latest": latest,
    }
