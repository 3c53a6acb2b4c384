"""``/api/patterns/stats``, ``/summary`` and ``/health``: the active patterns counted, at a glance, and their state."""

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
from readapi.patterns.rendering import CompactPattern, compact, shown_at
from readapi.ports.read_models import LiveBuild

SHOWN = 5
"""Patterns of each kind in the summary."""

TOP = 10
"""Names of each kind in the summary."""


class Statistics(TypedDict):
    """Counts of the active patterns; each object is from name to how many, the most frequent first."""

    total: int
    high_confidence: int
    symbols: int
    by_type: dict[str, int]
    by_tier: dict[str, int]
    by_confidence: dict[str, int]
    by_symbol: dict[str, int]


class PatternStatisticsAnswer(TypedDict):
    """``by_symbol`` has the 100 most frequent only; ``symbols`` is how many there are."""

    statistics: Statistics
    stale: bool
    age_seconds: int | None
    performance: Performance


class Summary(TypedDict):
    """The active patterns at a glance."""

    total: int
    high_confidence: int
    symbols: int
    by_tier: dict[str, int]
    top_types: dict[str, int]
    top_symbols: dict[str, int]
    most_confident: list[CompactPattern]
    latest: list[CompactPattern]


class PatternSummaryAnswer(TypedDict):
    """What a dashboard shows first."""

    summary: Summary
    stale: bool
    age_seconds: int | None
    performance: Performance


class StatisticsResource(CachedPatternResource):
    """Statistics of the active patterns."""

    @operation(
        "Counts of the active patterns",
        scope="read",
        responses={200: PatternStatisticsAnswer},
        reads=True,
        uses_cache=True,
    )
    async def on_get(self, req: Request, resp: Response, _query: Parameters, live: LiveBuild[PatternQueries]) -> None:
        """The counts."""
        now = self._clock()
        counted = await live.queries.statistics(now)
        answer = encode({"statistics": _statistics(counted), **self.read_model.staleness()})
        await self.send_remembered(req, resp, answer, live, now)


def _statistics(counted: PatternStatistics) -> Statistics:
    return Statistics(
        total=counted.total,
        high_confidence=counted.high_confidence,
        symbols=counted.symbols,
        by_type=dict(counted.by_type),
        by_tier=dict(counted.by_tier),
        by_confidence=dict(counted.by_confidence),
        by_symbol=dict(counted.by_symbol),
    )


class SummaryResource(CachedPatternResource):
    """The dashboard's summary."""

    @operation(
        "The active patterns at a glance",
        scope="read",
        responses={200: PatternSummaryAnswer},
        reads=True,
        uses_cache=True,
    )
    async def on_get(self, req: Request, resp: Response, _query: Parameters, live: LiveBuild[PatternQueries]) -> None:
        """Counts, the most confident and the latest."""
        now = self._clock()
        queries = live.queries
        counted, confident, latest = await gather(
            queries.statistics(now),
            queries.scan(PatternQuery(now, sort_by="confidence", limit=SHOWN)),
            queries.scan(PatternQuery(now, sort_by="detected_at", limit=SHOWN)),
        )
        summary = Summary(
            total=counted.total,
            high_confidence=counted.high_confidence,
            symbols=counted.symbols,
            by_tier=dict(counted.by_tier),
            top_types=_first(counted.by_type),
            top_symbols=_first(counted.by_symbol),
            most_confident=[compact(found.row, shown_at(now)) for found in confident.rows],
            latest=[compact(found.row, shown_at(now)) for found in latest.rows],
        )
        answer = encode({"summary": summary, **self.read_model.staleness()})
        await self.send_remembered(req, resp, answer, live, now)


def _first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(islice(counts.items(), TOP))
