"""The body of each event type: which fields of a message make which event."""

from collections.abc import Callable
from typing import Any

from domain.events import (
    UNKNOWN_TIER,
    BacktestCompleted,
    BacktestFailed,
    BacktestProgressed,
    Event,
    HealthReported,
    PatternDetected,
    PatternExpired,
    PatternUpdated,
)
from domain.wire.message import MessageLevels
from domain.wire.refusal import RefusedError, preview
from domain.wire.values import (
    count,
    fraction,
    job_id,
    mapping,
    message_text,
    moment,
    number,
    optional,
    pattern_name,
    reference,
    required,
    symbol,
    text,
    tier,
)

UNKNOWN_SOURCE = "unknown"
"""The source of a message whose producer does not name itself."""

_COMPLETED = {"completed", "complete", "success", "succeeded"}
_FAILED = {"failed", "failure", "error"}
_CANCELLED = {"cancelled", "canceled"}

_INDICATORS = {
    "relative_strength": ("relative_strength", "rs"),
    "relative_volume": ("relative_volume", "rel_volume", "volume_ratio"),
    "rsi": ("rsi",),
}
"""The indicators that have a field of their own, and what they are called on the wire."""


def pattern_detected(message: MessageLevels, event_id: str, received_at: float) -> Event:
    """A detection; it happened when the envelope says, else when the pattern was detected."""
    fields = _pattern(message)
    fields["confidence"] = fraction(required(message.take("confidence")))
    announced_at, detected_at = _pattern_times(message)
    if detected_at is None:
        detected_at = received_at if announced_at is None else announced_at
    fields["detected_at"] = detected_at
    fields["occurred_at"] = detected_at if announced_at is None else announced_at
    fields["tier"] = fields["tier"] or UNKNOWN_TIER
    _take_measures(message, fields)
    return PatternDetected(event_id=event_id, **fields, extra=message.rest())


def pattern_updated(message: MessageLevels, event_id: str, received_at: float) -> Event:
    """An update of the detection that its body names, at the time the envelope says, else when it came."""
    fields = _pattern(message) | _times_of_change(message, received_at)
    fields["confidence"] = optional(fraction, message.take("confidence"))
    _take_measures(message, fields)
    return PatternUpdated(event_id=event_id, **fields, extra=message.rest())


def pattern_expired(message: MessageLevels, event_id: str, received_at: float) -> Event:
    """An announced expiry. What the body repeats of the detection is kept as extra, ``expires_at`` too."""
    fields = _pattern(message) | _times_of_change(message, received_at)
    return PatternExpired(event_id=event_id, **fields, extra=message.rest())


def backtest_progress(message: MessageLevels, event_id: str, received_at: float) -> Event:
    """How far a run has come, as a fraction."""
    return BacktestProgressed(
        event_id=event_id,
        **_backtest(message, received_at),
        progress=fraction(required(message.take("progress"))),
        status=optional(text, message.take("status")) or "processing",
        current_symbol=optional(text, message.take("current_symbol")),
        processed_symbols=optional(count, message.take("processed_symbols")),
        estimated_completion=optional(moment, message.take("estimated_completion")),
        extra=message.rest(),
    )


def backtest_result(message: MessageLevels, event_id: str, received_at: float) -> Event:
    """The end of a run: its status says how it ended; without one, results mean that it completed."""
    fields = _backtest(message, received_at)
    results = optional(mapping, message.take("results")) or {}
    status_field = message.take("status")
    status = optional(text, status_field)
    if status is None and not results:
        raise RefusedError("missing-field", "status is missing, and there are no results to tell it from")
    fields["processing_time_seconds"] = optional(number, message.take("processing_time_seconds"))
    ending = "completed" if status is None else status.lower()
    if ending in _COMPLETED:
        return BacktestCompleted(event_id=event_id, **fields, results=results, extra=message.rest())
    if ending not in _FAILED | _CANCELLED:
        raise RefusedError(
            "unknown-status", f"status is {preview(status_field[1])}: expected completed, failed or cancelled"
        )
    return BacktestFailed(
        event_id=event_id,
        **fields,
        status="cancelled" if ending in _CANCELLED else "failed",
        error_message=optional(message_text, message.take("error_message", "error")),
        results=results,
        extra=message.rest(),
    )


