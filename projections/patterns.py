"""The read model ``patterns``: the active patterns, for the scan, statistics and the dashboard's summary."""

from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import inf
from typing import Annotated, Any

from annotated_types import Interval

from domain.default_expiry import EXPIRES_FROM, EndOrigin
from domain.events import OWN_IDS, UNKNOWN_TIER, PatternDetected, PatternExpired, PatternUpdated
from projections.base import Count, Group, Projection, StoredRow
from projections.columns import EPOCH_SECONDS, Column
from projections.pattern_views import COMPACT, full_view

HIGH_CONFIDENCE = 0.8
"""Lowest confidence that counts as high."""

Handled = PatternDetected | PatternUpdated | PatternExpired
"""The events that the projection folds."""


@dataclass(frozen=True, slots=True)
class PatternRow:
    """One active pattern with all values of its events."""

    id: str
    """Id of the pattern: ``SYMBOL:pattern:tier:epoch millisecond of detection``."""
    symbol: Annotated[str, Column(equality=True, case="upper", sort=True)]
    """Ticker symbol."""
    pattern: Annotated[str, Column(equality=True, count="by_type")]
    """Type of the pattern, spelled as the producer announces it."""
    tier: Annotated[str, Column(equality=True, case="lower")]
    """Tier of the detector, such as ``daily``."""
    confidence: Annotated[float, Interval(ge=0, le=1), Column(range=True, sort=True, scale=(0, 1))]
    """Confidence of the detector, from 0 to 1."""
    detected_at: Annotated[float, Column(range=True, sort=True, unit=EPOCH_SECONDS)]
    """Time of the detection."""
    updated_at: Annotated[float, Column(unit=EPOCH_SECONDS)]
    """Time of the latest event about the pattern."""
    expires_at: Annotated[float | None, Column(unit=EPOCH_SECONDS)] = None
    """Time at which the pattern ceases to be valid. None: it does not expire by itself."""
    expires_from: EndOrigin | None = None
    """Origin of this time: the producer's message, or the default of the recorder."""
    current_price: Annotated[float | None, Column(unit="dollars")] = None
    """Latest price of the symbol."""
    price_change: Annotated[float | None, Column(unit="per cent")] = None
    """Change of the price in per cent."""
    relative_strength: Annotated[float | None, Column(range=True, sort=True, scale=(0, inf), unit="factor")] = None
    """Strength in relation to the market, as a factor."""
    relative_volume: Annotated[float | None, Column(range=True, sort=True, scale=(0, inf), unit="factor")] = None
    """Volume in relation to the usual volume, as a factor."""
    rsi: Annotated[float | None, Column(range=True, sort=True, scale=(0, 100))] = None
    """Relative strength index, usually from 0 to 100."""
    indicators: dict[str, Any] = field(default_factory=dict)
    """Further indicators by name, as the producer announced them."""
    source: str = ""
    """Name of the producer."""
    event_id: str = ""
    """Id of the event that last changed the row."""
    correlation_id: str | None = None
    """Correlation id of this event."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Members of the producer's messages that have no column."""


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


class ActivePatterns(Projection[PatternRow, Handled]):
    """The projection of active patterns. A pattern is active until an event expires it."""

    name = "patterns"
    version = 2
    row = PatternRow
    handles = (PatternDetected, PatternUpdated, PatternExpired)
    key = "id"
    order = "confidence"
    ends = "expires_at"
    has_replica = True
    history = "pattern_history"
    views = {"compact": COMPACT, "full": full_view(PatternRow)}
    summaries = (
        Count("all"),
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

    def expiry(self, stored: StoredRow[PatternRow]) -> PatternExpired:
        """Return the event of the expiry. Its id is derived from the row, so that the log records each expiry once."""
        row = stored.row
        assert row.expires_at is not None
        identity = f"{row.id} {row.expires_at!r} {stored.position}"
        return PatternExpired(
            event_id=f"{OWN_IDS}elapsed-" + sha256(identity.encode()).hexdigest()[:32],
            occurred_at=row.expires_at,
            source="tickview",
            correlation_id=row.correlation_id,
            symbol=row.symbol,
            pattern=row.pattern,
            detected_at=row.detected_at,
            tier=row.tier,
            reason="elapsed",
            expires_at=row.expires_at,
        )


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
        expires_from=_end_origin(event),
        current_price=event.current_price,
        price_change=event.price_change,
        relative_strength=event.relative_strength,
        relative_volume=event.relative_volume,
        rsi=event.rsi,
        indicators=event.indicators,
        source=event.source,
        event_id=event.event_id,
        correlation_id=event.correlation_id,
        extra=_unmarked(event.extra),
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
    origin = _end_origin(event)
    if origin == "default" and row.expires_from == "message":
        # A repeated detection without an end does not replace the end that its producer announced.
        del said["expires_at"]
    elif origin:
        said["expires_from"] = origin
    return replace(
        row,
        updated_at=event.occurred_at,
        indicators={**row.indicators, **event.indicators},
        source=event.source,
        event_id=event.event_id,
        extra={**row.extra, **_unmarked(event.extra)},
        **said,
    )


def _end_origin(event: PatternDetected | PatternUpdated) -> EndOrigin | None:
    if event.expires_at is None:
        return None
    return "default" if EXPIRES_FROM in event.extra else "message"


def _unmarked(extra: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in extra.items() if name != EXPIRES_FROM} if EXPIRES_FROM in extra else extra
