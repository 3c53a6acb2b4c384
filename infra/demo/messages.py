"""The announcements of the demo, in the wire format of a producer. Each one contains ``"demo": true``.

Times are epoch seconds in UTC. ``bar_date`` is the day on which the replayed bar was traded.
"""

from dataclasses import asdict
from typing import Any, NamedTuple

import orjson

from domain import wire
from infra.demo.backtest import Results
from infra.demo.detection import Chart, TradingSignal

SOURCE = "tickview_demo"
"""Name of the demo as a producer."""


class Announcement(NamedTuple):
    """A message of the demo and the Redis channel on which it is published."""

    channel: str
    payload: dict[str, Any]

    def encoded(self) -> bytes:
        """Return the payload as JSON."""
        return orjson.dumps(self.payload)


class Detection(NamedTuple):
    """An announced trading signal: the symbol of the demo and the times of the announcement."""

    symbol: str
    signal: TradingSignal
    detected_at: float
    expires_at: float


def pattern_detected(detection: Detection, chart: Chart) -> Announcement:
    """Announce a new detection."""
    data = _identity(detection) | _state(detection, chart, detection.signal.bar)
    return _pattern("pattern_detected", detection.detected_at, data)


def pattern_updated(detection: Detection, chart: Chart, bar: int, now: float) -> Announcement:
    """Announce the values of a detection at a later bar."""
    return _pattern("pattern_updated", now, _identity(detection) | _state(detection, chart, bar))


def pattern_expired(detection: Detection, reason: str, now: float) -> Announcement:
    """Announce that a detection is no longer valid. ``reason`` becomes ``expiry_reason``."""
    return _pattern("pattern_expired", now, _identity(detection) | {"expiry_reason": reason})


def backtest_progress(
    job: dict[str, Any], job_id: str, progress: float, estimated_completion: float, now: float
) -> Announcement:
    """Announce the progress of a backtest.

    Args:
        job: The tested symbol, pattern, holding period and costs, as fields of the message.
        job_id: The id of the backtest.
        progress: The finished share of the backtest, 0 to 1.
        estimated_completion: The expected end, in epoch seconds.
        now: The time of the announcement, in epoch seconds.
    """
    fields = {
        "job_id": job_id,
        "progress": round(progress, 4),
        "status": "processing",
        "estimated_completion": estimated_completion,
        "current_symbol": job["symbol"],
    }
    return Announcement(wire.BACKTEST_PROGRESS, _envelope("backtest_progress", now) | fields | job)


def backtest_result(
    job: dict[str, Any], job_id: str, results: Results | None, processing_seconds: float, now: float
) -> Announcement:
    """Announce the end of a backtest.

    Args:
        job: The tested symbol, pattern, holding period and costs, as fields of the message.
        job_id: The id of the backtest.
        results: The results; None when the pattern never appeared, which is announced as a failure.
        processing_seconds: The duration of the backtest, in seconds.
        now: The time of the announcement, in epoch seconds.
    """
    fields: dict[str, Any] = {"job_id": job_id, "processing_time_seconds": round(processing_seconds, 3)}
    if results is None:
        error_message = f"no {job['pattern']} to trade on {job['symbol']}"
        fields |= {"status": "failed", "error_message": error_message, "results": {}}
    else:
        metrics = {name: round(value, 4) for name, value in asdict(results).items()}
        fields |= {"status": "completed", "results": metrics}
    return Announcement(wire.BACKTEST_RESULTS, _envelope("backtest_result", now) | fields | job)


def system_health(metrics: dict[str, float], now: float) -> Announcement:
    """Announce the health of the demo."""
    fields = {"status": "healthy", "metrics": metrics}
    return Announcement(wire.HEALTH, _envelope("system_health", now) | fields)


def _envelope(event_type: str, now: float) -> dict[str, Any]:
    return {"event_type": event_type, "source": SOURCE, "timestamp": now, "demo": True}


def _pattern(event_type: str, now: float, data: dict[str, Any]) -> Announcement:
    return Announcement(wire.PATTERNS, _envelope(event_type, now) | {"data": data})


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
