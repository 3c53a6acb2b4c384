"""Specifications of the projections: no events, each event type, duplicates, missing predecessors, late events."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.event_types import EVENT_TYPES
from domain.events import PositionLost
from domain.user_events import WORKSPACE_EVENT_TYPES
from projections.activity import Activity
from projections.backtests import Backtests
from projections.patterns import ActivePatterns, confidence_band, pattern_id
from projections.producers import Producers
from projections.registry import READ_MODELS
from projections.specification import Given
from projections.symbols import Symbols
from projections.universes import Universes
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
    universe_changed,
    universe_defined,
)
from tests.examples import EXAMPLES

SELF_SUFFICIENT = {
    "patterns": {"PatternDetected", "PatternUpdated"},
    "backtests": {"BacktestProgressed", "BacktestCompleted", "BacktestFailed"},
    "activity": set(EVENT_TYPES) - {"PositionLost"},
    "producers": {"HealthReported", "UndatedExpiry"},
    "symbols": {"SymbolListed", "SymbolChanged"},
    "universes": {"UniverseDefined", "UniverseChanged"},
    "workspaces": {event_type.__name__ for event_type in WORKSPACE_EVENT_TYPES} - {"UserForgotten"},
}
"""The event types that create a row without a predecessor. An update of a pattern needs a tier and a confidence."""

IDEMPOTENT = {"patterns", "backtests", "symbols", "universes"}
"""The read models whose ``evolve`` is idempotent. The others count events: test_redelivery shows what protects them."""


@pytest.mark.parametrize("name", READ_MODELS)
def test_there_are_no_rows_without_events(name: str) -> None:
    assert Given(READ_MODELS[name]).rows() == {}


@pytest.mark.parametrize("name", READ_MODELS)
def test_each_handled_event_changes_a_row(name: str) -> None:
    projection, history = READ_MODELS[name], EXAMPLES[name]
    assert {type(event) for event in history} == set(projection.handles) - {PositionLost}
    for number in range(len(history)):
        before, after = Given(projection, *history[:number]), Given(projection, *history[: number + 1])
        assert before.rows() != after.rows(), f"{history[number]} changes no row"
        assert after.folded().parked == []


@pytest.mark.parametrize("name", READ_MODELS)
def test_only_self_sufficient_events_create_a_row_without_a_predecessor(name: str) -> None:
    projection = READ_MODELS[name]
    specs = {type(event).__name__: Given(projection, event) for event in EXAMPLES[name]}
    if name == "patterns":
        specs["PatternUpdated"] = Given(projection, pattern_updated(tier="daily", confidence=0.9))
    assert {event_type for event_type, spec in specs.items() if spec.rows()} == SELF_SUFFICIENT[name]
    assert not any(spec.folded().parked for spec in specs.values())


@pytest.mark.parametrize("name", READ_MODELS)
def test_a_replay_equals_folding_event_by_event(name: str) -> None:
    spec = Given(READ_MODELS[name], *EXAMPLES[name])
    assert spec.stored_rows() == spec.live()


@pytest.mark.parametrize("name", READ_MODELS)
def test_folding_each_event_twice_changes_rows_only_where_events_are_counted(name: str) -> None:
    history = EXAMPLES[name]
    twice = [event for event in history for _ in range(2)]
    once = Given(READ_MODELS[name], *history).rows()
    assert (Given(READ_MODELS[name], *twice).rows() == once) is (name in IDEMPOTENT)


@pytest.mark.parametrize("name", READ_MODELS)
def test_folding_the_history_twice_changes_rows_only_where_events_are_counted(name: str) -> None:
    """The history of a workspace begins with the creation of its lists, which resets the number of their changes."""
    history = EXAMPLES[name]
    spec = Given(READ_MODELS[name], *history)
    assert (spec.when(*history).rows() == spec.rows()) is (name in IDEMPOTENT | {"workspaces"})


class TestPatterns:
    given = staticmethod(lambda *events: Given(ActivePatterns(), *events))

    def test_a_detection_creates_a_row(self) -> None:
        row = self.given(pattern_detected(rsi=61.5, extra={"details": {"a": 1}})).row()
        assert row.id == "AAPL:Doji:daily:1757001600000"
        assert (row.confidence, row.rsi, row.relative_strength) == (0.7, 61.5, None)
        assert row.extra == {"details": {"a": 1}}

    def test_a_row_names_the_event_and_position_that_last_changed_it(self) -> None:
        stored = self.given(pattern_detected(), pattern_updated(event_id="u", tier="daily", confidence=0.9)).stored()
        assert (stored.position, stored.row.event_id) == (2, "u")

    def test_a_duplicate_changes_nothing(self) -> None:
        detection = pattern_detected()
        once, twice = self.given(detection), self.given(detection, detection)
        assert once.rows() == twice.rows()

    def test_two_tiers_are_two_patterns(self) -> None:
        assert len(self.given(pattern_detected(), pattern_detected(tier="intraday")).rows()) == 2

    def test_two_detections_in_one_second_are_two_patterns(self) -> None:
        assert len(self.given(pattern_detected(), pattern_detected(detected_at=NOON + 0.001)).rows()) == 2

    def test_an_update_only_changes_its_own_fields(self) -> None:
        row = self.given(pattern_detected(current_price=10.0)).when(pattern_updated(tier="daily", confidence=0.9)).row()
        assert (row.confidence, row.current_price, row.updated_at) == (0.9, 10.0, NOON + 60)

    def test_an_update_without_a_tier_changes_every_tier(self) -> None:
        rows = (
            self.given(pattern_detected(), pattern_detected(tier="any other tier"))
            .when(pattern_updated(confidence=0.9))
            .rows()
        )
        assert [row.confidence for row in rows.values()] == [0.9, 0.9]

    def test_an_expiry_without_a_tier_removes_every_tier(self) -> None:
        assert self.given(pattern_detected(), pattern_detected(tier="1min")).when(pattern_expired()).rows() == {}

    def test_an_expiry_of_one_tier_leaves_the_other_tiers(self) -> None:
        rows = self.given(pattern_detected(), pattern_detected(tier="1min")).when(pattern_expired(tier="1min")).rows()
        assert [row.tier for row in rows.values()] == ["daily"]

    def test_an_update_with_tier_and_confidence_creates_a_missing_row(self) -> None:
        assert self.given(pattern_updated(tier="daily", confidence=0.9)).row().confidence == 0.9

    def test_an_update_without_tier_or_confidence_creates_no_row(self) -> None:
        assert self.given(pattern_updated(tier="daily")).rows() == {}
        assert self.given(pattern_updated(confidence=0.9)).rows() == {}

    def test_an_expiry_without_a_row_changes_nothing(self) -> None:
        assert self.given(pattern_expired(), pattern_expired(tier="daily")).rows() == {}

    def test_a_late_older_update_is_ignored(self) -> None:
        late = pattern_updated(tier="daily", confidence=0.1, occurred_at=NOON + 30)
        assert (
            self.given(pattern_detected(), pattern_updated(tier="daily", confidence=0.9), late).row().confidence == 0.9
        )

    def test_an_elapsed_expiry_does_not_remove_a_prolonged_pattern(self) -> None:
        history = (pattern_detected(expires_at=NOON + 60), pattern_updated(tier="daily", expires_at=NOON + 600))
        assert self.given(*history, pattern_expired(tier="daily", reason="elapsed", expires_at=NOON + 60)).rows()
        assert not self.given(*history, pattern_expired(tier="daily", reason="elapsed", expires_at=NOON + 600)).rows()

    @pytest.mark.parametrize(
        ("confidence", "band"), [(0, "0.0-0.1"), (0.1, "0.1-0.2"), (0.55, "0.5-0.6"), (0.9, "0.9-1.0"), (1, "0.9-1.0")]
    )
    def test_a_confidence_belongs_to_a_band(self, confidence: float, band: str) -> None:
        assert confidence_band(self.given(pattern_detected(confidence=confidence)).row()) == band

    def test_the_group_of_a_row_is_its_detection_also_for_symbols_with_colons(self) -> None:
        key = pattern_id("X:BTCUSD", "Doji", "daily", NOON)
        assert ActivePatterns().group_of(key) == "X:BTCUSD:Doji:1757001600000"

    def test_symbols_and_tiers_that_differ_in_case_have_rows_of_their_own(self) -> None:
        """The detections in capitals and small letters are those that release 0.1 has recorded."""
        spellings = [("TPC", "1m"), ("TpC", "1m"), ("TpC", "1M"), ("/ES", "1m")]
        detected = [pattern_detected(symbol=symbol, tier=tier) for symbol, tier in spellings]
        assert [(row.symbol, row.tier) for row in self.given(*detected).rows().values()] == spellings
        updated = pattern_updated(symbol="TpC", tier="1M", confidence=0.9)
        rows = self.given(*detected, updated, pattern_expired(symbol="TPC", tier="1m")).rows().values()
        assert [(row.symbol, row.tier, row.confidence > 0.89) for row in rows] == [
            *(("TpC", "1m", False), ("TpC", "1M", True), ("/ES", "1m", False))
        ]


class TestBacktests:
    given = staticmethod(lambda *events: Given(Backtests(), *events))

    def test_progress_updates_the_run(self) -> None:
        row = self.given(
            backtest_progressed(0.25), backtest_progressed(0.5, occurred_at=NOON + 10, current_symbol="AAPL")
        ).row()
        assert (row.progress, row.current_symbol, row.started_at) == (0.5, "AAPL", NOON)

    def test_a_result_completes_the_run(self) -> None:
        row = self.given(backtest_progressed(0.25), backtest_completed()).row()
        assert (row.status, row.progress, row.ended_at) == ("completed", 1.0, NOON + 100)
        assert row.results == {"win_rate": 0.6}

    def test_a_result_without_progress_creates_a_completed_run(self) -> None:
        assert self.given(backtest_completed()).row().status == "completed"

    def test_progress_after_the_end_is_ignored(self) -> None:
        assert (
            self.given(backtest_completed(), backtest_progressed(0.9, occurred_at=NOON + 200)).row().status
            == "completed"
        )

    def test_late_older_progress_is_ignored(self) -> None:
        assert (
            self.given(backtest_progressed(0.5, occurred_at=NOON + 10), backtest_progressed(0.25, occurred_at=NOON + 5))
            .row()
            .progress
            == 0.5
        )

    def test_a_failure_ends_the_run(self) -> None:
        failed = backtest_failed(occurred_at=NOON, status="cancelled", error_message="no data")
        row = self.given(backtest_progressed(0.25), failed).row()
        assert (row.status, row.progress, row.error_message) == ("cancelled", 0.25, "no data")


def test_a_producer_has_the_status_of_its_latest_report_in_any_order() -> None:
    row = Given(
        Producers(),
        health_reported(status="healthy", occurred_at=NOON + 10),
        health_reported(status="degraded", occurred_at=NOON + 5),
    ).row()
    assert (row.status, row.reports, row.reported_at) == ("healthy", 2, NOON + 10)


def test_activity_counts_by_day_type_and_source() -> None:
    rows = Given(
        Activity(),
        pattern_detected(),
        pattern_detected(),
        pattern_detected(occurred_at=NOON + 86_400),
        health_reported(status="healthy", occurred_at=NOON + 0),
    ).rows()
    assert {key: row.events for key, row in rows.items()} == {
        "2025-09-04/PatternDetected/test": 2,
        "2025-09-05/PatternDetected/test": 1,
        "2025-09-04/HealthReported/pl": 1,
    }


@given(st.lists(st.integers(0, 24 * 60 - 1), min_size=1, max_size=300))
def test_activity_counts_the_latest_minutes_in_any_order_and_in_any_parts(minutes: list[int]) -> None:
    midnight = NOON - NOON % 86_400
    events = [pattern_detected(occurred_at=midnight + 60 * minute + 1) for minute in minutes]
    numbers = Counter(f"{minute // 60:02}:{minute % 60:02}" for minute in minutes)
    expected = {name: numbers[name] for name in sorted(numbers)[-60:]}
    assert Given(Activity(), *events).row().minutes == expected
    if len(events) > 1:
        one, other = (Given(Activity(), *part).row() for part in (events[::2], events[1::2]))
        assert Activity().merge(one, other).minutes == Activity().merge(other, one).minutes == expected


class TestSymbols:
    listed, changed, delisted = symbol_listed(), symbol_changed(event_id="c"), symbol_delisted()

    def test_a_change_replaces_all_fields(self) -> None:
        row = Given(Symbols(), self.listed, self.changed).row()
        assert (row.name, row.sector, row.market_cap, row.active) == ("Apple Inc.", None, None, True)
        assert (row.listed_at, row.updated_at, row.event_id) == (NOON, NOON + 1, "c")

    def test_a_delisted_symbol_keeps_its_fields_and_can_be_listed_again(self) -> None:
        spec = Given(Symbols(), self.listed, self.delisted)
        row = spec.row()
        assert (row.name, row.active, row.listed_at, row.updated_at) == ("Apple", False, NOON, NOON + 2)
        assert spec.when(self.changed).row().active is False
        assert spec.when(self.listed).row().active is True

    def test_an_unlisted_symbol_is_not_delisted_but_a_change_creates_it(self) -> None:
        assert Given(Symbols(), self.delisted).rows() == {}
        assert Given(Symbols(), self.changed).row().active is True


def test_a_universe_has_its_latest_definition() -> None:
    row = Given(Universes(), universe_defined(), universe_changed()).row()
    assert (row.symbols, row.name, row.defined_at, row.updated_at) == (["AAPL"], None, NOON, NOON + 1)
