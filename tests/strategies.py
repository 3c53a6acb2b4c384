"""Random histories: events of few subjects, so that many events concern the same subject, with times out of order."""

from hypothesis import strategies as st

from domain.default_expiry import EXPIRES_FROM
from domain.events import (
    BacktestCompleted,
    BacktestFailed,
    BacktestProgressed,
    Event,
    HealthReported,
    PatternDetected,
    PatternExpired,
    PatternUpdated,
    PositionLost,
    SymbolChanged,
    SymbolDelisted,
    SymbolListed,
    UndatedExpiry,
    UniverseChanged,
    UniverseDefined,
)
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

SYMBOLS = ("AAPL", "BRK", "BRK.B", "X:BTCUSD")
PATTERNS = ("Doji", "Hammer", "Weekly_Breakout")
TIERS = ("daily", "intraday", "unknown")
METRICS = ("win_rate", "total_trades", "sharpe_ratio")

moments = st.integers(0, 180_000).map(lambda number: 1_757_000_000 + number / 2)
values = st.one_of(st.none(), st.floats(-10, 100).map(lambda value: round(value, 2)))
confidences = st.sampled_from((0.0, 0.3, 0.5, 0.75, 0.8, 0.91, 1.0))
sources = st.sampled_from(("tickstock_pl", "fallback_detector"))
extras = st.dictionaries(st.sampled_from(("a", "b")), st.integers(0, 3), max_size=2)

_detection = {
    "symbol": st.sampled_from(SYMBOLS),
    "pattern": st.sampled_from(PATTERNS),
    "detected_at": st.sampled_from((1_757_001_600.0, 1_757_001_600.5)),
}
_common = {"event_id": st.uuids().map(str), "occurred_at": moments, "source": sources, "extra": extras}
_marked_extras = st.one_of(extras, extras, extras.map(lambda extra: {**extra, EXPIRES_FROM: "default"}))
_indicators = {
    "extra": _marked_extras,
    "current_price": values,
    "relative_strength": values,
    "relative_volume": values,
    "rsi": values,
    "expires_at": st.one_of(st.none(), moments),
    "indicators": extras,
}

pattern_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        PatternDetected, **_common | _detection | _indicators, tier=st.sampled_from(TIERS), confidence=confidences
    ),
    st.builds(
        PatternUpdated,
        **_common | _detection | _indicators,
        tier=st.sampled_from((None, *TIERS)),
        confidence=st.one_of(st.none(), confidences),
    ),
    st.builds(
        PatternExpired,
        **_common,
        **_detection,
        tier=st.sampled_from((None, *TIERS)),
        reason=st.sampled_from(("announced", "elapsed")),
        expires_at=st.one_of(st.none(), moments),
    ),
)

_run = {**_common, "job_id": st.sampled_from(("job-1", "job-2", "job-3"))}
_results = st.dictionaries(
    st.sampled_from(METRICS), st.one_of(st.floats(-1, 5), st.integers(0, 9), st.text(max_size=2))
)

backtest_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        BacktestProgressed, **_run, progress=confidences, status=st.sampled_from(("processing", "queued", "completed"))
    ),
    st.builds(BacktestCompleted, **_run, results=_results),
    st.builds(
        BacktestFailed, **_run, status=st.sampled_from(("failed", "cancelled")), error_message=st.text(max_size=5)
    ),
)

health_reports: st.SearchStrategy[Event] = st.builds(
    HealthReported, **_common, status=st.sampled_from(("healthy", "degraded")), metrics=extras
)

undated_expiries: st.SearchStrategy[Event] = st.builds(
    UndatedExpiry,
    **_common,
    symbol=_detection["symbol"],
    pattern=_detection["pattern"],
    tier=st.sampled_from((None, *TIERS)),
    detected_by=st.one_of(st.none(), moments),
)

lost_positions: st.SearchStrategy[Event] = st.builds(
    PositionLost, **_common, log=st.sampled_from(("market-0", "market-1"))
)

_symbol = {
    **_common,
    "symbol": st.sampled_from(SYMBOLS),
    "name": st.sampled_from((None, "Apple", "Berkshire")),
    "sector": st.sampled_from((None, "Energy", "Technology")),
    "market_cap": values,
}
_universe = {
    **_common,
    "key": st.sampled_from(("all", "mega_cap")),
    "name": st.sampled_from((None, "Universe")),
    "symbols": st.lists(st.sampled_from(SYMBOLS), unique=True),
}

catalogue_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(SymbolListed, **_symbol),
    st.builds(SymbolChanged, **_symbol),
    st.builds(SymbolDelisted, **_common, symbol=_symbol["symbol"]),
    st.builds(UniverseDefined, **_universe),
    st.builds(UniverseChanged, **_universe),
)

_list = {**_common, "user": st.sampled_from(("alice", "bob")), "list_id": st.sampled_from(("1", "2", "3"))}
_named = {**_list, "name": st.sampled_from(("Tech", "Banks"))}
_restored = {"created_at": moments, "version": st.integers(2, 5)}
_symbols = st.lists(st.sampled_from(SYMBOLS), max_size=2, unique=True).map(tuple)

user_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(WatchlistCreated, **_named, symbols=_symbols),
    st.builds(WatchlistRenamed, **_named),
    st.builds(WatchlistChanged, **_list, symbols=_symbols),
    st.builds(WatchlistDeleted, **_list),
    st.builds(WatchlistRestored, **_named, **_restored, symbols=_symbols),
    st.builds(PresetCreated, **_named, parameters=extras),
    st.builds(PresetRenamed, **_named),
    st.builds(PresetChanged, **_list, parameters=extras),
    st.builds(PresetDeleted, **_list),
    st.builds(PresetRestored, **_named, **_restored, parameters=extras),
    st.builds(DefaultPresetChosen, **{**_list, "list_id": st.none() | _list["list_id"]}),
    st.builds(
        AlertSet, **_list, webhook=st.none() | st.just("https://example.com/hook"), salt=st.sampled_from(("5a", "a5"))
    ),
    st.builds(AlertRemoved, **_list),
    st.builds(UserForgotten, **_common, user=_list["user"], generation=st.integers(1, 3)),
)
"""User events in any order, also in orders that no workspace produces."""

market_events = st.one_of(
    pattern_events,
    pattern_events,
    backtest_events,
    health_reports,
    undated_expiries,
    catalogue_events,
    catalogue_events,
    lost_positions,
)
histories = st.lists(market_events, min_size=1, max_size=40, unique_by=lambda event: event.event_id)

mixed_histories = st.lists(market_events | user_events, min_size=1, max_size=40, unique_by=lambda event: event.event_id)
"""Histories of market events and user events together."""
