"""The history of a read model: each state of each row with its validity interval.

It has two timelines. The timeline ``recorded`` has the states that TickView knew at a time. The timeline ``valid`` has
the states that TickView knows now about a time. ``docs/as-of.md`` has examples. The module is pure: the events of a
unit go in, the validity intervals come out. A unit is a group of rows, or a row that has no group: every event that can
change a row of the unit addresses the unit.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from operator import attrgetter
from typing import Any, NamedTuple

from domain.streams import MARKET_LOG
from projections.base import Group, Projection
from projections.fold import DecodedEntry, EvolvedRow, LoadedState, fold, overlay
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
    """The states of one unit on one timeline, after the events that were folded so far.

    An event that cannot be folded parks its row, whose state then stays.
    """

    def __init__(self, projection: Projection[Any, Any], timeline: Timeline) -> None:
        self._projection = projection
        self._time_of = _TIME_OF[timeline]
        self._end_of = attrgetter(projection.ends) if projection.ends else None
        self._loaded = LoadedState()
        self._current: dict[str, tuple[int, EvolvedRow]] = {}
        self._last = -inf, 0

    def precedes(self, entries: Iterable[DecodedEntry]) -> bool:
        """Return whether all entries come after the folded ones on the timeline."""
        return all(self._last < self._place_of(decoded) for decoded in entries)

    def change(self, entries: Iterable[DecodedEntry]) -> IntervalChanges:
        """Fold further events of the unit (see ``by_unit``). The unit must precede them."""
        before = self._present()
        ended: list[ValidityInterval] = []
        for decoded in sorted(entries, key=self._place_of):
            self._last = self._place_of(decoded)
            at = microseconds(self._last[0])
            folded = fold(self._projection, self._loaded, [decoded])
            overlay(self._loaded, folded)
            for key, evolved in folded.after.items():
                if key in self._current:
                    ended += self._interval(key, at)
                self._current[key] = at, evolved
        return _difference(before, [*ended, *self._present()])

    def _place_of(self, decoded: DecodedEntry) -> tuple[float, int]:
        """Return the place of an entry on the timeline: its time and its position."""
        # Times of recording never decrease along a log: the timeline ``recorded`` has the order of the positions.
        return self._time_of(decoded), decoded.entry.position

    def _present(self) -> list[ValidityInterval]:
        """Return the last interval of each row."""
        return [interval for key in self._current for interval in self._interval(key, None)]

    def _interval(self, key: str, at: int | None) -> Iterator[ValidityInterval]:
        """Yield the interval of a state, unless it is empty. The next event or an earlier end of the row ends it."""
        start, (stored, document, _) = self._current[key]
        if stored is None or document is None:
            return
        if self._end_of and (moment := self._end_of(stored.row)) is not None:
            end = microseconds(moment)
            at = end if at is None else min(at, end)
        if at is None or start < at:
            yield ValidityInterval(key, start, at, stored.row, stored.position, document)


def refold(
    projection: Projection[Any, Any], timeline: Timeline, entries: Sequence[DecodedEntry], known: int
) -> tuple[UnitHistory, IntervalChanges]:
    """Fold all events of a unit anew.

    Args:
        projection: The projection of the rows.
        timeline: The timeline of the intervals.
        entries: All events of the unit (see ``by_unit``).
        known: The position up to which the events are in the history already.

    Returns:
        The history of the unit, and which intervals the events behind ``known`` change.
    """
    history = UnitHistory(projection, timeline)
    before = history.change(decoded for decoded in entries if decoded.entry.position <= known).added
    later = [decoded for decoded in entries if decoded.entry.position > known]
    if history.precedes(later):
        return history, history.change(later)
    history = UnitHistory(projection, timeline)
    return history, _difference(before, history.change(entries).added)


def _difference(before: list[ValidityInterval], after: list[ValidityInterval]) -> IntervalChanges:
    if not before:
        return IntervalChanges(before, after)
    unchanged = {interval.identity for interval in before} & {interval.identity for interval in after}
    removed = [interval for interval in before if interval.identity not in unchanged]
    added = [interval for interval in after if interval.identity not in unchanged]
    return IntervalChanges(removed, added)
