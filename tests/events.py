"""Builders of events for all tests: each gives every required field a default, and a unique event id."""

from collections.abc import Iterable
from itertools import count
from typing import Any

from domain.codec import encode, topic_of
from domain.events import (
    BacktestCompleted,
    BacktestFailed,
    BacktestProgressed,
    Event,
    HealthReported,
    PatternDetected,
    PatternExpired,
    PatternUpdated,
    SymbolChanged,
    SymbolDelisted,
    SymbolListed,
    UndatedExpiry,
    UniverseChanged,
    UniverseDefined,
)
from infra.log.append import NewEvent

NOON = 1_757_001_600.0
"""The default time of detection, and of every event, in seconds since the epoch: 2025-09-04, 16:00 UTC."""

_numbers = count(1)


def pattern_detected(**fields: Any) -> PatternDetected:
    """Build the detection of a Doji of AAPL by the tier ``daily``."""
    return PatternDetected(**{**_event("detected"), **_DETECTION, "tier": "daily", "confidence": 0.7, **fields})


def pattern_updated(**fields: Any) -> PatternUpdated:
    """Build an update of every tier of the default detection, a minute later."""
    return PatternUpdated(**{**_event("updated"), **_DETECTION, "occurred_at": NOON + 60, **fields})


def pattern_expired(**fields: Any) -> PatternExpired:
    """Build the announced expiry of every tier of the default detection, one and a half minutes later."""
    return PatternExpired(**{**_event("expired"), **_DETECTION, "occurred_at": NOON + 90, **fields})


def undated_expiry(**fields: Any) -> UndatedExpiry:
    """Build the expiry of the latest Doji of AAPL in every tier, one and a half minutes after noon."""
    defaults = {**_event("undated"), "symbol": "AAPL", "pattern": "Doji", "occurred_at": NOON + 90}
    return UndatedExpiry(**{**defaults, **fields})


def expiry_of(detection: PatternDetected) -> PatternExpired:
    """Build the announced expiry of one detection, at the time of the detection."""
    names = {"occurred_at", "detected_at", "symbol", "pattern", "tier", "source"}
    return PatternExpired(event_id=f"{detection.event_id}-expired", **detection.model_dump(include=names))


def backtest_progressed(progress: float, **fields: Any) -> BacktestProgressed:
    """Build a progress report of the run ``job``."""
    return BacktestProgressed(**{**_event("progressed"), "job_id": "job", "progress": progress, **fields})


def backtest_completed(**fields: Any) -> BacktestCompleted:
    """Build the successful end of the run ``job``, 100 seconds after noon."""
    defaults = {**_event("completed"), "job_id": "job", "occurred_at": NOON + 100, "results": {"win_rate": 0.6}}
    return BacktestCompleted(**{**defaults, **fields})


def backtest_failed(**fields: Any) -> BacktestFailed:
    """Build the failure of the run ``job``, 100 seconds after noon."""
    return BacktestFailed(**{**_event("failed"), "job_id": "job", "occurred_at": NOON + 100, **fields})


def health_reported(**fields: Any) -> HealthReported:
    """Build a health report of the producer ``pl``."""
    defaults = {**_event("reported"), "source": "pl", "status": "healthy", "metrics": {"cpu": 0.5}}
    return HealthReported(**{**defaults, **fields})


def symbol_listed(**fields: Any) -> SymbolListed:
    """Build the listing of AAPL."""
    defaults = {**_event("listed"), "symbol": "AAPL", "name": "Apple", "sector": "Technology", "market_cap": 3e12}
    return SymbolListed(**{**defaults, **fields})


def symbol_changed(**fields: Any) -> SymbolChanged:
    """Build a new catalogue entry of AAPL, a second after noon."""
    defaults = {**_event("changed"), "occurred_at": NOON + 1, "symbol": "AAPL", "name": "Apple Inc."}
    return SymbolChanged(**{**defaults, **fields})


def symbol_delisted(**fields: Any) -> SymbolDelisted:
    """Build the delisting of AAPL, two seconds after noon."""
    return SymbolDelisted(**{**_event("delisted"), "occurred_at": NOON + 2, "symbol": "AAPL", **fields})


def universe_defined(**fields: Any) -> UniverseDefined:
    """Build the definition of the universe ``mega_cap``."""
    defaults = {**_event("defined"), "key": "mega_cap", "name": "Mega caps", "symbols": ["AAPL", "MSFT"]}
    return UniverseDefined(**{**defaults, **fields})


def universe_changed(**fields: Any) -> UniverseChanged:
    """Build a new definition of the universe ``mega_cap``, a second after noon."""
    defaults = {**_event("changed"), "occurred_at": NOON + 1, "key": "mega_cap", "symbols": ["AAPL"]}
    return UniverseChanged(**{**defaults, **fields})


def new_event(event: Event, origin: str = "") -> NewEvent:
    """Serialize an event for the event log."""
    return NewEvent(event.stream, topic_of(type(event)), encode(event), event.event_id, origin=origin)


def new_events(events: Iterable[Event], origin: str = "") -> list[NewEvent]:
    """Serialize events for the event log."""
    return [new_event(event, origin) for event in events]


def opaque_event(stream: str = "symbol-AAPL", **fields: Any) -> NewEvent:
    """Build an event for tests that never read its content."""
    return NewEvent(stream, "domain.events:PatternDetected", b"{}", **fields)


_DETECTION = {"symbol": "AAPL", "pattern": "Doji", "detected_at": NOON}


def _event(kind: str) -> dict[str, Any]:
    return {"event_id": f"{kind}-{next(_numbers)}", "occurred_at": NOON, "source": "test"}
