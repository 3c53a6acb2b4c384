"""Validity intervals of patterns on both timelines: they equal the fold of the oracle at every moment."""

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
from tests.oracles.row_history import PastPattern, RecordedEvent, moments_of_change, patterns_at
from tests.strategies import histories

# Recording begins in the middle of the event times of the strategies, so it falls before, among and after them.
gaps = st.lists(st.sampled_from((0.0, 0.0, 0.001, 1.0, 7_000.0, 40_000.0)), min_size=40, max_size=40)


def record(events: Iterable[Event], gaps: Iterable[float], begin: float = 878_510_000.0) -> list[RecordedEvent]:
    moments = accumulate(gaps, initial=begin)
    return [
        RecordedEvent(*numbered, moment) for *numbered, moment in zip(events, range(1, 1_000), moments, strict=False)
    ]


def by_detection(history: Iterable[RecordedEvent]) -> Iterable[list[DecodedEntry]]:
    """Group the decoded entries by detection."""
    projection = ActivePatterns()
    detections: dict[str | None, list[DecodedEntry]] = defaultdict(list)
    for entry in decode_entries(projection, starmap(log_entry, history)):
        detections[detection_of(projection, entry)].append(entry)
    return detections.values()


def intervals_of(history: Iterable[RecordedEvent], timeline: Timeline) -> list[ValidityInterval]:
    """Return the validity intervals of all detections."""
    return [
        interval
        for entries in by_detection(history)
        for interval in validity_intervals(ActivePatterns(), timeline, entries)
    ]


def patterns_from(intervals: Iterable[ValidityInterval], moment: float) -> dict[str, PastPattern]:
    """Return the patterns of the intervals that contain a moment. Each pattern has at most one such interval."""
    instant = microseconds(moment)
    matches = [item for item in intervals if item.start <= instant and (item.end is None or instant < item.end)]
    rows = {item.row.id: PastPattern(asdict(item.row), item.position) for item in matches}
    assert len(rows) == len(matches)
    return rows


@pytest.mark.parametrize("timeline", TIMELINES)
@given(histories, gaps)
def test_the_intervals_at_a_moment_equal_the_fold_of_the_events_known_by_the_moment(
    timeline: Timeline, events: list[Event], gaps: list[float]
) -> None:
    history = record(events, gaps)
    intervals = intervals_of(history, timeline)
    for moment in moments_of_change(history):
        assert patterns_from(intervals, moment) == patterns_at(history, timeline, moment)


@pytest.mark.parametrize("timeline", TIMELINES)
@given(histories, gaps)
def test_intervals_are_not_empty_and_contain_the_documents_of_their_rows(
    timeline: Timeline, events: list[Event], gaps: list[float]
) -> None:
    for interval in intervals_of(record(events, gaps), timeline):
        assert interval.end is None or interval.start < interval.end
        assert decode_row(PatternRow, interval.document) == (interval.row, interval.position)


@pytest.mark.parametrize("timeline", TIMELINES)
@given(histories, gaps, st.integers(0, 40))
def test_interval_changes_turn_the_former_intervals_into_the_current_intervals(
    timeline: Timeline, events: list[Event], gaps: list[float], known_position: int
) -> None:
    for entries in by_detection(record(events, gaps)):
        removed, added = interval_changes(ActivePatterns(), timeline, entries, known_position)
        former_entries = [entry for entry in entries if entry.entry.position <= known_position]
        former = {interval.identity for interval in validity_intervals(ActivePatterns(), timeline, former_entries)}
        removed_ids, added_ids = ({interval.identity for interval in intervals} for intervals in (removed, added))
        assert removed_ids <= former
        assert not removed_ids & added_ids
        current = {interval.identity for interval in validity_intervals(ActivePatterns(), timeline, entries)}
        assert former - removed_ids | added_ids == current


def confidences(history: list[RecordedEvent], timeline: Timeline) -> list[tuple[float, float | None, float]]:
    """Return (start, end, confidence) of each interval, in seconds after noon."""

    def after_noon(instant: int | None) -> float | None:
        return None if instant is None else instant / 1_000_000 - NOON

    return sorted(
        (after_noon(item.start), after_noon(item.end), item.row.confidence) for item in intervals_of(history, timeline)
    )


