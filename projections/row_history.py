"""The history of a read model: each state of each row with its validity interval.

It has two timelines. The timeline ``recorded`` has the states that TickView knew at a time. The timeline ``valid`` has
the states that TickView knows now about a time. ``docs/as-of.md`` has examples. The module is pure: the events of a
unit go in, the validity intervals come out. A unit is a group of rows, or a row that has no group: every event that can
change a row of the unit addresses the unit.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple

from domain.streams import MARKET_LOG
from projections.base import Group, Projection, StoredRow
from projections.decoding import DecodedEntry
from projections.fold import EvolvedRow, LoadedState, fold, overlay
from projections.queries import AnyProjection, Timeline

TIMELINES: tuple[Timeline, ...] = ("recorded", "valid")
"""All timelines."""

MAX_NAME_BYTES = 63
"""Highest number of bytes in the name of a table or an index in PostgreSQL."""

_NAME = re.compile("[a-z][a-z0-9_]*_history")

_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799
"""The first and the last second of the years 1 to 9999."""


class ValidityInterval(NamedTuple):
    """A state of a row and the interval in which queries returned the state."""

    key: str
    start: int
    """First moment of the interval, in microseconds since the epoch."""
    end: int | None
    """First moment after the interval, in microseconds since the epoch. None: no end is known."""
    row: Any
    position: int
    """Position of the event that produced the state."""
    document: bytes
    """Row and position, as ``encode_row`` writes them."""

    @property
    def identity(self) -> tuple[str, int, int | None, bytes]:
        """A value that is equal for equal intervals with equal states."""
        return self.key, self.start, self.end, self.document


class IntervalChanges(NamedTuple):
    """The validity intervals that events remove and add. Equal intervals are in neither."""

    removed: list[ValidityInterval]
    added: list[ValidityInterval]


def history_refusal(projection: AnyProjection) -> str | None:
    """Return why a read model cannot have a history, or None if it can. The subject of the text is the projection."""
    history = projection.history
    if history is None:
        return None
    if projection.merges():
        return "has a history, but merges rows of several logs: the history follows each log separately"
    if projection.family != MARKET_LOG:
        return f"has a history, but folds the logs {projection.family!r}: only those of {MARKET_LOG!r} have one"
    if not _NAME.fullmatch(history):
        return f"has the history {history!r}: expected small letters, digits and _, a letter first and _history last"
    indexes = (f"{history}_{column}=" for column in projection.columns)
    for name in (f"{history}_recorded", f"{projection.name}_events", *indexes):
        if len(name.encode()) > MAX_NAME_BYTES:
            return f"has a history, but the name {name!r} in PostgreSQL is longer than {MAX_NAME_BYTES} bytes"
    return None


def microseconds(moment: float) -> int:
    """Round a time in seconds since the epoch to whole microseconds, the resolution of the history.

    A time outside the years 1 to 9999 becomes the nearest of their seconds.
    """
    return round(min(max(moment, _EARLIEST), _LATEST) * 1_000_000)


def by_unit(projection: Projection[Any, Any], entries: Iterable[DecodedEntry]) -> dict[str, list[DecodedEntry]]:
    """Return the entries that address each unit, in order. Each of them addresses rows of this unit only.

    An entry that cannot be decoded addresses no unit.
    """
    units: dict[str, list[DecodedEntry]] = {}
    for decoded in entries:
        targets: dict[str, list[str | Group]] = {}
        for target in decoded.targets:
            unit = target.name if isinstance(target, Group) else unit_of(projection, target)
            targets.setdefault(unit, []).append(target)
        for unit, own in targets.items():
            units.setdefault(unit, []).append(decoded._replace(targets=tuple(own)))
    return units


def unit_of(projection: Projection[Any, Any], key: str) -> str:
    """Return the unit of the row with a key."""
    return projection.group_of(key) or key


def _recorded_at(decoded: DecodedEntry) -> float:
    return decoded.entry.recorded_at


def _occurred_at(decoded: DecodedEntry) -> float:
    assert decoded.event is not None
    return decoded.event.occurred_at


_TIME_OF: dict[Timeline, Callable[[DecodedEntry], float]] = {"recorded": _recorded_at, "valid": _occurred_at}


class UnitHistory:
    """The states of one unit on some timelines, after the events that were folded so far.

    The events are folded once for all of these timelines, and must therefore have one order on them. An event that
    cannot be folded parks its row, whose state then stays.

    Args:
        projection: The projection of the rows.
        timelines: The timelines.
    """

    __slots__ = ("_intervals", "_loaded", "_projection")

    def __init__(self, projection: Projection[Any, Any], *timelines: Timeline) -> None:
        self._projection = projection
        self._loaded = LoadedState()
        self._intervals = {timeline: _Intervals(projection, timeline) for timeline in timelines}

    @property
    def has_rows(self) -> bool:
        """Whether a row of the unit is left."""
        return bool(self._loaded.rows)

    def precedes(self, entries: Sequence[DecodedEntry]) -> bool:
        """Return whether all entries come after the folded ones on each timeline, in one order on all of them."""
        is_later = all(intervals.precede(entries) for intervals in self._intervals.values())
        return is_later and (len(self._intervals) == 1 or is_in_one_order(entries))

    def change(self, entries: Iterable[DecodedEntry]) -> dict[Timeline, IntervalChanges]:
        """Fold further events of the unit (see ``by_unit``). The unit must precede them."""
        steps = [(decoded, self._fold([decoded])) for decoded in self._in_order(entries)]
        return {timeline: intervals.change(steps) for timeline, intervals in self._intervals.items()}

    def advance(self, entries: Iterable[DecodedEntry]) -> None:
        """Fold the first events of the unit as ``change`` does, without their changes."""
        ordered = self._in_order(entries)
        if ordered:
            after = self._fold(ordered)
            for intervals in self._intervals.values():
                intervals.advance(ordered, after)

    def _in_order(self, entries: Iterable[DecodedEntry]) -> list[DecodedEntry]:
        return sorted(entries, key=next(iter(self._intervals.values())).place_of)

    def _fold(self, entries: Sequence[DecodedEntry]) -> dict[str, EvolvedRow]:
        """Return the rows that the entries changed, as they are now."""
        folded = fold(self._projection, self._loaded, entries)
        overlay(self._loaded, folded)
        return folded.after


_Step = tuple[DecodedEntry, dict[str, EvolvedRow]]
"""An event, and the rows after it that it changed."""


class _State(NamedTuple):
    """The last state of a row, and the moment at which it began."""

    start: int
    stored: StoredRow[Any] | None
    document: bytes | None


class _Intervals:
    """The validity intervals of one unit on one timeline. Thousands of them stay in memory."""

    __slots__ = ("_current", "_ends", "_last", "_time_of")

    def __init__(self, projection: Projection[Any, Any], timeline: Timeline) -> None:
        self._time_of = _TIME_OF[timeline]
        self._ends = projection.ends
        self._current: dict[str, _State] = {}
        self._last = -inf, 0

    def precede(self, entries: Iterable[DecodedEntry]) -> bool:
        """Return whether all entries come after the folded ones."""
        return all(self._last < self.place_of(decoded) for decoded in entries)

    def place_of(self, decoded: DecodedEntry) -> tuple[float, int]:
        """Return the place of an entry on the timeline: its time and its position."""
        # Times of recording never decrease along a log: the timeline ``recorded`` has the order of the positions.
        return self._time_of(decoded), decoded.entry.position

    def change(self, steps: Iterable[_Step]) -> IntervalChanges:
        """Add the states of further events, in the order of the timeline."""
        before: dict[str, list[ValidityInterval]] = {}
        ended: list[ValidityInterval] = []
        for decoded, after in steps:
            self._last = self.place_of(decoded)
            at = microseconds(self._last[0])
            for key, evolved in after.items():
                if key in self._current:
                    if key not in before:
                        before[key] = list(self._interval(key, None))
                    ended += self._interval(key, at)
                else:
                    before[key] = []
                self._current[key] = _State(at, evolved.stored, evolved.document)
        present = (interval for key in before for interval in self._interval(key, None))
        return _difference([interval for own in before.values() for interval in own], [*ended, *present])

    def advance(self, entries: Sequence[DecodedEntry], after: Mapping[str, EvolvedRow]) -> None:
        """Take over the states after the first events, which are in the order of the timeline."""
        self._last = self.place_of(entries[-1])
        moments = {decoded.entry.position: self._time_of(decoded) for decoded in entries}
        for key, evolved in after.items():
            at = 0 if evolved.stored is None else microseconds(moments[evolved.stored.position])
            self._current[key] = _State(at, evolved.stored, evolved.document)

    def _interval(self, key: str, at: int | None) -> Iterator[ValidityInterval]:
        """Yield the interval of a state, unless it is empty. The next event or an earlier end of the row ends it."""
        start, stored, document = self._current[key]
        if stored is None or document is None:
            return
        if self._ends and (moment := getattr(stored.row, self._ends)) is not None:
            end = microseconds(moment)
            at = end if at is None else min(at, end)
        if at is None or start < at:
            yield ValidityInterval(key, start, at, stored.row, stored.position, document)


def is_in_one_order(entries: Iterable[DecodedEntry]) -> bool:
    """Return whether entries, which are in the order of their positions, have this order on each timeline."""
    return all(_occurred_at(one) <= _occurred_at(other) for one, other in pairwise(entries))


def refold(
    projection: Projection[Any, Any], entries: Sequence[DecodedEntry], known: int
) -> tuple[list[UnitHistory], dict[Timeline, IntervalChanges]]:
    """Fold all events of a unit anew, on every timeline.

    Args:
        projection: The projection of the rows.
        entries: All events of the unit in the order of their positions (see ``by_unit``).
        known: The position up to which the events are in the history already.

    Returns:
        The histories of the unit, which together have every timeline, and which intervals the events behind ``known``
        change.
    """
    former = [decoded for decoded in entries if decoded.entry.position <= known]
    later = entries[len(former) :]
    if is_in_one_order(entries):
        history = UnitHistory(projection, *TIMELINES)
        history.advance(former)
        return [history], history.change(later)
    histories: list[UnitHistory] = []
    changes: dict[Timeline, IntervalChanges] = {}
    for timeline in TIMELINES:
        history = UnitHistory(projection, timeline)
        before = history.change(former)[timeline]
        if history.precedes(later):
            changes[timeline] = history.change(later)[timeline]
        else:
            history = UnitHistory(projection, timeline)
            changes[timeline] = _difference(before.added, history.change(entries)[timeline].added)
        histories.append(history)
    return histories, changes


def _difference(before: list[ValidityInterval], after: list[ValidityInterval]) -> IntervalChanges:
    if not before:
        return IntervalChanges(before, after)
    unchanged = {interval.identity for interval in before} & {interval.identity for interval in after}
    removed = [interval for interval in before if interval.identity not in unchanged]
    added = [interval for interval in after if interval.identity not in unchanged]
    return IntervalChanges(removed, added)
