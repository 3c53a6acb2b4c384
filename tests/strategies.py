"""Random histories: events of few subjects, so that many events concern the same subject, with times out of order.

Each draw takes Hypothesis longer than the event that is built from it. So the fields with few values are one draw, from
all their combinations, and a value or None is one draw, too.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations, product
from typing import Any
from uuid import UUID

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
from tests.choices import one_value

SYMBOLS = ("AAPL", "BRK", "BRK.B", "X:BTCUSD")
PATTERNS = ("Doji", "Hammer", "Weekly_Breakout")
TIERS = ("daily", "intraday", "unknown")
METRICS = ("win_rate", "total_trades", "sharpe_ratio")
CONFIDENCES = (0.0, 0.3, 0.5, 0.75, 0.8, 0.91, 1.0)
HALF_SECONDS = 180_000
"""Half seconds from the first to the last moment."""

FREQUENT_MOMENTS = (0, 1, 20_000, 20_001, 90_000, HALF_SECONDS)
"""Moments that a quarter of the draws has, so that events and ends fall on the same moment."""

LAST_NUMBER = 4 * HALF_SECONDS // 3
"""Last of the numbers that are drawn. Those behind the last half second stand for the frequent moments."""

FREQUENT_VALUES = (0.0, -0.0, 0.01, -0.01, 0.5, 1.0, 1.5, 10.0, 50.0, 99.99, 100.0, -10.0)
"""Values that are drawn more often than others, so that rows tie."""

ALL_VALUES = tuple(number / 100 for number in range(-1_000, 10_001))
VALUES = (*(None,) * 13_500, *FREQUENT_VALUES * 200, *ALL_VALUES)

ONE_EXTRA = tuple({name: number} for name in "ab" for number in range(4))
TWO_EXTRAS = tuple(
    {first: one, second: two} for first, second in ("ab", "ba") for one, two in product(range(4), range(4))
)
EXTRAS: Sequence[Mapping[str, Any]] = (*({},) * 16, *ONE_EXTRA * 2, *TWO_EXTRAS)
MARKED_EXTRAS = tuple({**extra, EXPIRES_FROM: "default"} for extra in EXTRAS)

Fields = st.SearchStrategy[Mapping[str, Any]]
"""Some fields of an event by name."""


def _combination(**choices: Sequence[Any]) -> Fields:
    """Draw one of the choices of each field."""
    return one_value([dict(zip(choices, values, strict=True)) for values in product(*choices.values())])


def _field(name: str, values: st.SearchStrategy[Any]) -> Fields:
    """Draw one field."""
    return values.map(lambda value: {name: value})


_identities = st.binary(min_size=16, max_size=16)


def _moment(number: int) -> float | None:
    if number < 0:
        return None
    half_seconds = number if number <= HALF_SECONDS else FREQUENT_MOMENTS[number % len(FREQUENT_MOMENTS)]
    return 1_757_000_000 + half_seconds / 2


moments = st.integers(0, LAST_NUMBER).map(_moment)
_optional_moments = st.integers(-LAST_NUMBER, LAST_NUMBER).map(_moment)


def _events(event: type[Event], *parts: Fields) -> st.SearchStrategy[Event]:
    """Draw an event from the parts of its fields, its id and its time."""

    def build(drawn: tuple[Any, ...]) -> Event:
        identity, moment, *fields = drawn
        merged = {name: value for part in fields for name, value in part.items()}
        return event(event_id=str(UUID(bytes=identity)), occurred_at=moment, **merged)

    return st.tuples(_identities, moments, *parts).map(build)


_common = {"source": ("tickstock_pl", "fallback_detector"), "extra": EXTRAS}
_detection = {
    "source": _common["source"],
    "symbol": SYMBOLS,
    "pattern": PATTERNS,
    "detected_at": (1_757_001_600.0, 1_757_001_600.5),
}
_end = _field("expires_at", _optional_moments)
_measured = (
    *(_field(name, one_value(VALUES)) for name in ("current_price", "relative_strength", "relative_volume", "rsi")),
    _end,
    _field("extra", one_value((*EXTRAS * 2, *MARKED_EXTRAS))),
    _field("indicators", one_value(EXTRAS)),
)

pattern_events: st.SearchStrategy[Event] = st.one_of(
    _events(PatternDetected, _combination(**_detection, tier=TIERS, confidence=CONFIDENCES), *_measured),
    _events(
        PatternUpdated,
        _combination(**_detection, tier=(None, *TIERS), confidence=(*(None,) * len(CONFIDENCES), *CONFIDENCES)),
        *_measured,
    ),
    _events(
        PatternExpired,
        _combination(**_detection, tier=(None, *TIERS), reason=("announced", "elapsed")),
        _field("extra", one_value(EXTRAS)),
        _end,
    ),
)

_run = {**_common, "job_id": ("job-1", "job-2", "job-3")}
_results = st.dictionaries(
    st.sampled_from(METRICS), st.one_of(st.floats(-1, 5), st.integers(0, 9), st.text(max_size=2))
)

backtest_events: st.SearchStrategy[Event] = st.one_of(
    _events(
        BacktestProgressed, _combination(**_run, progress=CONFIDENCES, status=("processing", "queued", "completed"))
    ),
    _events(BacktestCompleted, _combination(**_run), _field("results", _results)),
    _events(
        BacktestFailed,
        _combination(**_run, status=("failed", "cancelled")),
        _field("error_message", st.text(max_size=5)),
    ),
)

health_reports = _events(
    HealthReported,
    _combination(**_common, status=("healthy", "degraded")),
    _field("metrics", one_value(EXTRAS)),
)

undated_expiries = _events(
    UndatedExpiry,
    _combination(**_common, symbol=SYMBOLS, pattern=PATTERNS, tier=(None, *TIERS)),
    _field("detected_by", _optional_moments),
)

lost_positions = _events(PositionLost, _combination(**_common, log=("market-0", "market-1")))

_symbol = (
    _combination(
        **_common,
        symbol=SYMBOLS,
        name=(None, "Apple", "Berkshire"),
        sector=(None, "Energy", "Technology"),
    ),
    _field("market_cap", one_value(VALUES)),
)
_universe = (
    _combination(**_common, key=("all", "mega_cap"), name=(None, "Universe")),
    _field("symbols", st.lists(st.sampled_from(SYMBOLS), unique=True)),
)

catalogue_events: st.SearchStrategy[Event] = st.one_of(
    _events(SymbolListed, *_symbol),
    _events(SymbolChanged, *_symbol),
    _events(SymbolDelisted, _combination(**_common, symbol=SYMBOLS)),
    _events(UniverseDefined, *_universe),
    _events(UniverseChanged, *_universe),
)

_user = {**_common, "user": ("alice", "bob")}
_list = {**_user, "list_id": ("1", "2", "3")}
_named = {**_list, "name": ("Tech", "Banks")}
_restored = (_field("created_at", moments), _combination(version=range(2, 6)))
_symbols = {"symbols": ((), *permutations(SYMBOLS, 1), *permutations(SYMBOLS, 2))}
_parameters = _field("parameters", one_value(EXTRAS))

user_events: st.SearchStrategy[Event] = st.one_of(
    _events(WatchlistCreated, _combination(**_named), _combination(**_symbols)),
    _events(WatchlistRenamed, _combination(**_named)),
    _events(WatchlistChanged, _combination(**_list), _combination(**_symbols)),
    _events(WatchlistDeleted, _combination(**_list)),
    _events(WatchlistRestored, _combination(**_named), *_restored, _combination(**_symbols)),
    _events(PresetCreated, _combination(**_named), _parameters),
    _events(PresetRenamed, _combination(**_named)),
    _events(PresetChanged, _combination(**_list), _parameters),
    _events(PresetDeleted, _combination(**_list)),
    _events(PresetRestored, _combination(**_named), *_restored, _parameters),
    _events(DefaultPresetChosen, _combination(**_user, list_id=(None, None, None, *_list["list_id"]))),
    _events(
        AlertSet,
        _combination(**_list, webhook=(None, "https://example.com/hook"), salt=("5a", "a5")),
    ),
    _events(AlertRemoved, _combination(**_list)),
    _events(UserForgotten, _combination(**_user, generation=range(1, 4))),
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
