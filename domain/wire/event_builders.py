"""Builders of events: one function for each event type of the wire format reads the fields of a message.

They take a message, the event id and the time of receipt in seconds since the epoch. They raise RefusedError for a
field that they cannot read.
"""

from collections.abc import Callable
from datetime import tzinfo
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
    UndatedExpiry,
)
from domain.wire.message import MessageLevels
from domain.wire.refusal import RefusedError, preview
from domain.wire.values import (
    Field,
    count,
    end,
    fraction,
    identifier,
    is_given,
    is_percentage,
    job_id,
    mapping,
    message_text,
    moment,
    number,
    optional,
    pattern_name,
    required,
    symbol,
    text,
    tier,
)

UNKNOWN_SOURCE = "unknown"
"""Source of a message that names no producer."""

_COMPLETED = {"completed", "complete", "success", "succeeded"}
_FAILED = {"failed", "failure", "error"}
_CANCELLED = {"cancelled", "canceled"}

_CONFIDENCE_PERCENT = 10
"""A confidence from this number to 100 is in per cent. Numbers between 1 and it may be on a scale to five or to ten."""

_PROGRESS_PERCENT = 2
"""A progress from this number to 100 is in per cent. Numbers between 1 and it may be an inexact 1."""

_INDICATORS = {
    "relative_strength": ("relative_strength", "rs"),
    "relative_volume": ("relative_volume", "rel_volume", "volume_ratio", "volume_multiple"),
    "rsi": ("rsi",),
}
"""The indicators for which events have a field, each with its names in messages."""


def pattern_detected(message: MessageLevels, event_id: str, received_at: float) -> Event:
    """Build a detection. It occurred at the time in the envelope, or else at the time of detection."""
    fields = _pattern_fields(message)
    fields["confidence"] = _fraction(required(message.take("confidence")), message, _CONFIDENCE_PERCENT)
    announced_at, detected_at = _pattern_times(message)
    if detected_at is None:
        detected_at = received_at if announced_at is None else announced_at
    fields["detected_at"] = detected_at
    fields["occurred_at"] = detected_at if announced_at is None else announced_at
    fields["tier"] = fields["tier"] or UNKNOWN_TIER
    _take_measures(message, fields)
    return _validated(PatternDetected, event_id, fields, message)


def pattern_updated(message: MessageLevels, event_id: str, received_at: float) -> Event:
    """Build an update of a detection. It occurred at the time in the envelope, or else at the time of receipt."""
    fields = _pattern_fields(message)
    announced_at, detected_at = _pattern_times(message)
    fields["occurred_at"] = received_at if announced_at is None else announced_at
    fields["detected_at"] = fields["occurred_at"] if detected_at is None else detected_at
    confidence = message.take("confidence")
    fields["confidence"] = _fraction(confidence, message, _CONFIDENCE_PERCENT) if is_given(confidence) else None
    _take_measures(message, fields)
    return _validated(PatternUpdated, event_id, fields, message)


def pattern_expired(message: MessageLevels, event_id: str, received_at: float) -> Event:
    """Build an announced expiry. Fields that repeat the detection go to ``extra``, even ``expires_at``.

    The time of a message without an envelope may be that of the message or that of the detection.
    """
    fields = _pattern_fields(message)
    announced_at, detected_at = _pattern_times(message)
    fields["occurred_at"] = received_at if announced_at is None else announced_at
    if detected_at is None:
        fields["detected_by"] = announced_at
        return _validated(UndatedExpiry, event_id, fields, message)
    fields["detected_at"] = detected_at
    return _validated(PatternExpired, event_id, fields, message)


def backtest_progress(message: MessageLevels, event_id: str, received_at: float) -> Event:
    """Build a progress report of a backtest run."""
    fields = _backtest_fields(message, received_at)
    fields["progress"] = _fraction(required(message.take("progress")), message, _PROGRESS_PERCENT)
    fields["status"] = optional(text, message.take("status")) or "processing"
    fields["current_symbol"] = optional(text, message.take("current_symbol"))
    processed = message.take("processed_symbols", "symbols_completed")
    fields["processed_symbols"] = count(processed) if is_given(processed) else None
    fields["estimated_completion"] = _optional_time(moment, message.take("estimated_completion"), message)
    return _validated(BacktestProgressed, event_id, fields, message)


def backtest_result(message: MessageLevels, event_id: str, received_at: float) -> Event:
    """Build the end of a backtest run. A message without a status but with results means that the run completed."""
    fields = _backtest_fields(message, received_at)
    results = fields["results"] = optional(mapping, message.take("results")) or {}
    status_field = message.take("status")
    status = optional(text, status_field)
    if status is None and not results:
        raise RefusedError(
            "missing-field", "status is missing, and there are no results: expected completed, failed or cancelled"
        )
    fields["processing_time_seconds"] = _optional_number(message, "processing_time_seconds")
    outcome = "completed" if status is None else status.lower()
    if outcome in _COMPLETED:
        return _validated(BacktestCompleted, event_id, fields, message)
    if outcome not in _FAILED | _CANCELLED:
        raise RefusedError(
            "unknown-status", f"status is {preview(status_field[1])}: expected completed, failed or cancelled"
        )
    fields["status"] = "cancelled" if outcome in _CANCELLED else "failed"
    fields["error_message"] = optional(message_text, message.take("error_message", "error"))
    return _validated(BacktestFailed, event_id, fields, message)


