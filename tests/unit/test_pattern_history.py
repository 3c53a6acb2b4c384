"""The spans in which the scan showed each state of a pattern, on both timelines, held to the oracle's fold."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from itertools import accumulate, starmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events import Event, PatternDetected, PatternExpired, PatternUpdated
from projections.base import decode_row
from projections.fold import DecodedEntry, decode_entries
from projections.pattern_history import (
    TIMELINES,
    Timeline,
    ValidityInterval,
    detection_of,
    interval_changes,
    microseconds,
    validity_intervals,
)
from projections.patterns import ActivePatterns, PatternRow
from tests.events import NOON, log_entry, pattern_detected, pattern_expired, pattern_updated
from tests.oracles.pattern_history import PastPattern, RecordedEvent, moments_of_change, patterns_at
from tests.strategies import histories

# The first in the midst of the moments of the strategies, so that recording falls before, among and after them.
gaps = st.lists(st.sampled_from((0.0, 0.0, 0.001, 1.0, 7_000.0, 40_000.0)), min_size=40, max_size=40)


def recorded(events: Iterable[Event], gaps: Iterable[float], begin: float = 878_510_000.0) -> list[RecordedEvent]:
    moments = accumulate(gaps, initial=begin)
    return [
        RecordedEvent(*numbered, moment) for *numbered, moment in zip(events, range(1, 1_000), moments, strict=False)
    ]


def by_detection(history: Iterable[RecordedEvent]) -> Iterable[list[DecodedEntry]]:
    projection = ActivePatterns()
    detections: dict[str | None, list[DecodedEntry]] = defaultdict(list)
    for reading in decode_entries(projection, starmap(log_entry, history)):
        detections[detection_of(projection, reading)].append(reading)
    return detections.values()


def spans(history: Iterable[RecordedEvent], timeline: Timeline) -> list[ValidityInterval]:
    """Those of all detections."""
    return [
        one for readings in by_detection(history) for one in validity_intervals(ActivePatterns(), timeline, readings)
    ]


def at(states: Iterable[ValidityInterval], moment: float) -> dict[str, PastPattern]:
    """The states whose spans contain a moment; of each pattern one at most."""
    instant = microseconds(moment)
    found = [one for one in states if one.start <= instant and (one.end is None or instant < one.end)]
    rows = {one.row.id: PastPattern(asdict(one.row), one.position) for one in found}
    assert len(rows) == len(found)
    return rows


@pytest.mark.parametrize("timeline", TIMELINES)
@given(histories, gaps)
def test_the_spans_around_a_moment_are_the_fold_of_what_was_known_by_then(
    timeline: Timeline, events: list[Event], gaps: list[float]
) -> None:
    history = recorded(events, gaps)
    states = spans(history, timeline)
    for moment in moments_of_change(history):
        assert at(states, moment) == patterns_at(history, timeline, moment)


@pytest.mark.parametrize("timeline", TIMELINES)
@given(histories, gaps)
def test_spans_are_not_empty_and_carry_their_documents(
    timeline: Timeline, events: list[Event], gaps: list[float]
) -> None:
    for one in spans(recorded(events, gaps), timeline):
        assert one.end is None or one.start < one.end
        assert decode_row(PatternRow, one.document) == (one.row, one.position)


@pytest.mark.parametrize("timeline", TIMELINES)
@given(histories, gaps, st.integers(0, 40))
def test_what_has_changed_makes_the_former_states_those_of_now(
    timeline: Timeline, events: list[Event], gaps: list[float], known: int
) -> None:
    for readings in by_detection(recorded(events, gaps)):
        before, after = interval_changes(ActivePatterns(), timeline, readings, known)
        former = [reading for reading in readings if reading.entry.position <= known]
        was = {one.identity for one in validity_intervals(ActivePatterns(), timeline, former)}
        gone, new = ({one.identity for one in states} for states in (before, after))
        assert gone <= was
        assert not gone & new
        assert was - gone | new == {one.identity for one in validity_intervals(ActivePatterns(), timeline, readings)}


def told(history: list[RecordedEvent], timeline: Timeline) -> list[tuple[float, float | None, float]]:
    """Seconds after noon between which a confidence was shown."""

    def after_noon(instant: int | None) -> float | None:
        return None if instant is None else instant / 1_000_000 - NOON

    return sorted((after_noon(one.start), after_noon(one.end), one.row.confidence) for one in spans(history, timeline))


def test_a_late_announcement_is_late_on_one_timeline_alone() -> None:
    events = [
        pattern_detected(occurred_at=NOON),
        pattern_updated(occurred_at=NOON + 60, confidence=0.9),
        pattern_expired(occurred_at=NOON + 120),
    ]
    history = recorded(events, [200, 5], NOON + 1)
    assert told(history, "recorded") == [(1, 201, 0.7), (201, 206, 0.9)]
    assert told(history, "valid") == [(0, 60, 0.7), (60, 120, 0.9)]


def test_what_the_scan_ignored_as_older_has_its_place_in_the_market() -> None:
    history = recorded(
        [
            pattern_detected(occurred_at=NOON),
            pattern_updated(occurred_at=NOON + 60, confidence=0.9),
            pattern_updated(occurred_at=NOON + 30, confidence=0.2),
        ],
        [1, 1],
    )
    assert told(history, "recorded")[1:] == [(history[1].recorded_at - NOON, None, 0.9)]
    assert told(history, "valid") == [(0, 30, 0.7), (30, 60, 0.2), (60, None, 0.9)]


def test_a_state_ends_at_its_expiry_though_nobody_says_so() -> None:
    history = recorded(
        [
            pattern_detected(occurred_at=NOON, expires_at=NOON + 50),
            pattern_updated(occurred_at=NOON + 90, expires_at=NOON + 200),
        ],
        [100],
        NOON,
    )
    assert told(history, "recorded") == [(0, 50, 0.7), (100, 200, 0.7)]


def test_what_is_recorded_in_one_millisecond_is_seen_as_one() -> None:
    history = recorded(
        [
            pattern_detected(occurred_at=NOON),
            pattern_updated(occurred_at=NOON + 1, confidence=0.9),
            pattern_expired(occurred_at=NOON + 2),
        ],
        [0, 3],
        NOON,
    )
    assert told(history, "recorded") == [(0, 3, 0.9)]


@pytest.mark.parametrize("timeline", TIMELINES)
def test_an_event_that_cannot_be_read_is_left_out(timeline: Timeline) -> None:
    readings = decode_entries(
        ActivePatterns(),
        starmap(
            log_entry, recorded([pattern_detected(occurred_at=NOON), pattern_expired(occurred_at=NOON + 9)], [5], NOON)
        ),
    )
    readings.append(replace_state(readings[0], b"no JSON"))
    assert len(validity_intervals(ActivePatterns(), timeline, readings)) == 1


def replace_state(reading: DecodedEntry, state: bytes) -> DecodedEntry:
    [unreadable] = decode_entries(ActivePatterns(), [reading.entry._replace(state=state, position=3)])
    assert unreadable.event is None
    assert detection_of(ActivePatterns(), unreadable) is None
    return unreadable


class Brittle(ActivePatterns):
    """Cannot fold a confidence of 0.9."""

    def evolve(
        self, row: PatternRow | None, event: PatternDetected | PatternUpdated | PatternExpired
    ) -> PatternRow | None:
        if getattr(event, "confidence", None) == 0.9:
            raise ZeroDivisionError
        return super().evolve(row, event)


@pytest.mark.parametrize("timeline", TIMELINES)
def test_an_event_that_cannot_be_folded_parks_its_pattern_alone(timeline: Timeline) -> None:
    events = [
        pattern_detected(occurred_at=NOON, tier="intraday"),
        pattern_detected(occurred_at=NOON + 1),
        pattern_updated(occurred_at=NOON + 2, tier="daily", confidence=0.9),
        pattern_updated(occurred_at=NOON + 3, confidence=0.1),
    ]
    readings = decode_entries(Brittle(), starmap(log_entry, recorded(events, [1, 1, 1], NOON)))
    found = {
        (one.row.tier, one.row.confidence, one.end is None) for one in validity_intervals(Brittle(), timeline, readings)
    }
    assert found == {("daily", 0.7, True), ("intraday", 0.7, False), ("intraday", 0.1, True)}


def test_moments_are_told_apart_by_the_microsecond() -> None:
    assert microseconds(1_757_001_600.123456) == 1_757_001_600_123_456
    assert microseconds(253_402_300_799.9) < 253_402_300_800_000_000
