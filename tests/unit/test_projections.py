"""The specifications of the read models: nothing yet, each event, duplicates, an unknown predecessor, late arrivals."""

from typing import Any

import pytest

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
    UniverseChanged,
    UniverseDefined,
)
from projections.activity import Activity
from projections.backtests import Backtests
from projections.patterns import ActivePatterns, confidence_band, pattern_id
from projections.producers import Producers
from projections.registry import READ_MODELS
from projections.symbols import Symbols
from projections.universes import Universes
from tests.unit.spec import Given

NOON = 1_757_001_600.0


def detected(**fields: Any) -> PatternDetected:
    known = {"event_id": "d", "occurred_at": NOON, "source": "test", "symbol": "AAPL", "pattern": "Doji"}
    return PatternDetected(**{**known, "detected_at": NOON, "tier": "daily", "confidence": 0.7, **fields})


def updated(**fields: Any) -> PatternUpdated:
    known = {"event_id": "u", "occurred_at": NOON + 60, "source": "test", "symbol": "AAPL", "pattern": "Doji"}
    return PatternUpdated(**{**known, "detected_at": NOON, **fields})


def expired(**fields: Any) -> PatternExpired:
    known = {"event_id": "x", "occurred_at": NOON + 90, "source": "test", "symbol": "AAPL", "pattern": "Doji"}
    return PatternExpired(**{**known, "detected_at": NOON, **fields})


@pytest.mark.parametrize("name", READ_MODELS)
def test_nothing_yet(name: str) -> None:
    assert Given(READ_MODELS[name]).rows() == {}


class TestPatterns:
    given = staticmethod(lambda *events: Given(ActivePatterns(), *events))

    def test_a_detection_begins_a_row(self) -> None:
        row = self.given(detected(rsi=61.5, extra={"details": {"a": 1}})).row()
        assert row.id == "AAPL:Doji:daily:1757001600000"
        assert (row.confidence, row.rsi, row.relative_strength) == (0.7, 61.5, None)
        assert row.extra == {"details": {"a": 1}}

    def test_a_row_names_the_event_and_position_that_last_changed_it(self) -> None:
        stored = self.given(detected(), updated(tier="daily", confidence=0.9)).stored()
        assert (stored.position, stored.row.event_id) == (2, "u")

    def test_a_duplicate_changes_nothing(self) -> None:
        once, twice = self.given(detected()), self.given(detected(), detected())
        assert once.rows() == twice.rows()

    def test_two_tiers_are_two_patterns(self) -> None:
        assert len(self.given(detected(), detected(tier="intraday")).rows()) == 2

    def test_two_detections_in_one_second_are_two_patterns(self) -> None:
        assert len(self.given(detected(), detected(detected_at=NOON + 0.001)).rows()) == 2

    def test_an_update_changes_what_it_says_and_no_more(self) -> None:
        row = self.given(detected(current_price=10.0)).when(updated(tier="daily", confidence=0.9)).row()
        assert (row.confidence, row.current_price, row.updated_at) == (0.9, 10.0, NOON + 60)

    def test_an_update_without_a_tier_speaks_for_every_tier(self) -> None:
        rows = self.given(detected(), detected(tier="anything at all")).when(updated(confidence=0.9)).rows()
        assert [row.confidence for row in rows.values()] == [0.9, 0.9]

    def test_an_expiry_without_a_tier_ends_every_tier(self) -> None:
        assert self.given(detected(), detected(tier="1min")).when(expired()).rows() == {}

    def test_an_expiry_of_one_tier_leaves_the_others(self) -> None:
        rows = self.given(detected(), detected(tier="1min")).when(expired(tier="1min")).rows()
        assert [row.tier for row in rows.values()] == ["daily"]

    def test_an_update_of_a_detection_that_was_missed_begins_it(self) -> None:
        assert self.given(updated(tier="daily", confidence=0.9)).row().confidence == 0.9

    def test_an_update_that_cannot_begin_a_row_is_nothing(self) -> None:
        assert self.given(updated(tier="daily")).rows() == {}
        assert self.given(updated(confidence=0.9)).rows() == {}

    def test_an_expiry_of_nothing_is_nothing(self) -> None:
        assert self.given(expired(), expired(tier="daily")).rows() == {}

    def test_an_older_update_that_comes_late_is_ignored(self) -> None:
        late = updated(tier="daily", confidence=0.1, occurred_at=NOON + 30)
        assert self.given(detected(), updated(tier="daily", confidence=0.9), late).row().confidence == 0.9

    def test_an_elapsed_expiry_does_not_end_what_was_prolonged(self) -> None:
        history = (detected(expires_at=NOON + 60), updated(tier="daily", expires_at=NOON + 600))
        assert self.given(*history, expired(tier="daily", reason="elapsed", expires_at=NOON + 60)).rows()
        assert not self.given(*history, expired(tier="daily", reason="elapsed", expires_at=NOON + 600)).rows()

    @pytest.mark.parametrize(
        ("confidence", "band"), [(0, "0.0-0.1"), (0.1, "0.1-0.2"), (0.55, "0.5-0.6"), (0.9, "0.9-1.0"), (1, "0.9-1.0")]
    )
    def test_confidence_bands(self, confidence: float, band: str) -> None:
        assert confidence_band(self.given(detected(confidence=confidence)).row()) == band

    def test_group_of_is_the_detection_whatever_the_symbol(self) -> None:
        key = pattern_id("X:BTCUSD", "Doji", "daily", NOON)
        assert ActivePatterns().group_of(key) == "X:BTCUSD:Doji:1757001600000"


