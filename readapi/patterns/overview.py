"""``/api/patterns/stats`` and ``/api/patterns/summary``: counts of the active patterns, and their summary."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from itertools import islice

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from projections.patterns import PatternRow
from projections.queries import Counts, Equality, Query, ResultRow, RowQueries, most_frequent
from readapi.catalogue.filters import Catalogue
from readapi.http.operation import operation
from readapi.http.parameters import Parameters
from readapi.http.read_model import ReadModel
from readapi.http.responses import Performance, encode
from readapi.patterns.answer_cache import CachedPatternResource
from readapi.patterns.documents import COMPACT, CompactPattern
from readapi.ports.errors import UnavailableError
from readapi.ports.read_models import LiveRows
from readapi.read_models.rendering import end_of_second

SUMMARY_PATTERNS = 5
"""Number of patterns in each list of the summary."""

SUMMARY_NAMES = 10
"""Number of types and of symbols in the summary."""

TOP_SYMBOLS = 100
"""Number of symbols in the statistics."""

MAX_SECTORS = 100
"""Highest number of sectors in the statistics. Those with the most listed symbols are counted."""

COUNTS = ("all", "high_confidence", "by_type", "by_tier", "by_confidence", "by_symbol")
"""The counts of the read model that the statistics show."""


class PatternCounts(TypedDict):
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


class Statistics(PatternCounts):
    """Counts of the active patterns, also by the sector of their symbol in the catalogue."""

    by_sector: dict[str, int] | None


class PatternStatisticsAnswer(TypedDict):
    """Statistics of the active patterns.

    ``by_symbol`` has the 100 most frequent symbols. ``symbols`` is the number of all symbols that have a pattern.
    ``by_sector`` counts the patterns of the listed symbols of each sector, of at most 100 sectors. It is null while the
    API process loads the catalogue or the patterns, and if it answers from Redis.
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
    """Statistics of the active patterns.

    Args:
        patterns: The read model of the active patterns.
        catalogue: The sectors and their symbols.
        clock: Returns the time in epoch seconds.
    """

    def __init__(
        self, patterns: ReadModel[RowQueries[PatternRow]], catalogue: Catalogue, clock: Callable[[], float]
    ) -> None:
        super().__init__(patterns, clock)
        self._catalogue = catalogue

    def _state(self, live: LiveRows[PatternRow], now: float) -> tuple[Hashable, ...] | None:
        state = super()._state(live, now)
        return None if state is None else (*state, self._catalogue.state)

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
        counts = _pattern_counts(await live.queries.counts(COUNTS, now))
        statistics: Statistics = {**counts, "by_sector": await self._by_sector(live.queries, now)}
        answer = encode({"statistics": statistics, **self.read_model.staleness()})
        await self.send_and_cache(req, resp, answer, live, now)

    async def _by_sector(self, queries: RowQueries[PatternRow], now: float) -> dict[str, int] | None:
        """Count the patterns by sector. None if this process does not have all patterns and symbols in memory."""
        # Redis would walk all patterns for each sector.
        if queries.source != "replica":
            return None
        with suppress(UnavailableError):
            index = self._catalogue.symbol_index(self._catalogue.symbols.live)
            counts = {}
            for sector in islice(index.statistics.by_sector, MAX_SECTORS):
                of_sector = Query(now, (Equality("symbol", index.sectors[sector]),), sort_by="confidence", limit=1)
                counts[sector] = (await queries.page(of_sector)).total
            return most_frequent(counts)
        return None


def _pattern_counts(counts: Mapping[str, Counts]) -> PatternCounts:
    return PatternCounts(
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
        # Rows of the replica must be rendered before the next wait. Changes of the rows can come in between.
        most_confident = _render((await queries.page(highest)).rows, now)
        latest = _render((await queries.page(highest._replace(sort_by="detected_at"))).rows, now)
        statistics = _pattern_counts(await queries.counts(COUNTS, now))
        summary = Summary(
            total=statistics["total"],
            high_confidence=statistics["high_confidence"],
            symbols=statistics["symbols"],
            by_tier=statistics["by_tier"],
            top_types=_first(statistics["by_type"], SUMMARY_NAMES),
            top_symbols=_first(statistics["by_symbol"], SUMMARY_NAMES),
            most_confident=most_confident,
            latest=latest,
        )
        answer = encode({"summary": summary, **self.read_model.staleness()})
        await self.send_and_cache(req, resp, answer, live, now)


def _render(rows: Iterable[ResultRow[PatternRow]], now: float) -> list[CompactPattern]:
    return [COMPACT.render(result, end_of_second(now)) for result in rows]


def _first(counts: Mapping[str, int], number: int) -> dict[str, int]:
    return dict(islice(counts.items(), number))
