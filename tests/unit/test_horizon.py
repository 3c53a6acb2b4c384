"""Times from the future: refused or replaced when a message is read, and without effect in the fold of a log."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import wire
from domain.events import Event, PatternDetected, PatternExpired
from domain.horizon import LONGEST_SECONDS, Horizon
from projections.activity import Activity
from projections.backtests import Backtests
from projections.base import Projection
from projections.decoding import decode_entries, decode_parked_entries
from projections.fold import LoadedState, fold
from projections.patterns import ActivePatterns
from projections.producers import Producers
from projections.row_history import by_unit
from projections.specification import log_entry
from projections.unit_history import refold_units
from tests.events import (
    NOON,
    backtest_completed,
    backtest_progressed,
    health_reported,
    pattern_detected,
    pattern_expired,
    pattern_updated,
)

YEAR_2999 = 32_472_144_000.0
DAY = 86_400
BODY = {"event_type": "pattern_detected", "symbol": "AAPL", "pattern": "Doji", "confidence": 0.8}


def read(message: dict[str, Any], channel: str = wire.PATTERNS, **horizon: Any) -> wire.ReadResult:
    """Read a message at noon."""
    return wire.read(channel, orjson.dumps(message), NOON, wire.Bounds(horizon=Horizon(**horizon), now=NOON))


@pytest.mark.parametrize(
    ("channel", "message", "field"),
    [
        (wire.PATTERNS, {**BODY, "timestamp": YEAR_2999}, "occurred_at"),
        (wire.PATTERNS, {**BODY, "timestamp": NOON, "detected_at": NOON + 601}, "detected_at"),
        (wire.PATTERNS, {**BODY, "expires_at": NOON + 11 * 365 * DAY}, "expires_at"),
        (wire.PATTERNS, {**BODY, "event_type": "pattern_updated", "timestamp": YEAR_2999}, "occurred_at"),
        (wire.PATTERNS, {**BODY, "event_type": "pattern_expired", "timestamp": YEAR_2999}, "occurred_at"),
        (wire.BACKTEST_PROGRESS, {"job_id": "a", "progress": 0.5, "timestamp": YEAR_2999}, "occurred_at"),
        (wire.BACKTEST_PROGRESS, {"job_id": "a", "progress": 0.5, "estimated_completion": YEAR_2999}, "estimated_comp"),
        (wire.BACKTEST_RESULTS, {"job_id": "a", "results": {"roi": 1}, "timestamp": YEAR_2999}, "occurred_at"),
        (wire.HEALTH, {"status": "healthy", "timestamp": YEAR_2999}, "occurred_at"),
    ],
)
def test_a_time_beyond_the_horizon_is_refused(channel: str, message: dict[str, Any], field: str) -> None:
    result = read(message, channel)
    assert result.events == ()
    [refusal] = result.refusals
    assert (refusal.code, refusal.reason.startswith(field)) == ("in-the-future", True)
    assert read(message, channel, clamps=True).refusals == ()


@pytest.mark.parametrize(
    "times",
    [
        {"timestamp": NOON + 600},
        {"detected_at": NOON + 600, "timestamp": NOON},
        {"expires_at": NOON + 9 * 365 * DAY},
        {"expires_at": "9999-12-31T00:00:00Z"},
        {},
    ],
)
def test_a_time_within_the_horizon_is_recorded_as_announced(times: dict[str, Any]) -> None:
    assert read({**BODY, **times}) == wire.read(wire.PATTERNS, orjson.dumps({**BODY, **times}), NOON)


def test_the_horizon_is_configured() -> None:
    assert read({**BODY, "timestamp": NOON + 601}, seconds=601).refusals == ()
    assert read({**BODY, "expires_at": NOON + 61}, end_seconds=60).refusals[0].code == "in-the-future"


def test_clamped_times_are_replaced_and_the_claimed_times_are_kept() -> None:
    message = {**BODY, "timestamp": YEAR_2999, "expires_at": YEAR_2999 + 60, "note": "kept"}
    [event] = read(message, clamps=True, end_seconds=3_600).events
    assert isinstance(event, PatternDetected)
    assert (event.occurred_at, event.detected_at, event.expires_at) == (NOON, NOON, NOON + 3_600)
    claimed = {"occurred_at": YEAR_2999, "detected_at": YEAR_2999, "expires_at": YEAR_2999 + 60}
    assert event.extra == {"note": "kept", "tickview:claimed": claimed}
    [unbounded] = wire.read(wire.PATTERNS, orjson.dumps(message), NOON).events
    assert event.event_id == unbounded.event_id


def test_only_the_items_of_a_batch_from_the_future_are_refused() -> None:
    items = [{**BODY, "symbol": symbol, "timestamp": NOON} for symbol in ("AAPL", "MSFT")]
    items.insert(1, {**BODY, "timestamp": YEAR_2999})
    result = read({"type": "patterns_batch", "patterns": items})
    assert [event.stream for event in result.events] == ["symbol-AAPL", "symbol-MSFT"]
    assert [refusal.reason.split(" is ")[0] for refusal in result.refusals] == ["patterns[1]: occurred_at"]
    assert len(result.contents) == len(result.events)


times = st.floats(0, 253_402_300_799)


@given(times, times, st.none() | times, st.booleans())
def test_no_recorded_time_is_beyond_the_horizon(
    occurred_at: float, detected_at: float, expires_at: float | None, clamps: bool
) -> None:
    data = {"detected_at": f"{detected_at:.3f}", "expires_at": None if expires_at is None else f"{expires_at:.3f}"}
    for event in read({**BODY, "timestamp": f"{occurred_at:.3f}", "data": {**data}}, clamps=clamps).events:
        assert isinstance(event, PatternDetected)
        assert max(event.occurred_at, event.detected_at) <= NOON + 600
        assert (event.expires_at or 0) <= NOON + Horizon().end_seconds


def rows_of(projection: Projection[Any, Any], *events: Event) -> dict[str, Any]:
    """Fold events that are recorded at noon and each a second after the one before."""
    entries = [log_entry(event, number, NOON + number) for number, event in enumerate(events, 1)]
    folded = fold(projection, LoadedState(), decode_entries(projection, entries))
    return {key: evolved.stored.row for key, evolved in folded.after.items() if evolved.stored}


def test_a_logged_event_from_the_future_does_not_make_its_row_deaf() -> None:
    poisoned = pattern_detected(occurred_at=YEAR_2999)
    [row] = rows_of(ActivePatterns(), poisoned, pattern_updated(confidence=0.9)).values()
    assert (row.confidence, row.updated_at) == (0.9, NOON + 60)
    assert rows_of(ActivePatterns(), poisoned, pattern_expired()) == {}


def test_a_logged_backtest_from_the_future_hears_later_events() -> None:
    poisoned = backtest_progressed(0.9, occurred_at=YEAR_2999)
    late = backtest_progressed(0.2, occurred_at=NOON + 90)
    [row] = rows_of(Backtests(), poisoned, late).values()
    assert (row.progress, row.updated_at) == (0.2, NOON + 90)
    again = backtest_completed(results={"roi": 2}, occurred_at=NOON + 101)
    [row] = rows_of(Backtests(), backtest_completed(occurred_at=YEAR_2999, results={"roi": 1}), again).values()
    assert (row.roi, row.ended_at) == (2, NOON + 101)


def test_a_logged_report_from_the_future_is_followed_by_later_reports() -> None:
    [row] = rows_of(Producers(), health_reported(occurred_at=YEAR_2999), health_reported(occurred_at=NOON + 9)).values()
    assert (row.reported_at, row.reports) == (NOON + 9, 2)


def test_activity_counts_an_event_from_the_future_on_the_day_of_its_recording() -> None:
    futures = pattern_detected(occurred_at=YEAR_2999, detected_at=YEAR_2999), pattern_detected()
    [row] = rows_of(Activity(), *futures).values()
    assert (row.day, row.events, row.latest_at) == ("2025-09-04", 2, NOON + 1)


def test_a_detection_from_the_future_begins_no_row() -> None:
    times = {"occurred_at": YEAR_2999, "detected_at": YEAR_2999}
    events = pattern_detected(**times), pattern_updated(tier="daily", confidence=0.9, **times)
    assert rows_of(ActivePatterns(), *events) == {}


def test_a_row_from_the_future_of_an_earlier_release_still_ends() -> None:
    projection = ActivePatterns()
    detected = pattern_detected(detected_at=YEAR_2999, expires_at=NOON)
    # Another release folded the event without a horizon.
    loaded = LoadedState()
    entries = decode_entries(projection, [log_entry(detected, 1, YEAR_2999)])
    [(key, evolved)] = fold(projection, loaded, entries).after.items()
    assert evolved.stored
    loaded.rows[key] = evolved.stored
    elapsed = PatternExpired.model_validate(
        {**pattern_expired(tier="daily", detected_at=YEAR_2999).model_dump(), "reason": "elapsed", "expires_at": NOON}
    )
    for end in (pattern_expired(tier="daily", detected_at=YEAR_2999), elapsed):
        folded = fold(projection, loaded, decode_entries(projection, [log_entry(end, 2, NOON)]))
        assert folded.after[key].stored is None


def test_a_parked_detection_from_the_future_begins_no_row() -> None:
    projection, detected = ActivePatterns(), pattern_detected(detected_at=YEAR_2999)
    [key] = projection.keys(detected)
    [entry] = decode_parked_entries(projection, str(key), [log_entry(detected, 1, NOON)])
    assert entry.needs_row


def test_the_history_shows_an_event_from_the_future_from_its_recording_on() -> None:
    projection = ActivePatterns()
    entries = [log_entry(pattern_detected(occurred_at=YEAR_2999), 1, NOON), log_entry(pattern_updated(), 2, NOON + 70)]
    _, changes = refold_units(projection, by_unit(projection, decode_entries(projection, entries)), 0)
    starts = [interval.start / 1e6 for timeline, interval in changes.added if timeline == "valid"]
    assert starts == [NOON, NOON + 60]


@given(st.floats(NOON, YEAR_2999), st.floats(NOON, YEAR_2999))
def test_no_folded_time_is_beyond_the_longest_horizon(occurred_at: float, detected_at: float) -> None:
    event = pattern_detected(occurred_at=occurred_at, detected_at=detected_at)
    for row in rows_of(ActivePatterns(), event).values():
        assert max(row.updated_at, row.detected_at) <= NOON + 1 + LONGEST_SECONDS
    [row] = rows_of(Activity(), event).values()
    assert row.latest_at <= NOON + 1 + LONGEST_SECONDS
