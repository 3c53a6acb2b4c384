"""The queries to ``patterns``, answered from its indexes and counts in Redis."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from redis.asyncio import Redis

from domain.streams import log_of, symbol_stream
from infra.read_models.index_queries import Clause, IndexedRows, IndexQuery, Range
from infra.read_models.pattern_statistics import statistics
from projections.base import LOWEST_VALUE
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import Page, PatternQuery, PatternStatistics, ResultRow
from projections.versions import Build

SORT_INDEXES = {
    "confidence": "confidence",
    "detected_at": "detected_at",
    "symbol": None,
    "rs": "relative_strength",
    "volume": "relative_volume",
}

HIGHEST_VALUE = float("inf")

MANY_SYMBOLS = 100
"""Of more than these, as a universe has, rows are told by their ids and not by the indexes of each symbol."""


class RedisPatternQueries:
    """One build of ``patterns``; ``logs`` are all partitions of the market log."""

    source = "redis"

    def __init__(self, client: Redis, build: Build, logs: Sequence[str]) -> None:
        self._client = client
        self._partitions = len(logs)
        self._rows = IndexedRows(client, ActivePatterns(), build, logs)

    def state(self, now: float) -> None:
        """Not known without asking."""

    async def scan(self, query: PatternQuery) -> Page[PatternRow]:
        """The page of the scan. Raises TooDeepError."""
        if query.symbols is not None and not query.symbols:
            return Page([], 0, None)
        sort_by = SORT_INDEXES[query.sort_by]
        return await self._rows.page(
            IndexQuery(
                _clauses(query, sort_by),
                sort_by,
                query.descending,
                query.limit,
                query.offset,
                query.after,
                query.now,
                _by_log(many, self._partitions) if (many := _many(query.symbols)) else None,
            )
        )

    async def get(self, pattern_id: str, now: float) -> ResultRow[PatternRow] | None:
        """One active pattern."""
        parts = pattern_id.rsplit(":", 3)
        if len(parts) != 4:
            return None
        found = await self._rows.get(log_of(symbol_stream(parts[0]), self._partitions), pattern_id)
        if found is None or (found.row.expires_at is not None and found.row.expires_at <= now):
            return None
        return found

    async def statistics(self, now: float) -> PatternStatistics:
        """Counts of the patterns that are active at ``now``."""
        return await statistics(self._client, list(self._rows.keys.values()), now)


def _many(symbols: frozenset[str] | None) -> frozenset[str] | None:
    """They, if they are many."""
    return symbols if symbols is not None and len(symbols) > MANY_SYMBOLS else None


@lru_cache(maxsize=32)
def _by_log(symbols: frozenset[str], partitions: int) -> Mapping[str, Sequence[str]]:
    """The symbols by the log that has their patterns; a universe is asked for again and again."""
    by_log: dict[str, list[str]] = {}
    for symbol in symbols:
        by_log.setdefault(log_of(symbol_stream(symbol), partitions), []).append(symbol)
    return by_log


def _clauses(query: PatternQuery, sort_by: str | None) -> list[Clause]:
    """The filters but that of many symbols. Groups are scored by confidence, so that they state its bound too."""
    symbols = None if _many(query.symbols) else query.symbols
    groups = (("symbol", symbols), ("type", query.pattern_types), ("tier", query.tiers))
    clauses = [
        Clause(
            [Range(index, name, query.confidence_min, HIGHEST_VALUE) for name in names],
            sorted=sort_by == "confidence",
        )
        for index, names in groups
        if names
    ]
    bounds = [
        (index, max(lowest, LOWEST_VALUE), highest)
        for index, (lowest, highest) in (
            ("relative_strength", (query.rs_min, HIGHEST_VALUE)),
            ("relative_volume", (query.vol_min, HIGHEST_VALUE)),
            ("rsi", query.rsi_range or (None, HIGHEST_VALUE)),
        )
        if lowest is not None
    ]
    if not clauses and (query.confidence_min > 0 or not bounds):
        bounds.append(("confidence", query.confidence_min, HIGHEST_VALUE))
    return clauses + [
        Clause([Range(index, "", lowest, highest)], sorted=sort_by == index) for index, lowest, highest in bounds
    ]