def test_a_late_announcement_is_late_only_on_the_recorded_timeline() -> None:
    events = [
        pattern_detected(occurred_at=NOON),
        pattern_updated(occurred_at=NOON + 60, confidence=0.9),
        pattern_expired(occurred_at=NOON + 120),
    ]
    history = record(events, [200, 5], NOON + 1)
    assert confidences(history, "recorded") == [(1, 201, 0.7), (201, 206, 0.9)]
    assert confidences(history, "valid") == [(0, 60, 0.7), (60, 120, 0.9)]


def test_a_late_older_update_has_an_interval_only_on_the_valid_timeline() -> None:
    history = record(
        [
            pattern_detected(occurred_at=NOON),
            pattern_updated(occurred_at=NOON + 60, confidence=0.9),
            pattern_updated(occurred_at=NOON + 30, confidence=0.2),
        ],
        [1, 1],
    )
    assert confidences(history, "recorded")[1:] == [(history[1].recorded_at - NOON, None, 0.9)]
    assert confidences(history, "valid") == [(0, 30, 0.7), (30, 60, 0.2), (60, None, 0.9)]


def test_an_interval_ends_at_the_expiry_without_an_event() -> None:
    history = record(
        [
            pattern_detected(occurred_at=NOON, expires_at=NOON + 50),
            pattern_updated(occurred_at=NOON + 90, expires_at=NOON + 200),
        ],
        [100],
        NOON,
    )
    assert confidences(history, "recorded") == [(0, 50, 0.7), (100, 200, 0.7)]


def test_events_recorded_in_one_millisecond_make_one_interval() -> None:
    history = record(
        [
            pattern_detected(occurred_at=NOON),
            pattern_updated(occurred_at=NOON + 1, confidence=0.9),
            pattern_expired(occurred_at=NOON + 2),
        ],
        [0, 3],
        NOON,
    )
    assert confidences(history, "recorded") == [(0, 3, 0.9)]


@pytest.mark.parametrize("timeline", TIMELINES)
def test_an_unreadable_event_is_ignored(timeline: Timeline) -> None:
    entries = decode_entries(
        ActivePatterns(),
        starmap(
            log_entry, record([pattern_detected(occurred_at=NOON), pattern_expired(occurred_at=NOON + 9)], [5], NOON)
        ),
    )
    entries.append(replace_state(entries[0], b"no JSON"))
    assert len(validity_intervals(ActivePatterns(), timeline, entries)) == 1


def replace_state(entry: DecodedEntry, state: bytes) -> DecodedEntry:
    [unreadable] = decode_entries(ActivePatterns(), [entry.entry._replace(state=state, position=3)])
    assert unreadable.event is None
    assert detection_of(ActivePatterns(), unreadable) is None
    return unreadable


class FailingPatterns(ActivePatterns):
    """A projection that fails to fold a confidence of 0.9."""

    def evolve(
        self, row: PatternRow | None, event: PatternDetected | PatternUpdated | PatternExpired
    ) -> PatternRow | None:
        if getattr(event, "confidence", None) == 0.9:
            raise ZeroDivisionError
        return super().evolve(row, event)


@pytest.mark.parametrize("timeline", TIMELINES)
def test_an_event_that_cannot_be_folded_only_parks_its_pattern(timeline: Timeline) -> None:
    events = [
        pattern_detected(occurred_at=NOON, tier="intraday"),
        pattern_detected(occurred_at=NOON + 1),
        pattern_updated(occurred_at=NOON + 2, tier="daily", confidence=0.9),
        pattern_updated(occurred_at=NOON + 3, confidence=0.1),
    ]
    entries = decode_entries(FailingPatterns(), starmap(log_entry, record(events, [1, 1, 1], NOON)))
    result = {
        (item.row.tier, item.row.confidence, item.end is None)
        for item in validity_intervals(FailingPatterns(), timeline, entries)
    }
    assert result == {("daily", 0.7, True), ("intraday", 0.7, False), ("intraday", 0.1, True)}


def test_moments_are_converted_to_microseconds() -> None:
    assert microseconds(1_757_001_600.123456) == 1_757_001_600_123_456
    assert microseconds(253_402_300_799.9) < 253_402_300_800_000_000
