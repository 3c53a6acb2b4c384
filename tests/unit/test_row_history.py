"""Validity intervals of rows on both timelines: they equal the fold of the oracle at every moment."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, make_dataclass, replace
from itertools import accumulate, chain, starmap
from math import nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events import Event, HealthReported, PatternDetected, PatternExpired, PatternUpdated
from projections.activity import Activity
from projections.base import Group, Projection, decode_row
from projections.checks import ProjectionError
from projections.decoding import DecodedEntry, decode_entries
from projections.patterns import ActivePatterns, PatternRow
from projections.producers import Producers
from projections.queries import Timeline
from projections.registry import READ_MODELS, register_projection
from projections.row_history import (
    TIMELINES,
    HistoryChanges,
    State,
    StatePlace,
    ValidityInterval,
    by_unit,
    history_refusal,
    microseconds,
)
from projections.specification import log_entry
from projections.unit_history import UnitHistories, change_units, refold_units
from projections.workspaces import Workspaces
from tests.events import NOON, health_reported, pattern_detected, pattern_expired, pattern_updated
from tests.oracles.row_history import PROJECTIONS, PastRow, RecordedEvent, moments_of_change, rows_at
from tests.strategies import market_events

on_every_timeline = pytest.mark.parametrize("timeline", TIMELINES)
of_every_projection = pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)


def record(events: Iterable[Event], gaps: Iterable[float], begin: float = 1_757_010_000.0) -> list[RecordedEvent]:
    moments = accumulate(gaps, initial=begin)
    return [
        RecordedEvent(*numbered, moment) for *numbered, moment in zip(events, range(1, 1_000), moments, strict=False)
    ]


# Recording begins in the middle of the event times of the strategies, so it falls before, among and after them.
gaps = st.sampled_from((0.0, 0.0, 0.001, 1.0, 7_000.0, 40_000.0))

recorded_histories = st.lists(
    st.tuples(market_events, gaps), min_size=1, max_size=40, unique_by=lambda recorded: recorded[0].event_id
).map(lambda recorded: record(*zip(*recorded, strict=True)))
"""Histories with a gap after each recording."""


def units_of(projection: Projection[Any, Any], history: Iterable[RecordedEvent]) -> dict[str, list[DecodedEntry]]:
    """Return the decoded entries of each unit."""
    return by_unit(projection, decode_entries(projection, starmap(log_entry, history)))


def intervals_on_timelines(
    history: Iterable[RecordedEvent], projection: Projection[Any, Any]
) -> dict[Timeline, list[ValidityInterval]]:
    """Return the validity intervals of all units on each timeline."""
    _, changes = refold_units(projection, units_of(projection, history), 0)
    return {timeline: [interval for other, interval in changes.added if other == timeline] for timeline in TIMELINES}


def intervals_of(
    history: Iterable[RecordedEvent], timeline: Timeline, projection: Projection[Any, Any] | None = None
) -> list[ValidityInterval]:
    """Return the validity intervals of all units on a timeline."""
    return intervals_on_timelines(history, projection or ActivePatterns())[timeline]


def rows_from(intervals: Iterable[ValidityInterval], moment: float) -> dict[str, PastRow]:
    """Return the rows of the intervals that contain a moment. Each row has at most one such interval."""
    instant = microseconds(moment)
    matches = [item for item in intervals if item.start <= instant and (item.end is None or instant < item.end)]
    rows = {item.key: PastRow(asdict(item.row), item.position) for item in matches}
    assert len(rows) == len(matches)
    return rows


@of_every_projection
@given(history=recorded_histories)
def test_the_intervals_at_a_moment_equal_the_fold_of_the_events_known_by_the_moment(
    projection: Projection[Any, Any], history: list[RecordedEvent]
) -> None:
    for timeline, intervals in intervals_on_timelines(history, projection).items():
        for moment in moments_of_change(history):
            assert rows_from(intervals, moment) == rows_at(projection, history, timeline, moment)


@of_every_projection
@given(history=recorded_histories)
def test_intervals_are_not_empty_and_contain_the_documents_of_their_rows(
    projection: Projection[Any, Any], history: list[RecordedEvent]
) -> None:
    for interval in chain(*intervals_on_timelines(history, projection).values()):
        assert interval.end is None or interval.start < interval.end
        assert decode_row(projection.row, interval.document) == (interval.row, interval.position)


Stored = dict[StatePlace, tuple[int, int | None, bytes]]
"""The start, the end and the document of each state of a history."""


def stored(states: Iterable[State]) -> Stored:
    """Return states as a history stores them."""
    return {StatePlace(timeline, one.key, one.position): (one.start, one.end, one.document) for timeline, one in states}


def change(present: Stored, changes: HistoryChanges) -> None:
    """Change a history. Each change must fit the stored states."""
    for place, new_end in changes.ended:
        start, end, document = present[place]
        assert end != new_end
        present[place] = start, new_end, document
    for place in changes.removed:
        del present[place]
    added = stored(changes.added)
    assert len(added) == len(changes.added)
    assert not added.keys() & present.keys()
    present |= added


def states_after(projection: Projection[Any, Any], history: Iterable[RecordedEvent]) -> Stored:
    """Return the history after events that are folded from the beginning, all at once."""
    return stored(refold_units(projection, units_of(projection, history), 0)[1].added)


@of_every_projection
@given(history=recorded_histories, known_position=st.integers(0, 40))
def test_a_fold_from_the_beginning_turns_the_former_intervals_into_the_current_intervals(
    projection: Projection[Any, Any], history: list[RecordedEvent], known_position: int
) -> None:
    present = states_after(projection, history[:known_position])
    units = units_of(projection, history)
    change(present, refold_units(projection, units, known_position)[1])
    assert present == states_after(projection, history)


@of_every_projection
@given(history=recorded_histories, sizes=st.lists(st.integers(1, 10), max_size=40))
def test_later_events_continue_a_history_like_a_fold_from_the_beginning(
    projection: Projection[Any, Any], history: list[RecordedEvent], sizes: list[int]
) -> None:
    present: Stored = {}
    kept: dict[str, UnitHistories] = {}
    known = 0
    for size in (*sizes, len(history)):
        units = units_of(projection, history[known : known + size])
        complete = units_of(projection, history[: known + size])
        is_continued = {
            unit: unit in kept and all(one.precedes(entries) for one in kept[unit]) for unit, entries in units.items()
        }
        continued = {unit: (kept[unit], entries) for unit, entries in units.items() if is_continued[unit]}
        change(present, change_units(projection, continued, known))
        refolded, changes = refold_units(
            projection, {unit: complete[unit] for unit in units if not is_continued[unit]}, known
        )
        change(present, changes)
        kept |= refolded
        known += size
    assert present == states_after(projection, history)


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


@dataclass(frozen=True)
class Mention:
    """A row of ``Mentions``."""

    reports: int


class Mentions(Projection[Mention, HealthReported]):
    """Counts reports by source, and of each source that a report names: an event addresses several units."""

    name = "mentions"
    version = 1
    row = Mention
    key = "source"
    handles = (HealthReported,)

    def keys(self, event: HealthReported) -> tuple[str | Group, ...]:
        return event.source, *map(str, event.metrics.get("also", ())), Group(f"all {event.status}")

    def group_of(self, key: str) -> str | None:
        return "all ok" if key.startswith("ok") else None

    def evolve(self, row: Mention | None, event: HealthReported) -> Mention:
        del event
        return Mention(row.reports + 1 if row else 1)


def test_an_event_about_rows_of_several_units_is_folded_into_each_unit() -> None:
    reports = [
        health_reported(source="ok-1", status="ok", metrics={"also": ["b", "ok-2"]}),
        health_reported(source="b", status="bad", metrics={"also": ["c"]}),
        health_reported(source="c", status="ok"),
    ]
    history = record(reports, [1, 1], NOON)
    units = units_of(Mentions(), history)
    assert {unit: [entry.entry.position for entry in entries] for unit, entries in units.items()} == {
        "all ok": [1, 3],
        "b": [1, 2],
        "all bad": [2],
        "c": [2, 3],
    }
    last = rows_from(intervals_of(history, "recorded", Mentions()), NOON + 9)
    assert {key: (row["reports"], position) for key, (row, position) in last.items()} == {
        "ok-1": (2, 3),
        "ok-2": (2, 3),
        "b": (2, 2),
        "c": (2, 3),
    }


def test_an_unreadable_event_is_ignored() -> None:
    history = record([pattern_detected(occurred_at=NOON)], [], NOON)
    [entry] = starmap(log_entry, history)
    entries = decode_entries(ActivePatterns(), [entry, entry._replace(state=b"no JSON", position=2)])
    assert entries[1].event is None
    [unit] = by_unit(ActivePatterns(), entries).values()
    assert unit == entries[:1]


class FailingPatterns(ActivePatterns):
    """A projection that fails to fold a confidence of 0.9."""

    def evolve(
        self, row: PatternRow | None, event: PatternDetected | PatternUpdated | PatternExpired
    ) -> PatternRow | None:
        if getattr(event, "confidence", None) == 0.9:
            raise ZeroDivisionError
        return super().evolve(row, event)


class UnplaceablePatterns(ActivePatterns):
    """A projection that turns a confidence of 0.9 into a number that no index can order."""

    def evolve(
        self, row: PatternRow | None, event: PatternDetected | PatternUpdated | PatternExpired
    ) -> PatternRow | None:
        evolved = super().evolve(row, event)
        return replace(evolved, rsi=nan) if evolved and evolved.confidence == 0.9 else evolved


@on_every_timeline
@pytest.mark.parametrize("projection", [FailingPatterns(), UnplaceablePatterns()], ids=["fails", "cannot be placed"])
def test_an_event_that_cannot_be_folded_only_parks_its_pattern(
    projection: Projection[Any, Any], timeline: Timeline
) -> None:
    events = [
        pattern_detected(occurred_at=NOON, tier="intraday"),
        pattern_detected(occurred_at=NOON + 1),
        pattern_updated(occurred_at=NOON + 2, tier="daily", confidence=0.9),
        pattern_updated(occurred_at=NOON + 3, confidence=0.1),
    ]
    history = record(events, [1, 1, 1], NOON)
    result = {
        (item.row.tier, item.row.confidence, item.end is None) for item in intervals_of(history, timeline, projection)
    }
    assert result == {("daily", 0.7, True), ("intraday", 0.7, False), ("intraday", 0.1, True)}


def test_a_parked_pattern_stays_as_it_is_in_later_batches() -> None:
    projection = FailingPatterns()
    history = record([pattern_updated(occurred_at=NOON, confidence=each) for each in (0.5, 0.9, 0.1)], [1, 1])
    kept, _ = refold_units(projection, units_of(projection, history[:2]), 0)
    later = {unit: (kept[unit], entries) for unit, entries in units_of(projection, history[2:]).items()}
    assert len(later) == 1
    assert not any(change_units(projection, later, 2))


def test_moments_are_converted_to_microseconds() -> None:
    assert microseconds(1_757_001_600.123456) == 1_757_001_600_123_456
    assert microseconds(253_402_300_799.9) < 253_402_300_800_000_000
    assert microseconds(float("inf")) == microseconds(253_402_300_799)
    assert microseconds(-1e300) < microseconds(-62_135_596_799)


def test_merging_read_models_and_the_log_of_the_users_have_no_history() -> None:
    def refusal(name: str) -> str | None:
        return history_refusal(type("Historic", (type(READ_MODELS[name]),), {"history": "its_history"}))

    assert {name for name in READ_MODELS if refusal(name)} == {Activity.name, Producers.name, Workspaces.name}
    assert "merges rows" in str(refusal(Activity.name))
    assert "folds the logs 'users'" in str(refusal(Workspaces.name))


@pytest.mark.parametrize(
    ("name", "column", "is_refused"),
    [
        ("x" * 46, "y" * 7, False),
        ("x" * 47, "y", True),
        ("x" * 46, "y" * 8, True),
        ("x", "é" * 26, False),
        ("x", "é" * 27, True),
    ],
)
def test_names_that_postgresql_would_shorten_are_refused(name: str, column: str, is_refused: bool) -> None:
    members = {"name": name, "history": f"{name}_history", "row": make_dataclass("Row", [(column, str)], frozen=True)}
    refusal = history_refusal(type("Named", (Mentions,), members))
    assert ("is longer than 63 bytes" in (refusal or "")) == is_refused


@pytest.mark.parametrize("history", ["events", "_history", "Its_history", "its_history_recorded", "its history"])
def test_a_history_whose_tables_could_be_others_is_refused(history: str) -> None:
    assert f"has the history {history!r}" in str(history_refusal(type("Named", (Mentions,), {"history": history})))


def test_two_read_models_cannot_share_a_history() -> None:
    shared = type("Shared", (Mentions,), {"history": ActivePatterns.history})()
    with pytest.raises(ProjectionError, match="has the history pattern_history, which patterns already has"):
        register_projection(shared)
    assert Mentions.name not in READ_MODELS
