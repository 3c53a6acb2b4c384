"""``/api/patterns/stats`` and ``/api/patterns/summary``: counts of the active patterns, and their summary."""

from asyncio import gather
from collections.abc import Mapping
from itertools import islice

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from projections.queries import PatternQueries, PatternQuery, PatternStatistics
from readapi.http.operation import operation
from readapi.http.parameters import Parameters
from readapi.http.responses import Performance, encode
from readapi.patterns.answer_cache import CachedPatternResource
from readapi.patterns.rendering import CompactPattern, compact, end_of_second
from readapi.ports.read_models import LiveBuild

SUMMARY_PATTERNS = 5
"""Number of patterns in each list of the summary."""

SUMMARY_NAMES = 10
"""Number of types and of symbols in the summary."""


class Statistics(TypedDict):
    """Counts of the active patterns.

    Each object maps a name to its number of patterns, the most frequent name first.
    """

    total: int
    high_confidence: int
    symbols: int
    by_type: dict[str, int]
    by_tier: dict[str, int]
    by_confidence: dict[str, int]
    by_symbol: dict[str, int]


class PatternStatisticsAnswer(TypedDict):
    """Statistics of the active patterns.

    ``by_symbol`` has the 100 most frequent symbols. ``symbols`` is the number of all symbols that have a pattern.
    """

    statistics: Statistics
    stale: bool
    age_seconds: int | None
    performance: Performance


class Summary(TypedDict):
    """A summary of the active patterns: counts, the 10 most frequent types and symbols, and 5 patterns of each list."""

    total: int
    high_confidence: int
    symbols: int
    by_tier: dict[str, int]
    top_types: dict[str, int]
    top_symbols: dict[str, int]
    most_confident: list[CompactPattern]
    latest: list[CompactPattern]


class PatternSummaryAnswer(TypedDict):
    """The summary for a dashboard."""

    summary: Summary
    stale: bool
    age_seconds: int | None
    performance: Performance


class StatisticsResource(CachedPatternResource):
    """Statistics of the active patterns."""

    @operation(
        "Count the active patterns.",
        scope="read",
        responses={200: PatternStatisticsAnswer},
        reads=True,
        uses_cache=True,
    )
    async def on_get(self, req: Request, resp: Response, _query: Parameters, live: LiveBuild[PatternQueries]) -> None:
        """Send the counts."""
        now = self._clock()
        statistics = await live.queries.statistics(now)
        answer = encode({"statistics": _statistics(statistics), **self.read_model.staleness()})
        await self.send_and_cache(req, resp, answer, live, now)


def _statistics(statistics: PatternStatistics) -> Statistics:
    return Statistics(
        total=statistics.total,
        high_confidence=statistics.high_confidence,
        symbols=statistics.symbols,
        by_type=dict(statistics.by_type),
        by_tier=dict(statistics.by_tier),
        by_confidence=dict(statistics.by_confidence),
        by_symbol=dict(statistics.by_symbol),
    )


class SummaryResource(CachedPatternResource):
    """The summary of the active patterns."""

    @operation(
        "Summarize the active patterns.",
        scope="read",
        responses={200: PatternSummaryAnswer},
        reads=True,
        uses_cache=True,
    )
    async def on_get(self, req: Request, resp: Response, _query: Parameters, live: LiveBuild[PatternQueries]) -> None:
        """Send the counts, the patterns of highest confidence and the latest patterns."""
        now = self._clock()
        queries = live.queries
        statistics, confident, latest = await gather(
            queries.statistics(now),
            queries.scan(PatternQuery(now, sort_by="confidence", limit=SUMMARY_PATTERNS)),
            queries.scan(PatternQuery(now, sort_by="detected_at", limit=SUMMARY_PATTERNS)),
        )
        summary = Summary(
            total=statistics.total,
            high_confidence=statistics.high_confidence,
            symbols=statistics.symbols,
            by_tier=dict(statistics.by_tier),
            top_types=_first(statistics.by_type),
            top_symbols=_first(statistics.by_symbol),
            most_confident=[compact(result.row, end_of_second(now)) for result in confident.rows],
            latest=[compact(result.row, end_of_second(now)) for result in latest.rows],
        )
        answer = encode({"summary": summary, **self.read_model.staleness()})
        await self.send_and_cache(req, resp, answer, live, now)


def _first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(islice(counts.items(), SUMMARY_NAMES))
