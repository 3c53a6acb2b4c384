"""``patterns``: the active patterns. Answers the scan, one pattern, statistics and the dashboard's summary."""

from dataclasses import dataclass, field, replace
from typing import Any

from domain.events import UNKNOWN_TIER, PatternDetected, PatternExpired, PatternUpdated
from projections.base import LOWEST, Count, Group, Index, Projection

HIGH_CONFIDENCE = 0.8

Handled = PatternDetected | PatternUpdated | PatternExpired


@dataclass(frozen=True, slots=True)
class PatternRow:
    """One active pattern, with everything its events said. Times in seconds since the epoch."""

    id: str
    symbol: str
    pattern: str
    tier: str
    confidence: float
    detected_at: float
    updated_at: float
    """When the producer last said something of it."""
    expires_at: float | None = None
    current_price: float | None = None
    price_change: float | None = None
    """Per cent."""
    relative_strength: float | None = None
    relative_volume: float | None = None
    rsi: float | None = None
    indicators: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    event_id: str = ""
    """The event that last changed it."""
    correlation_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def detection_of(symbol: str, pattern: str, detected_at: float) -> tuple[str, str]:
    """The start and the end of the ids of one detection, between which the tier stands."""
    return f"{symbol}:{pattern}", f"{round(detected_at * 1000)}"


def pattern_id(symbol: str, pattern: str, tier: str, detected_at: float) -> str:
    """``SYMBOL:pattern:tier:epoch millisecond of detection``."""
    start, end = detection_of(symbol, pattern, detected_at)
    return f"{start}:{tier}:{end}"


def confidence_band(row: PatternRow) -> str:
    """The tenth its confidence lies in, ``0.8-0.9``; 1.0 counts to the last."""
    return band_name(min(int(row.confidence * 10), 9))


def band_name(tenth: int) -> str:
    """The name of the band that begins at so many tenths."""
    return f"{tenth / 10:.1f}-{(tenth + 1) / 10:.1f}"


def _or_lowest(value: float | None) -> float:
    return LOWEST if value is None else value


class ActivePatterns(Projection[PatternRow, Handled]):
    """Active patterns, each until its producer or its ``expires_at`` ends it."""

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
        """The pattern of the tier it names; all patterns of the detection if it names none."""
        if event.tier is None:
            return (Group(":".join(detection_of(event.symbol, event.pattern, event.detected_at))),)
        return (pattern_id(event.symbol, event.pattern, event.tier, event.detected_at),)

    def group_of(self, key: str) -> str:
        """The detection, whatever the tier."""
        start, _, end = key.rsplit(":", 2)
        return f"{start}:{end}"

    def evolve(self, row: PatternRow | None, event: Handled) -> PatternRow | None:
        """A detection begins a row, an update changes it or begins one that was missed, an expiry ends it.

        What happened before the row's last change is ignored: announcements may arrive in another order.
        """
        if isinstance(event, PatternExpired):
            return row if _was_prolonged(row, event) else None
        if row is None:
            return _begin(event)
        if event.occurred_at < row.updated_at:
            return row
        return _change(row, event)


def _was_prolonged(row: PatternRow | None, event: PatternExpired) -> bool:
    """Whether an elapsed ``expires_at`` has been replaced by a later one since."""
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