def system_health(message: MessageLevels, event_id: str, received_at: float) -> Event:
    """Build a health report of a producer. Without ``metrics``, the other fields with numbers are the metrics."""
    fields = announcement_fields(message, received_at)
    if fields["source"] == UNKNOWN_SOURCE:
        fields["source"] = optional(text, message.take("component")) or UNKNOWN_SOURCE
    status = text(required(message.take("status")))
    metrics = optional(mapping, message.take("metrics"))
    extra = message.remaining_fields()
    if metrics is None:
        metrics = {name: value for name, value in extra.items() if type(value) in (int, float)}
        extra = {name: value for name, value in extra.items() if name not in metrics}
    return HealthReported(event_id=event_id, **fields, status=status, metrics=metrics, extra=extra)


def _validated(event_type: type[Event], event_id: str, fields: dict[str, Any], message: MessageLevels) -> Event:
    """Build an event from its fields. Its ``extra`` has the fields of the message that were not taken."""
    fields["event_id"] = event_id
    fields["extra"] = message.remaining_fields()
    # ``model_validate`` is a Python function around this call, which makes it a third slower. Keyword arguments of the
    # class would take twice as long, because Python and pydantic copy them.
    event: Event = event_type.__pydantic_validator__.validate_python(fields)
    return event


def _pattern_fields(message: MessageLevels) -> dict[str, Any]:
    """Read the common fields of pattern events.

    The field ``source`` names the tier in a body, and the producer in an envelope. In a flat message it names the
    producer, or else the tier if it is a known tier and no other field names the tier.
    """
    fields: dict[str, Any] = {
        "symbol": symbol(required(message.take("symbol", "ticker"))),
        "pattern": pattern_name(required(message.take("pattern", "pattern_name", "pattern_type"))),
        "source": optional(text, message.take_outer("source")) or UNKNOWN_SOURCE,
        "correlation_id": _correlation(message),
    }
    tier_field = message.take("tier")
    if tier_field[1] is None and message.nested:
        tier_field = message.take_inner("source")
    if tier_field[1] is None:
        tier_field = message.take("timeframe")
    if tier_field[1] is None and not message.nested and fields["source"].casefold() in message.conventions.tiers:
        tier_field = ("source", fields["source"])
        fields["source"] = UNKNOWN_SOURCE
    fields["tier"] = optional(tier, tier_field)
    return fields


def _pattern_times(message: MessageLevels) -> tuple[float | None, float | None]:
    """Read the time of the announcement and the time of the detection. Each is None if the message does not give it."""
    return (
        _optional_time(moment, message.take_outer("timestamp"), message),
        _optional_time(moment, message.take("detected_at", "detection_timestamp", "timestamp"), message),
    )


def _take_measures(message: MessageLevels, fields: dict[str, Any]) -> None:
    """Read the price, the expiry and the indicators into ``fields``."""
    fields["expires_at"] = _optional_time(end, message.take("expires_at"), message)
    fields["current_price"] = _optional_number(message, "current_price", "price", "price_at_detection")
    fields["price_change"] = _optional_number(message, "price_change")
    indicators = fields["indicators"] = optional(mapping, message.take("indicators")) or {}
    measures = MessageLevels([*message.levels, indicators])
    for field, names in _INDICATORS.items():
        fields[field] = _optional_number(measures, *names)


def _backtest_fields(message: MessageLevels, received_at: float) -> dict[str, Any]:
    """Read the common fields of backtest events."""
    return {"job_id": job_id(required(message.take("job_id"))), **announcement_fields(message, received_at)}


def announcement_fields(message: MessageLevels, received_at: float) -> dict[str, Any]:
    """Read the source, the time of occurrence and the correlation id of an event about the producer's own work."""
    source = message.take_outer("source")
    if source[1] is None:
        source = message.take("source")
    announced_at = message.take_outer("timestamp")
    if announced_at[1] is None:
        announced_at = message.take("timestamp")
    occurred_at = _optional_time(moment, announced_at, message)
    return {
        "source": optional(text, source) or UNKNOWN_SOURCE,
        "occurred_at": received_at if occurred_at is None else occurred_at,
        "correlation_id": _correlation(message),
    }


def _optional_number(message: MessageLevels, *names: str) -> float | None:
    field = message.take(*names)
    value = field[1]
    if type(value) is float:  # usually, and JSON has no other floats than finite ones
        return value
    return number(field) if is_given(field) else None


def _optional_time(
    reader: Callable[[Field, tzinfo], float | None], field: Field, message: MessageLevels
) -> float | None:
    return reader(field, message.conventions.timezone) if is_given(field) else None


def _fraction(field: Field, message: MessageLevels, lowest_percent: float) -> float:
    """Read a number from 0 to 1, or from ``lowest_percent`` to 100 per cent."""
    value = field[1]
    if (type(value) is float and value <= 1) or not is_percentage(field, lowest_percent):  # usually the first
        return fraction(field)
    message.percent = field[0]
    return number(field) / 100


def _correlation(message: MessageLevels) -> str | None:
    return optional(identifier, message.take("correlation_id", "flow_id"))
