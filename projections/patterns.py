"""The read model ``patterns``: the active patterns, for the scan, statistics and the dashboard's summary."""

from dataclasses import dataclass, field, replace
from typing import Any

from domain.events import UNKNOWN_TIER, PatternDetected, PatternExpired, PatternUpdated
from projections.base import LOWEST, Count, Group, Index, Projection

HIGH_CONFIDENCE = 0.8
"""Lowest confidence that counts as high."""

Handled = PatternDetected | PatternUpdated | PatternExpired
"""The events that the projection folds."""


@dataclass(frozen=True, slots=True)
class PatternRow:
    """One active pattern with all values of its events. All times are in seconds since the epoch."""

    id: str
    symbol: str
    pattern: str
    tier: str
    confidence: float
    """Confidence of the detector, from 0 to 1."""
    detected_at: float
    updated_at: float
    """Time of the latest event about the pattern."""
    expires_at: float | None = None
    """Time at which the pattern ceases to be valid. None: it does not expire by itself."""
    current_price: float | None = None
    price_change: float | None = None
    """Change of the price in per cent."""
    relative_strength: float | None = None
    """Strength in relation to the market, as a factor."""
    relative_volume: float | None = None
    """Volume in relation to the usual volume, as a factor."""
    rsi: float | None = None
    """Relative strength index, usually from 0 to 100."""
    indicators: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    event_id: str = ""
    """Id of the event that last changed the row."""
    correlation_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def detection_of(symbol: str, pattern: str, detected_at: float) -> tuple[str, str]:
    """Return the start and the end of the pattern ids of one detection. The tier is between them."""
    return f"{symbol}:{pattern}", f"{round(detected_at * 1000)}"


def pattern_id(symbol: str, pattern: str, tier: str, detected_at: float) -> str:
    """Return the id of a pattern: ``SYMBOL:pattern:tier:epoch millisecond of detection``."""
    start, end = detection_of(symbol, pattern, detected_at)
    return f"{start}:{tier}:{end}"


def confidence_band(row: PatternRow) -> str:
    """Return the band of the row's confidence, for example ``0.8-0.9``. 1.0 is in the band ``0.9-1.0``."""
    return band_name(min(int(row.confidence * 10), 9))


def band_name(tenth: int) -> str:
    """Return the name of the confidence band that begins at ``tenth`` tenths, from 0 to 9."""
    return f"{tenth / 10:.1f}-{(tenth + 1) / 10:.1f}"


def _or_lowest(value: float | None) -> float:
    return LOWEST if value is None else value


class ActivePatterns(Projection[PatternRow, Handled]):
    """The projection of active patterns. A pattern is active until an event expires it."""

    name = "patterns"
    version = 1
    row = PatternRow
    handles = (PatternDetected, PatternUpdated, PatternExpired)
    indexes = (
        Index("confidence", score=lambda row: row.confidence),
        Index("detected_at", score=lambda row: row.detected_at),
        Index("relative_strength", score=lambda row: _or_lowest(row.relative_strength)),
        Index("relative_volume", score=lambda row: _or_lowest(row.relative_volume)),
        Index("rsi", score=lambda row: _or_lowest(row.rsi)),
        Index("expiry", score=lambda row: row.expires_at),
        Index("symbol", by=lambda row: row.symbol, score=lambda row: row.confidence),
        Index("type", by=lambda row: row.pattern, score=lambda row: row.confidence),
        Index("tier", by=lambda row: row.tier, score=lambda row: row.confidence),
    )
    summaries = (
        Count("all"),
        Count("by_type", by=lambda row: row.pattern),
        Count("by_symbol", by=lambda row: row.symbol),
        Count("by_tier", by=lambda row: row.tier),
        Count("by_confidence", by=confidence_band),
        Count("high_confidence", where=lambda row: row.confidence >= HIGH_CONFIDENCE),
    )

    def keys(self, event: Handled) -> tuple[str | Group, ...]:
        """Return the pattern id. For an event without a tier return the group of all patterns of the detection."""
        if event.tier is None:
            return (Group(":".join(detection_of(event.symbol, event.pattern, event.detected_at))),)
        return (pattern_id(event.symbol, event.pattern, event.tier, event.detected_at),)

    def group_of(self, key: str) -> str:
        """Return the detection of a pattern id: the id without the tier."""
        start, _, end = key.rsplit(":", 2)
        return f"{start}:{end}"

    def evolve(self, row: PatternRow | None, event: Handled) -> PatternRow | None:
        """Apply a detection, an update or an expiry.

        A detection creates a row, and so does an update with a confidence if the detection was lost. An expiry removes
        the row. Announcements may arrive out of order, so an event older than the last change of the row is ignored.
        """
        if isinstance(event, PatternExpired):
            return row if _was_prolonged(row, event) else None
        if row is None:
            return _begin(event)
        if event.occurred_at < row.updated_at:
            return row
        return _change(row, event)


def _was_prolonged(row: PatternRow | None, event: PatternExpired) -> bool:
    """Return whether the row has no ``expires_at``, or a later ``expires_at`` than the elapsed time of the event."""
    if row is None or event.reason == "announced" or event.expires_at is None:
        return False
    return row.expires_at is None or row.expires_at > event.expires_at


def _begin(event: PatternDetected | PatternUpdated) -> PatternRow | None:
    if event.confidence is None:
        return None
    tier = event.tier or UNKNOWN_TIER
    return PatternRow(
        id=pattern_id(event.symbol, event.pattern, tier, event.detected_at),
        symbol=event.symbol,
        pattern=event.pattern,
        tier=tier,
        confidence=event.confidence,
        detected_at=event.detected_at,
        updated_at=event.occurred_at,
        expires_at=event.expires_at,
        current_price=event.current_price,
        price_change=event.price_change,
        relative_strength=event.relative_strength,
        relative_volume=event.relative_volume,
        rsi=event.rsi,
        indicators=event.indicators,
        source=event.source,
        event_id=event.event_id,
        correlation_id=event.correlation_id,
        extra=event.extra,
    )


_CHANGEABLE = (
    "confidence",
    "expires_at",
    "current_price",
    "price_change",
    "relative_strength",
    "relative_volume",
    "rsi",
    "correlation_id",
)
"""The fields that an event changes if the event has a value for them."""


def _change(row: PatternRow, event: PatternDetected | PatternUpdated) -> PatternRow:
    said = {name: value for name in _CHANGEABLE if (value := getattr(event, name)) is not None}
    return replace(
        row,
        updated_at=event.occurred_at,
        indicators={**row.indicators, **event.indicators},
        source=event.source,
        event_id=event.event_id,
        extra={**row.extra, **event.extra},
        **said,
    )
