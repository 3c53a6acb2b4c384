"""Documents of patterns: the compact document for the UI, and the full document with all raw fields."""

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
"""Word in lower case -> short form in names of patterns. Other words are not shortened."""


class CompactPattern(TypedDict):
    """A pattern in the form that the UI shows. A value that the producer did not announce is null.

    ``pattern``: short name of the type. ``conf``: confidence, 2 decimals. ``rs`` and ``vol``: relative strength and
    volume (``1.4x``). ``price``: price (``$150.25``). ``chg``: price change in percent (``+2.3%``). ``source``: tier.
    ``time``: time since the detection (``5m``). ``exp``: time until the expiry (``55m``).
    """

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
    """A pattern with the compact fields and all raw fields.

    ``position`` is the log and position of the event that last changed the pattern (``market-0=17``). Times are epoch
    seconds. ``price_change`` is in percent. ``extra`` has the members of the producer's message that have no field.
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
    """Shorten the name of a pattern type: ``Weekly_Breakout`` becomes ``WeeklyBO``. Words are joined without spaces."""
    words = pattern.replace("_", " ").replace("-", " ").split()
    return "".join(SHORT_WORDS.get(word.lower(), word[:1].upper() + word[1:]) for word in words) or pattern


def span(seconds: float) -> str:
    """Format a time span in its largest whole unit: ``42s``, ``5m``, ``3h``, ``2d``. A negative span is ``0s``."""
    if seconds < 60:
        return f"{max(int(seconds), 0)}s"
    if seconds < 3_600:
        return f"{int(seconds / 60)}m"
    if seconds < 86_400:
        return f"{int(seconds / 3_600)}h"
    return f"{int(seconds / 86_400)}d"


def end_of_second(now: float) -> float:
    """Return the end of the second of ``now``. Time spans refer to it, so that answers within one second are equal."""
    return int(now) + 1.0


def compact(row: PatternRow, now: float) -> CompactPattern:
    """Return the compact document of a row at ``now`` (epoch seconds)."""
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


def full(result: ResultRow[PatternRow], now: float) -> FullPattern:
    """Return the full document of a row at ``now`` (epoch seconds)."""
    row = result.row
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
        "position": provenance(result),
    }


class RenderedRows(Sequence[ResultRow[PatternRow]]):
    """Rows whose compact documents are mostly encoded in advance."""

    def compact(self, now: float) -> bytes:
        """Encode the compact documents at ``now`` as a JSON array, with the same result as ``render``."""
        raise NotImplementedError


def render(rows: Sequence[ResultRow[PatternRow]], fields: Collection[str], now: float) -> bytes:
    """Encode rows as a JSON array.

    Args:
        rows: The rows.
        fields: The full documents if ``full`` is among them, otherwise the compact documents.
        now: Moment to which time spans refer, in epoch seconds.
    """
    if "full" in fields:
        return orjson.dumps([full(result, now) for result in rows])
    if isinstance(rows, RenderedRows):
        return rows.compact(now)
    return orjson.dumps([compact(result.row, now) for result in rows])