def system_health(message: MessageLevels, event_id: str, received_at: float) -> Event:
    """A producer's report about itself."""
    return HealthReported(
        event_id=event_id,
        **_announced(message, received_at),
        status=text(required(message.take("status"))),
        metrics=optional(mapping, message.take("metrics")) or {},
        extra=message.rest(),
    )


BODIES: dict[str, Callable[[MessageLevels, str, float], Event]] = {
    "pattern_detected": pattern_detected,
    "pattern_updated": pattern_updated,
    "pattern_expired": pattern_expired,
    "backtest_progress": backtest_progress,
    "backtest_result": backtest_result,
    "system_health": system_health,
}
"""What makes the event, by event type. Each raises RefusedError."""


def _pattern(message: MessageLevels) -> dict[str, Any]:
    """What all pattern events have. A body's ``source`` is its tier, an envelope's is the producer."""
    fields: dict[str, Any] = {
        "symbol": symbol(required(message.take("symbol"))),
        "pattern": pattern_name(required(message.take("pattern", "pattern_name", "pattern_type"))),
        "source": optional(text, message.take_outer("source")) or UNKNOWN_SOURCE,
        "correlation_id": _correlation(message),
    }
    named = message.take("tier")
    if named[1] is None and message.nested:
        named = message.take_inner("source")
    if named[1] is None:
        named = message.take("timeframe")
    fields["tier"] = optional(tier, named)
    return fields


def _pattern_times(message: MessageLevels) -> tuple[float | None, float | None]:
    """When the message was announced and when the pattern was detected, as far as it says."""
    return (
        optional(moment, message.take_outer("timestamp")),
        optional(moment, message.take("detected_at", "detection_timestamp", "timestamp")),
    )


def _times_of_change(message: MessageLevels, received_at: float) -> dict[str, float]:
    """When an update or expiry happened, and when what it speaks of was detected."""
    announced_at, detected_at = _pattern_times(message)
    occurred_at = received_at if announced_at is None else announced_at
    return {"occurred_at": occurred_at, "detected_at": occurred_at if detected_at is None else detected_at}


def _take_measures(message: MessageLevels, fields: dict[str, Any]) -> None:
    """Prices, expiry and indicators."""
    fields["expires_at"] = optional(moment, message.take("expires_at"))
    fields["current_price"] = optional(number, message.take("current_price"))
    fields["price_change"] = optional(number, message.take("price_change"))
    indicators = optional(mapping, message.take("indicators")) or {}
    measures = MessageLevels([*message.levels, indicators])
    for field, names in _INDICATORS.items():
        fields[field] = optional(number, measures.take(*names))
    fields["indicators"] = indicators


def _backtest(message: MessageLevels, received_at: float) -> dict[str, Any]:
    """What all backtest events have."""
    return {"job_id": job_id(required(message.take("job_id"))), **_announced(message, received_at)}


def _announced(message: MessageLevels, received_at: float) -> dict[str, Any]:
    """Who announced it and when, for events that are about the producer's own work."""
    source = message.take_outer("source")
    if source[1] is None:
        source = message.take("source")
    announced_at = message.take_outer("timestamp")
    if announced_at[1] is None:
        announced_at = message.take("timestamp")
    occurred_at = optional(moment, announced_at)
    return {
        "source": optional(text, source) or UNKNOWN_SOURCE,
        "occurred_at": received_at if occurred_at is None else occurred_at,
        "correlation_id": _correlation(message),
    }


def _correlation(message: MessageLevels) -> str | None:
    return optional(reference, message.take("correlation_id", "flow_id"))
