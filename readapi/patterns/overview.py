"""``/api/patterns/stats`` and ``/api/patterns/summary``: counts of the active patterns, and their summary."""

from asyncio import gather
from collections.abc import Mapping
from itertools import islice

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from projections.patterns import PatternRow
from projections.queries import Counts, Query
from readapi.http.operation import operation
from readapi.http.parameters import Parameters
from readapi.http.responses import Performance, encode
from readapi.patterns.answer_cache import CachedPatternResource
from readapi.patterns.documents import COMPACT, CompactPattern
from readapi.ports.read_models import LiveRows
from readapi.read_models.rendering import end_of_second

SUMMARY_PATTERNS = 5
"""Number of patterns in each list of the summary."""

SUMMARY_NAMES = 10
"""Number of types and of symbols in the summary."""

TOP_SYMBOLS = 100
"""Number of symbols in the statistics."""

COUNTS = ("all", "high_confidence", "by_type", "by_tier", "by_confidence", "by_symbol")
"""The counts of the read model that the statistics show."""


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
    async def on_get(self, req: Request, resp: Response, _query: Parameters, live: LiveRows[PatternRow]) -> None:
        """Send the counts."""
        now = self._clock()
        statistics = _statistics(await live.queries.counts(COUNTS, now))
        answer = encode({"statistics": statistics, **self.read_model.staleness()})
        await self.send_and_cache(req, resp, answer, live, now)


def _statistics(counts: Mapping[str, Counts]) -> Statistics:
    return Statistics(
        total=counts["all"].total,
        high_confidence=counts["high_confidence"].total,
        symbols=counts["by_symbol"].distinct,
        by_type=dict(counts["by_type"].groups),
        by_tier=dict(counts["by_tier"].groups),
        by_confidence=dict(counts["by_confidence"].groups),
        by_symbol=_first(counts["by_symbol"].groups, TOP_SYMBOLS),
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
    async def on_get(self, req: Request, resp: Response, _query: Parameters, live: LiveRows[PatternRow]) -> None:
        """Send the counts, the patterns of highest confidence and the latest patterns."""
        now = self._clock()
        queries = live.queries
        highest = Query(now, sort_by="confidence", descending=True, limit=SUMMARY_PATTERNS)
        counts, confident, latest = await gather(
            queries.counts(COUNTS, now), queries.page(highest), queries.page(highest._replace(sort_by="detected_at"))
        )
        statistics = _statistics(counts)
        summary = Summary(
            total=statistics["total"],
            high_confidence=statistics["high_confidence"],
            symbols=statistics["symbols"],
            by_tier=statistics["by_tier"],
            top_types=_first(statistics["by_type"], SUMMARY_NAMES),
            top_symbols=_first(statistics["by_symbol"], SUMMARY_NAMES),
            most_confident=[COMPACT.render(result, end_of_second(now)) for result in confident.rows],
            latest=[COMPACT.render(result, end_of_second(now)) for result in latest.rows],
        )
        answer = encode({"summary": summary, **self.read_model.staleness()})
        await self.send_and_cache(req, resp, answer, live, now)


def _first(counts: Mapping[str, int], number: int) -> dict[str, int]:
    return dict(islice(counts.items(), number))
