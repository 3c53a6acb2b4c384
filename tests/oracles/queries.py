"""The expected results of queries: every row is examined, all matches are sorted, and then the page is cut."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any, NamedTuple

from projections.activity import ActivityRow
from projections.backtests import BacktestRow
from projections.patterns import PatternRow
from projections.queries import PatternQuery


class QueryResult(NamedTuple):
    """The ids of a page in order, the total, and the (sort value, id) of the last row if more rows follow."""

    ids: list[str]
    total: int
    end: tuple[Any, str] | None


def is_active(row: PatternRow, now: float) -> bool:
    """Return whether the pattern has not elapsed."""
    return row.expires_at is None or row.expires_at > now


def matches(row: PatternRow, query: PatternQuery) -> bool:
    """Return whether the row passes every filter."""
    if not is_active(row, query.now):
        return False
    if query.symbols is not None and row.symbol not in query.symbols:
        return False
    if query.pattern_types and row.pattern not in query.pattern_types:
        return False
    if query.tiers and row.tier not in query.tiers:
        return False
    if row.confidence < query.confidence_min:
        return False
    if query.rs_min is not None and (row.relative_strength is None or row.relative_strength < query.rs_min):
        return False
    if query.vol_min is not None and (row.relative_volume is None or row.relative_volume < query.vol_min):
        return False
    if query.rsi_range is not None:
        lowest, highest = query.rsi_range
        return row.rsi is not None and lowest <= row.rsi <= highest
    return True


def sort_value(row: PatternRow, sort_by: str) -> float | str:
    """The value by which the row is ordered. A missing value is below all others."""
    field = {"rs": "relative_strength", "volume": "relative_volume"}.get(sort_by, sort_by)
    value = getattr(row, field)
    return -inf if value is None else value


def scan(rows: Iterable[PatternRow], query: PatternQuery) -> QueryResult:
    """Run a scan."""
    order = sorted(
        ((sort_value(row, query.sort_by), row.id) for row in rows if matches(row, query)), reverse=query.descending
    )
    total = len(order)
    if query.after is not None:
        edge = tuple(query.after)
        order = [item for item in order if (item < edge if query.descending else item > edge)]
    return _page(order, total, query.offset, query.limit)


def _page(order: list[tuple[Any, str]], total: int, offset: int, limit: int) -> QueryResult:
    page = order[offset : offset + limit]
    has_more = len(order) > offset + limit
    return QueryResult([key for _, key in page], total, page[-1] if page and has_more else None)


def statistics(rows: Iterable[PatternRow], now: float) -> dict[str, Any]:
    """Compute the statistics. Mappings are lists of items in order."""
    active = [row for row in rows if is_active(row, now)]
    by_symbol = _ordered(Counter(row.symbol for row in active))
    return {
        "total": len(active),
        "high_confidence": len([row for row in active if row.confidence >= 0.8]),
        "by_type": _ordered(Counter(row.pattern for row in active)),
        "by_tier": _ordered(Counter(row.tier for row in active)),
        "by_confidence": _ordered(Counter(band(row.confidence) for row in active)),
        "by_symbol": by_symbol[:100],
        "symbols": len(by_symbol),
    }


def band(confidence: float) -> str:
    """The confidence band, a tenth wide, that contains a confidence."""
    for tenth in range(10):
        if confidence < (tenth + 1) / 10 or tenth == 9:
            return f"0.{tenth}-" + ("1.0" if tenth == 9 else f"0.{tenth + 1}")
    raise AssertionError


def _ordered(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (item[1], item[0]), reverse=True)


def backtests(
    rows: Iterable[BacktestRow], statuses: frozenset[str], sort_by: str, descending: bool, offset: int, limit: int
) -> QueryResult:
    """Run a query for backtest runs."""
    order = []
    for row in rows:
        if not statuses or row.status in statuses:
            value = getattr(row, sort_by) if hasattr(row, sort_by) else row.results.get(sort_by, -inf)
            order.append((value, row.job_id))
    return _page(sorted(order, reverse=descending), len(order), offset, limit)


def activity(rows: Iterable[ActivityRow], day: str) -> list[tuple[str, str, str, int, float, float]]:
    """The activity by day, type and source, beginning with a day."""
    groups: dict[tuple[str, str, str], list[ActivityRow]] = defaultdict(list)
    for row in rows:
        if row.day >= day:
            groups[row.day, row.event_type, row.source].append(row)
    return [
        (
            *key,
            sum(row.events for row in group),
            min(row.first_at for row in group),
            max(row.latest_at for row in group),
        )
        for key, group in sorted(groups.items())
    ]
