"""What the demo announces, in the producer's wire format; every message says that it is a demo.

Times are epoch seconds, UTC. ``bar_date`` is the day on which the replayed bar was really traded.
"""

from dataclasses import asdict
from typing import Any, NamedTuple

import orjson

from domain import wire
from infra.demo.backtest import Results
from infra.demo.detection import Chart, Signal

SOURCE = "tickview_demo"


class Message(NamedTuple):
    """Something to publish."""

    channel: str
    payload: dict[str, Any]

    def encoded(self) -> bytes:
        """The payload as it is published."""
        return orjson.dumps(self.payload)


class Detection(NamedTuple):
    """A signal that has been announced, under a symbol and at a time of the demo's own."""

    symbol: str
    signal: Signal
    detected_at: float
    expires_at: float


def pattern_detected(detection: Detection, chart: Chart) -> Message:
    """``detection`` is announced."""
    data = _identity(detection) | _state(detection, chart, detection.signal.bar)
    return _pattern("pattern_detected", detection.detected_at, data)


def pattern_updated(detection: Detection, chart: Chart, bar: int, now: float) -> Message:
    """``detection`` as it stands at a later bar."""
    return _pattern("pattern_updated", now, _identity(detection) | _state(detection, chart, bar))


def pattern_expired(detection: Detection, reason: str, now: float) -> Message:
    """``detection`` is no longer valid."""
    return _pattern("pattern_expired", now, _identity(detection) | {"expiry_reason": reason})


def backtest_progress(
    job: dict[str, Any], job_id: str, progress: float, estimated_completion: float, now: float
) -> Message:
    """A job is under way, ``progress`` (0..1) of it done; ``job`` is what it tests."""
    fields = {
        "job_id": job_id,
        "progress": round(progress, 4),
        "status": "processing",
        "estimated_completion": estimated_completion,
        "current_symbol": job["symbol"],
    }
    return Message(wire.BACKTEST_PROGRESS, _envelope("backtest_progress", now) | fields | job)


def backtest_result(
    job: dict[str, Any], job_id: str, results: Results | None, processing_seconds: float, now: float
) -> Message:
    """A job is over: with results, or failed because there was nothing to trade."""
    fields: dict[str, Any] = {"job_id": job_id, "processing_time_seconds": round(processing_seconds, 3)}
    if results is None:
        error_message = f"no {job['pattern']} to trade on {job['symbol']}"
        fields |= {"status": "failed", "error_message": error_message, "results": {}}
    else:
        metrics = {name: round(value, 4) for name, value in asdict(results).items()}
        fields |= {"status": "completed", "results": metrics}
    return Message(wire.BACKTEST_RESULTS, _envelope("backtest_result", now) | fields | job)


def system_health(metrics: dict[str, float], now: float) -> Message:
    """The demo is alive."""
    fields = {"status": "healthy", "metrics": metrics}
    return Message(wire.HEALTH, _envelope("system_health", now) | fields)


def _envelope(event_type: str, now: float) -> dict[str, Any]:
    return {"event_type": event_type, "source": SOURCE, "timestamp": now, "demo": True}


def _pattern(event_type: str, now: float, data: dict[str, Any]) -> Message:
    return Message(wire.PATTERNS, _envelope(event_type, now) | {"data": data})


def _identity(detection: Detection) -> dict[str, Any]:
    return {
        "symbol": detection.symbol,
        "pattern": detection.signal.pattern.name,
        "timestamp": detection.detected_at,
        "source": detection.signal.pattern.tier,
    }


def _state(detection: Detection, chart: Chart, bar: int) -> dict[str, Any]:
    signal, values = detection.signal, chart.indicators
    return {
        "confidence": round(signal.confidence(bar - signal.bar), 4),
        "current_price": round(float(chart.bars.close[bar]), 2),
        "price_change": round(float(values.price_change[bar]), 2),
        "expires_at": detection.expires_at,
        "indicators": {
            "relative_strength": round(float(values.relative_strength[bar]), 3),
            "relative_volume": round(float(values.relative_volume[bar]), 3),
            "rsi": round(float(values.rsi[bar]), 2),
            "sma_20": round(float(values.sma_20[bar]), 2),
        },
        "direction": "bullish" if signal.direction > 0 else "bearish",
        "bar_date": str(chart.bars.dates[bar]),
    }
