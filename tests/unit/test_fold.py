"""Rows and parked events do not depend on the limits of batches, and changes add up to the placement of the rows."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events import Event
from projections.base import StoredRow
from projections.decoding import decode_entries
from projections.fold import FoldResult, LoadedState, Parked, fold, overlay
from projections.mutations import Mutations, derive
from projections.patterns import ActivePatterns, PatternRow
from projections.placement import Placement, place
from projections.specification import log_entries
from tests.events import NOON, pattern_detected, pattern_expired, pattern_updated

UNPLACED, UNENCODED, UNFOLDED = 0.1, 0.2, 0.3
"""Confidences of rows that the projection cannot place, cannot encode, and does not create."""


class FaultyPatterns(ActivePatterns):
    """Patterns whose rows cannot be placed, encoded or folded at some confidences."""

    def evolve(self, row: PatternRow | None, event: Any) -> PatternRow | None:
        evolved = super().evolve(row, event)
        if evolved and evolved.confidence == UNFOLDED:
            raise ZeroDivisionError
        if evolved and evolved.confidence == UNENCODED:
            evolved.extra["value"] = object()
        return evolved


FaultyPatterns.indexes = tuple(
    index._replace(score=lambda row: float("nan") if row.confidence == UNPLACED else row.confidence)
    if index.name == "confidence"
    else index
    for index in ActivePatterns.indexes
)

confidences = st.sampled_from([UNPLACED, UNENCODED, UNFOLDED, 0.8, 0.9])
symbols = st.sampled_from(["AAPL", "MSFT"])
events = (
    st.builds(lambda symbol, confidence: pattern_detected(symbol=symbol, confidence=confidence), symbols, confidences)
    | st.builds(lambda symbol, confidence: pattern_updated(symbol=symbol, confidence=confidence), symbols, confidences)
    | st.builds(lambda symbol: pattern_expired(symbol=symbol), symbols)
)


PROJECTION = FaultyPatterns()


def folds(history: Sequence[Event], ends: Sequence[int], loaded: LoadedState) -> Iterator[FoldResult]:
    """Fold the history in batches with these ends. ``loaded`` follows the folds."""
    entries = log_entries(history)
    for start, end in pairwise([0, *ends, len(entries)]):
        folded = fold(PROJECTION, loaded, decode_entries(PROJECTION, entries[start:end]))
        yield folded
        overlay(loaded, folded)


def fold_in_batches(history: Sequence[Event], ends: Sequence[int]) -> tuple[dict[str, StoredRow[Any]], list[Parked]]:
    loaded = LoadedState()
    parked = [parked for folded in folds(history, ends, loaded) for parked in folded.parked]
    return loaded.rows, parked


def apply(placement: Placement, mutations: Mutations) -> None:
    """Change a placement as a commit changes the store."""
    for name, keys in mutations.index_removals.items():
        for key in keys:
            del placement.indexes[name][key]
    for name, scores in mutations.index_additions.items():
        placement.indexes[name].update(scores)
    for column, texts in mutations.texts.items():
        for key, text in texts.items():
            if text is None:
                del placement.texts[column][key]
            else:
                placement.texts[column][key] = text
    for name, change in mutations.counts.items():
        placement.counts[name] += change


def without_empty(placement: Placement) -> list[dict[Any, Any]]:
    parts: list[dict[Any, Any]] = [placement.indexes, placement.texts, placement.counts]
    return [{name: value for name, value in part.items() if value} for part in parts]


@given(st.lists(events, max_size=12), st.data())
def test_the_changes_of_all_batches_add_up_to_the_placement_of_the_rows(
    history: list[Event], data: st.DataObject
) -> None:
    ends = sorted(data.draw(st.lists(st.integers(0, len(history)), max_size=4)))
    placement, loaded = Placement(), LoadedState()
    for folded in folds(history, ends, loaded):
        apply(placement, derive(PROJECTION, folded))
    rows = {key: stored.row for key, stored in loaded.rows.items()}
    assert without_empty(placement) == without_empty(place(PROJECTION, rows))


def test_a_batch_writes_only_the_last_state_of_a_row() -> None:
    history = [pattern_detected(confidence=0.8), pattern_updated(confidence=0.9, occurred_at=NOON + 1)]
    [folded] = folds(history, [], LoadedState())
    [key] = folded.after
    mutations = derive(PROJECTION, folded)
    assert mutations.index_additions["confidence", ""] == {key: 0.9}
    assert {group: change for (name, group), change in mutations.counts.items() if name == "by_confidence"} == {
        "0.9-1.0": 1
    }
    [ended] = folds([*history, pattern_expired(occurred_at=NOON + 2)], [], LoadedState())
    assert derive(PROJECTION, ended) == Mutations()


@given(st.lists(events, max_size=12), st.data())
def test_rows_and_parked_events_do_not_depend_on_the_limits_of_the_batches(
    history: list[Event], data: st.DataObject
) -> None:
    numbered = [event.model_copy(update={"event_id": str(number)}) for number, event in enumerate(history)]
    ends = sorted(data.draw(st.lists(st.integers(0, len(history)), max_size=4)))
    one_by_one = fold_in_batches(numbered, range(1, len(numbered)))
    assert fold_in_batches(numbered, []) == fold_in_batches(numbered, ends) == one_by_one


@pytest.mark.parametrize("confidence", [UNPLACED, UNENCODED, UNFOLDED])
def test_an_event_whose_row_cannot_be_stored_is_parked_though_a_later_event_of_the_batch_mends_the_row(
    confidence: float,
) -> None:
    history = [
        pattern_detected(confidence=0.8),
        pattern_updated(confidence=confidence, occurred_at=NOON + 1),
        pattern_updated(confidence=0.9, occurred_at=NOON + 2),
    ]
    rows, parked = fold_in_batches(history, [])
    [stored] = rows.values()
    assert (stored.position, stored.row.confidence) == (1, 0.8)
    assert [(each.entry.position, each.error is None) for each in parked] == [(2, False), (3, True)]
