"""Patterns as they are shown: the compact row that the UI knows, and all raw fields."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

import orjson
from typing_extensions import TypedDict

from projections.patterns import PatternRow
from projections.queries import ResultRow
from readapi.ports.read_models import provenance

SHORT_WORDS = {
    "ascending": "Asc",
    "bearish": "Bear",
    "bottom": "Bot",
    "breakdown": "BD",
    "breakout": "BO",
    "bullish": "Bull",
    "consolidation": "Cons",
    "continuation": "Cont",
    "descending": "Desc",
    "engulfing": "Engulf",
    "momentum": "Mom",
    "rectangle": "Rect",
    "relative": "Rel",
    "resistance": "Res",
    "reversal": "Rev",
    "support": "Sup",
    "symmetrical": "Sym",
    "triangle": "Tri",
    "trendline": "Trend",
    "volume": "Vol",
}
"""Words that have a usual short form; all others stay whole."""


class CompactPattern(TypedDict):
    """A pattern in the words of the UI; null stands for what is not known."""

    id: str
    symbol: str
    pattern: str
    conf: float
    rs: str | None
    vol: str | None
    price: str | None
    chg: str | None
    source: str
    time: str
    exp: str | None


class FullPattern(CompactPattern):
    """The compact row, and everything its events said under names of its own.

    ``position`` is where the event stands that last changed it (``market-0=17``). Times are epoch seconds.
    """

    pattern_type: str
    tier: str
    confidence: float
    detected_at: float
    updated_at: float
    expires_at: float | None
    current_price: float | None
    price_change: float | None
    relative_strength: float | None
    relative_volume: float | None
    rsi: float | None
    indicators: dict[str, Any]
    producer: str
    event_id: str
    correlation_id: str | None
    extra: dict[str, Any]
    position: str


@lru_cache(maxsize=1_000)
def short_name(pattern: str) -> str:
    """``Weekly_Breakout`` as ``WeeklyBO``: words run together, the usual ones shortened, others left readable."""
    words = pattern.replace("_", " ").replace("-", " ").split()
    return "".join(SHORT_WORDS.get(word.lower(), word[:1].upper() + word[1:]) for word in words) or pattern


def span(seconds: float) -> str:
    """A stretch of time in its largest whole unit: ``42s``, ``5m``, ``3h``, ``2d``; never below ``0s``."""
    if seconds < 60:
        return f"{max(int(seconds), 0)}s"
    if seconds < 3_600:
        return f"{int(seconds / 60)}m"
    if seconds < 86_400:
        return f"{int(seconds / 3_600)}h"
    return f"{int(seconds / 86_400)}d"


def shown_at(now: float) -> float:
    """As of when the spans of an answer are told: the end of its second, so that answers of one second are the same."""
    return int(now) + 1.0


def compact(row: PatternRow, now: float) -> CompactPattern:
    """The row as the UI shows it at ``now``."""
    price, strength, volume = row.current_price, row.relative_strength, row.relative_volume
    return {
        "id": row.id,
        "symbol": row.symbol,
        "pattern": short_name(row.pattern),
        "conf": round(row.confidence, 2),
        "rs": None if strength is None else f"{strength:.1f}x",
        "vol": None if volume is None else f"{volume:.1f}x",
        "price": None if price is None else f"${price:.2f}" if price >= 0 else f"-${-price:.2f}",
        "chg": None if row.price_change is None else f"{row.price_change:+.1f}%",
        "source": row.tier,
        "time": span(now - row.detected_at),
        "exp": None if row.expires_at is None else span(row.expires_at - now),
    }


def full(found: ResultRow[PatternRow], now: float) -> FullPattern:
    """The compact row, every raw field, and where the event stands that last changed it."""
    row = found.row
    return {
        **compact(row, now),
        "pattern_type": row.pattern,
        "tier": row.tier,
        "confidence": row.confidence,
        "detected_at": row.detected_at,
        "updated_at": row.updated_at,
        "expires_at": row.expires_at,
        "current_price": row.current_price,
        "price_change": row.price_change,
        "relative_strength": row.relative_strength,
        "relative_volume": row.relative_volume,
        "rsi": row.rsi,
        "indicators": row.indicators,
        "producer": row.source,
        "event_id": row.event_id,
        "correlation_id": row.correlation_id,
        "extra": row.extra,
        "position": provenance(found),
    }


class RenderedRows(Sequence[ResultRow[PatternRow]]):
    """Rows of which most has been rendered before."""

    def compact(self, now: float) -> bytes:
        """The compact rows as a JSON array, as ``render`` makes it."""
        raise NotImplementedError


def render(rows: Sequence[ResultRow[PatternRow]], fields: Collection[str], now: float) -> bytes:
    """The rows as a JSON array: compact, or ``full`` if that is among the fields."""
    if "full" in fields:
        return orjson.dumps([full(found, now) for found in rows])
    if isinstance(rows, RenderedRows):
        return rows.compact(now)
    return orjson.dumps([compact(found.row, now) for found in rows])