class TestBacktests:
    given = staticmethod(lambda *events: Given(Backtests(), *events))

    @staticmethod
    def progressed(progress: float, at: float = 0, **fields: Any) -> Event:
        known = {"event_id": "p", "occurred_at": NOON + at, "source": "test", "job_id": "job"}
        return BacktestProgressed(**{**known, "progress": progress, **fields})

    @staticmethod
    def completed(at: float = 100, **results: Any) -> Event:
        return BacktestCompleted(
            event_id="c", occurred_at=NOON + at, source="test", job_id="job", results={"win_rate": 0.6, **results}
        )

    def test_progress(self) -> None:
        row = self.given(self.progressed(0.25), self.progressed(0.5, 10, current_symbol="AAPL")).row()
        assert (row.progress, row.current_symbol, row.started_at) == (0.5, "AAPL", NOON)

    def test_a_result_completes(self) -> None:
        row = self.given(self.progressed(0.25), self.completed()).row()
        assert (row.status, row.progress, row.ended_at) == ("completed", 1.0, NOON + 100)
        assert row.results == {"win_rate": 0.6}

    def test_a_result_without_progress_is_a_run_too(self) -> None:
        assert self.given(self.completed()).row().status == "completed"

    def test_progress_after_the_end_is_ignored(self) -> None:
        assert self.given(self.completed(), self.progressed(0.9, 200)).row().status == "completed"

    def test_older_progress_that_comes_late_is_ignored(self) -> None:
        assert self.given(self.progressed(0.5, 10), self.progressed(0.25, 5)).row().progress == 0.5

    def test_a_failure(self) -> None:
        failed = BacktestFailed(
            event_id="f", occurred_at=NOON, source="test", job_id="job", status="cancelled", error_message="no data"
        )
        row = self.given(self.progressed(0.25), failed).row()
        assert (row.status, row.progress, row.error_message) == ("cancelled", 0.25, "no data")


def report(status: str, at: float) -> HealthReported:
    return HealthReported(event_id="h", occurred_at=NOON + at, source="pl", status=status, metrics={"cpu": 0.5})


def test_the_latest_report_counts_in_whatever_order() -> None:
    row = Given(Producers(), report("healthy", 10), report("degraded", 5)).row()
    assert (row.status, row.reports, row.reported_at) == ("healthy", 2, NOON + 10)


def test_activity_counts_by_day_type_and_source() -> None:
    rows = Given(Activity(), detected(), detected(), detected(occurred_at=NOON + 86_400), report("healthy", 0)).rows()
    assert {key: row.events for key, row in rows.items()} == {
        "2025-09-04/PatternDetected/test": 2,
        "2025-09-05/PatternDetected/test": 1,
        "2025-09-04/HealthReported/pl": 1,
    }


class TestSymbols:
    said = {"event_id": "l", "occurred_at": NOON, "source": "test", "symbol": "AAPL"}
    listed = SymbolListed(**said, name="Apple", sector="Technology", market_cap=3e12)
    changed = SymbolChanged(**{**said, "event_id": "c", "occurred_at": NOON + 1}, name="Apple Inc.")
    delisted = SymbolDelisted(**{**said, "event_id": "d", "occurred_at": NOON + 2})

    def test_a_change_says_everything_anew(self) -> None:
        row = Given(Symbols(), self.listed, self.changed).row()
        assert (row.name, row.sector, row.market_cap, row.active) == ("Apple Inc.", None, None, True)
        assert (row.listed_at, row.updated_at, row.event_id) == (NOON, NOON + 1, "c")

    def test_a_delisted_symbol_stays_as_it_was_and_can_be_listed_again(self) -> None:
        given = Given(Symbols(), self.listed, self.delisted)
        row = given.row()
        assert (row.name, row.active, row.listed_at, row.updated_at) == ("Apple", False, NOON, NOON + 2)
        assert given.when(self.changed).row().active is False
        assert given.when(self.listed).row().active is True

    def test_what_was_never_listed_is_not_delisted_but_may_change(self) -> None:
        assert Given(Symbols(), self.delisted).rows() == {}
        assert Given(Symbols(), self.changed).row().active is True


def test_a_universe_is_what_was_said_last() -> None:
    said = {"occurred_at": NOON, "source": "test", "key": "mega_cap"}
    defined = UniverseDefined(**said, event_id="1", name="Mega caps", symbols=["AAPL", "MSFT"])
    changed = UniverseChanged(**{**said, "occurred_at": NOON + 1}, event_id="2", symbols=["AAPL"])
    row = Given(Universes(), defined, changed).row()
    assert (row.symbols, row.name, row.defined_at, row.updated_at) == (["AAPL"], None, NOON, NOON + 1)
