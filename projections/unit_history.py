"""The fold of the events of units into validity intervals of their rows.

The module is pure: the events of units go in, the changes of the history come out. The events of many units are folded
together, because the fold of a single event would cost about as much as that of ten.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple

from projections.base import Projection, StoredRow
from projections.decoding import DecodedEntry
from projections.fold import EvolvedRow, LoadedState, fold_states
from projections.queries import Timeline
from projections.row_history import (
    TIMELINES,
    HistoryChanges,
    State,
    StatePlace,
    ValidityInterval,
    microseconds,
    unit_of,
)


def _time_of(decoded: DecodedEntry, timeline: Timeline) -> float:
    """Return the time of an event on a timeline."""
    if timeline == "recorded":
        return decoded.entry.recorded_at
    assert decoded.event is not None
    return decoded.event.occurred_at


class _RowState(NamedTuple):
    """The last state of a row."""

    starts: tuple[int, ...]
    """The moment at which the state began, on each timeline."""
    end: int | None
    """The moment at which the row ends by itself."""
    stored: StoredRow[Any]


class UnitHistory:
    """The last states of the rows of one unit on some timelines, after the events that were folded so far.

    The events are folded once for all of these timelines, and must therefore have one order on them. An event that
    cannot be folded parks its row, whose state then stays. Thousands of these objects stay in memory.

    Args:
        timelines: The timelines.
    """

    __slots__ = ("_latest", "_parked", "_states", "_timelines")

    def __init__(self, *timelines: Timeline) -> None:
        self._timelines = timelines
        self._latest: tuple[float, ...] = (-inf,) * len(timelines)
        """The time of the last event on each timeline."""
        self._states: dict[str, _RowState] = {}
        self._parked: frozenset[str] = frozenset()

    @property
    def has_rows(self) -> bool:
        """Whether the unit has rows."""
        return bool(self._states)

    def precedes(self, entries: Sequence[DecodedEntry]) -> bool:
        """Return whether later entries of the log come after the folded ones on each timeline, in one order on all."""
        for timeline, latest in zip(self._timelines, self._latest, strict=True):
            if any(_time_of(decoded, timeline) < latest for decoded in entries):
                return False
        return len(self._timelines) == 1 or is_in_one_order(entries)

    def load(self, unit: str, loaded: LoadedState) -> None:
        """Add the rows of the unit to the state that a fold requires."""
        for key, state in self._states.items():
            loaded.rows[key] = state.stored
        loaded.groups[unit] = {*self._states, *self._parked}
        loaded.parked |= self._parked

    def park(self, key: str) -> None:
        """Leave the row with this key as it is."""
        self._parked |= {key}

    def in_order(self, entries: Sequence[DecodedEntry]) -> Sequence[DecodedEntry]:
        """Return entries, which are in the order of their positions, in the order of the timelines."""
        if self._timelines != ("valid",):  # Times of recording never decrease along a log.
            return entries
        return sorted(entries, key=lambda decoded: (_time_of(decoded, "valid"), decoded.entry.position))

    def change(self, steps: Iterable["_Step"], ends: str | None, known: int, changes: HistoryChanges) -> None:
        """Take over the states after further events.

        Args:
            steps: The events in the order of the timelines, each with the rows that it changed.
            ends: The name of the column with the moment at which a row ends by itself.
            known: The position up to which the events are in the history already.
            changes: The changes of the history, to which those of the later events are added.
        """
        begun: dict[str, tuple[_RowState, bytes]] = {}
        for decoded, after in steps:
            self._latest = tuple([_time_of(decoded, timeline) for timeline in self._timelines])
            moments = tuple([microseconds(moment) for moment in self._latest])
            is_new = decoded.entry.position > known
            for key, (stored, document) in after:
                if key in begun:
                    changes.added.extend(self._intervals(key, *begun.pop(key), moments))
                elif is_new and key in self._states:
                    self._end(key, moments, changes)
                if stored is None or document is None:
                    self._states.pop(key, None)
                    continue
                moment = getattr(stored.row, ends) if ends else None
                state = _RowState(moments, None if moment is None else microseconds(moment), stored)
                self._states[key] = state
                if is_new:
                    begun[key] = state, document
        for key, (state, document) in begun.items():
            changes.added.extend(self._intervals(key, state, document, None))

    def _end(self, key: str, moments: Iterable[int], changes: HistoryChanges) -> None:
        """End a state that is in the history, unless it has ended by itself before."""
        starts, end, (_, position) = self._states[key]
        for timeline, start, moment in zip(self._timelines, starts, moments, strict=True):
            if end is not None and end <= moment:
                continue
            if start < moment:
                changes.ended.append((StatePlace(timeline, key, position), moment))
            else:
                changes.removed.append(StatePlace(timeline, key, position))

    def _intervals(
        self, key: str, state: _RowState, document: bytes, moments: tuple[int, ...] | None
    ) -> Iterator[State]:
        """Yield the intervals of a state that are not empty. The next event or an earlier end of the row ends them."""
        starts, end, (row, position) = state
        for number, timeline in enumerate(self._timelines):
            until = end
            if moments is not None and (end is None or moments[number] < end):
                until = moments[number]
            if until is None or starts[number] < until:
                yield timeline, ValidityInterval(key, starts[number], until, row, position, document)


_Step = tuple[DecodedEntry, Sequence[tuple[str, EvolvedRow]]]
"""An event, and the rows after it that it changed."""

UnitHistories = tuple[UnitHistory, ...]
"""The histories of one unit, which together have every timeline."""


def change_units(
    projection: Projection[Any, Any],
    units: Mapping[str, tuple[UnitHistories, Sequence[DecodedEntry]]],
    known: int,
) -> HistoryChanges:
    """Fold further events of units.

    Args:
        projection: The projection of the rows.
        units: The histories of each unit, with its further events in the order of their positions (see ``by_unit``).
            Each of the histories must precede the events.
        known: The position up to which the events are in the history already.

    Returns:
        How the events behind ``known`` change the history.
    """
    changes = HistoryChanges([], [], [])
    for number in range(len(TIMELINES)):
        # The histories of one unit have the same keys.
        separate = {
            unit: (histories[number], histories[number].in_order(entries))
            for unit, (histories, entries) in units.items()
            if number < len(histories)
        }
        if separate:
            _change_separate(projection, separate, known, changes)
    return changes


def _change_separate(
    projection: Projection[Any, Any],
    units: Mapping[str, tuple[UnitHistory, Sequence[DecodedEntry]]],
    known: int,
    changes: HistoryChanges,
) -> None:
    loaded = LoadedState()
    entries: list[DecodedEntry] = []
    for unit, (history, own) in units.items():
        history.load(unit, loaded)
        entries += own
    states, parked = fold_states(projection, loaded, entries)
    steps = zip(entries, states, strict=True)
    for history, own in units.values():
        history.change([next(steps) for _ in own], projection.ends, known, changes)
    for key in parked:
        units[unit_of(projection, key)][0].park(key)


def is_in_one_order(entries: Iterable[DecodedEntry]) -> bool:
    """Return whether entries, which are in the order of their positions, have this order on each timeline."""
    return all(_time_of(one, "valid") <= _time_of(other, "valid") for one, other in pairwise(entries))


def refold_units(
    projection: Projection[Any, Any], units: Mapping[str, Sequence[DecodedEntry]], known: int
) -> tuple[dict[str, UnitHistories], HistoryChanges]:
    """Fold all events of units anew, on every timeline.

    Args:
        projection: The projection of the rows.
        units: All events of each unit in the order of their positions (see ``by_unit``).
        known: The position up to which the events are in the history already.

    Returns:
        The histories of each unit, and how the events behind ``known`` change the history.
    """
    in_one_order = {
        unit: ((UnitHistory(*TIMELINES),), entries) for unit, entries in units.items() if is_in_one_order(entries)
    }
    changes = change_units(projection, in_one_order, known)
    histories: dict[str, UnitHistories] = {unit: own for unit, (own, _) in in_one_order.items()}
    for unit, entries in units.items():
        if unit not in histories:
            refolded = [_refold(projection, unit, entries, known, timeline) for timeline in TIMELINES]
            histories[unit] = tuple([history for history, _ in refolded])
            for _, own in refolded:
                changes.extend(own)
    return histories, changes


def _refold(
    projection: Projection[Any, Any], unit: str, entries: Sequence[DecodedEntry], known: int, timeline: Timeline
) -> tuple[UnitHistory, HistoryChanges]:
    """Fold all events of a unit anew on one timeline."""
    former = [decoded for decoded in entries if decoded.entry.position <= known]
    later = entries[len(former) :]
    history = UnitHistory(timeline)
    before = change_units(projection, {unit: ((history,), former)}, 0)
    if history.precedes(later):
        return history, change_units(projection, {unit: ((history,), later)}, known)
    history = UnitHistory(timeline)
    after = change_units(projection, {unit: ((history,), entries)}, 0)
    return history, _difference(timeline, before.added, after.added)


def _difference(timeline: Timeline, before: Iterable[State], after: Iterable[State]) -> HistoryChanges:
    changes = HistoryChanges([], [], [])
    added = {(interval.key, interval.position): interval for _, interval in after}
    for _, interval in before:
        place = StatePlace(timeline, interval.key, interval.position)
        same = added.get(place[1:])
        if same is None or same.document != interval.document or (same.end is None and interval.end is not None):
            changes.removed.append(place)
            continue
        del added[place[1:]]
        if same.end is not None and same.end != interval.end:
            changes.ended.append((place, same.end))
    changes.added.extend((timeline, interval) for interval in added.values())
    return changes
