"""An example history for each read model: it contains every event type that the projection handles."""

from typing import Any

from domain.events import Event
from domain.user_events import (
    AlertRemoved,
    AlertSet,
    DefaultPresetChosen,
    PresetChanged,
    PresetCreated,
    PresetDeleted,
    PresetRenamed,
    PresetRestored,
    UserForgotten,
    WatchlistChanged,
    WatchlistCreated,
    WatchlistDeleted,
    WatchlistRenamed,
    WatchlistRestored,
)
from tests.events import (
    NOON,
    backtest_completed,
    backtest_failed,
    backtest_progressed,
    health_reported,
    pattern_detected,
    pattern_expired,
    pattern_updated,
    symbol_changed,
    symbol_delisted,
    symbol_listed,
    undated_expiry,
    universe_changed,
    universe_defined,
)


def _user_event(event_type: type[Event], second: int, **fields: Any) -> Event:
    common = {"event_id": f"{event_type.__name__}-{second}", "occurred_at": NOON + second, "source": "alice"}
    return event_type(**common, user="alice", **fields)


_PATTERNS: tuple[Event, ...] = (
    pattern_detected(),
    pattern_detected(tier="intraday", confidence=0.9),
    pattern_updated(confidence=0.8, expires_at=NOON + 600),
    pattern_expired(tier="intraday"),
)
_BACKTESTS: tuple[Event, ...] = (
    backtest_progressed(0.25),
    backtest_progressed(0.5, occurred_at=NOON + 10, current_symbol="AAPL"),
    backtest_completed(),
    backtest_failed(job_id="other", error_message="no data"),
)
_HEALTH: tuple[Event, ...] = (
    health_reported(),
    health_reported(status="degraded", occurred_at=NOON + 5),
    undated_expiry(source="pl"),
    undated_expiry(source="silent"),
)
_SYMBOLS: tuple[Event, ...] = (symbol_listed(), symbol_changed(), symbol_delisted())
_UNIVERSES: tuple[Event, ...] = (universe_defined(), universe_changed())
_USERS: tuple[Event, ...] = (
    _user_event(WatchlistCreated, 0, list_id="w", name="Tech", symbols=("AAPL",)),
    _user_event(WatchlistRenamed, 1, list_id="w", name="Banks"),
    _user_event(WatchlistChanged, 2, list_id="w", symbols=("JPM",)),
    _user_event(WatchlistDeleted, 3, list_id="w"),
    _user_event(WatchlistRestored, 4, list_id="w", name="Banks", symbols=("JPM",), created_at=NOON, version=4),
    _user_event(PresetCreated, 5, list_id="p", name="Strong", parameters={"confidence_min": 0.8}),
    _user_event(PresetRenamed, 6, list_id="p", name="Weak"),
    _user_event(PresetChanged, 7, list_id="p", parameters={"confidence_min": 0.1}),
    _user_event(AlertSet, 7, list_id="p", webhook="https://example.com/hook", salt="5a"),
    _user_event(AlertRemoved, 8, list_id="p"),
    _user_event(PresetDeleted, 8, list_id="p"),
    _user_event(UserForgotten, 9, generation=1),
    _user_event(PresetRestored, 9, list_id="p", name="Weak", parameters={}, created_at=NOON, version=4),
    _user_event(DefaultPresetChosen, 10, list_id="p"),
)

EXAMPLES: dict[str, tuple[Event, ...]] = {
    "patterns": _PATTERNS,
    "backtests": _BACKTESTS,
    "activity": (*_PATTERNS, *_BACKTESTS, *_HEALTH, *_SYMBOLS, *_UNIVERSES),
    "producers": _HEALTH,
    "symbols": _SYMBOLS,
    "universes": _UNIVERSES,
    "workspaces": _USERS,
}
"""The example history of each read model, by its name."""
