"""The read model ``pattern_history``: each state of each pattern with its validity interval.

It has two timelines. The timeline ``recorded`` has the states that TickView knew at a time. The timeline ``valid`` has
the states that TickView knows now about a time. ``docs/as-of.md`` has examples. The module is pure: the events of a
detection go in, the validity intervals come out.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from projections.base import Group, Projection
from projections.fold import DecodedEntry, EvolvedRow, LoadedState, fold, overlay
from projections.patterns import PatternRow
from projections.queries import Timeline

NAME = "pattern_history"
"""The name of the read model."""

TIMELINES: tuple[Timeline, ...] = ("recorded", "valid")
"""All timelines."""


class ValidityInterval(NamedTuple):
    """A state of a pattern and the interval in which the scan returned the state."""

    start: int
    """First moment of the interval, in microseconds since the epoch."""
    end: int | None
    """First moment after the interval, in microseconds since the epoch. None: no end is known."""
    row: PatternRow
    position: int
    """Position of the event that produced the state."""
    document: bytes
    """Row and position, as ``encode_row`` writes them."""

    @property
    def identity(self) -> tuple[int, int | None, bytes]:
        """A value that is equal for equal intervals with equal states."""
        return self.start, self.end, self.document


def microseconds(moment: float) -> int:
    """Round a time in seconds since the epoch to whole microseconds, the resolution of the history."""
    return round(moment * 1_000_000)


def detection_of(projection: Projection[PatternRow, Any], decoded: DecodedEntry) -> str | None:
    """Return the detection that an event addresses: its pattern id without the tier. None for an unreadable entry."""
    for target in decoded.targets:
        return target.name if isinstance(target, Group) else projection.group_of(target)
    return None


def validity_intervals(
    projection: Projection[PatternRow, Any], timeline: Timeline, entries: Iterable[DecodedEntry]
) -> list[ValidityInterval]:
    """Compute the validity intervals of all states of one detection.

    An unreadable entry is skipped. An event that cannot be folded parks its pattern, whose state then stays.

    Args:
        projection: The projection of the patterns.
        timeline: The timeline of the intervals.
        entries: All events of the detection.

    Returns:
        The intervals. The intervals of one pattern do not overlap.
    """
    builder = _IntervalBuilder(projection)
    builder.fold(_in_order(timeline, entries))
    return builder.intervals()


def interval_changes(
    projection: Projection[PatternRow, Any], timeline: Timeline, entries: Iterable[DecodedEntry], known: int
) -> tuple[list[ValidityInterval], list[ValidityInterval]]:
    """Compute which validity intervals new events remove and add.

    Args:
        projection: The projection of the patterns.
        timeline: The timeline of the intervals.
        entries: All events of the detection.
        known: The position up to which the events are in the history already.

    Returns:
        The removed intervals and the added intervals. Equal intervals are in neither.
    """
    ordered = _in_order(timeline, entries)
    former = [timed for timed in ordered if timed[1].entry.position <= known]
    builder = _IntervalBuilder(projection)
    builder.fold(former)
    before = builder.intervals()
    if ordered[: len(former)] == former:
        builder.fold(ordered[len(former) :])
    else:
        builder = _IntervalBuilder(projection)
        builder.fold(ordered)
    after = builder.intervals()
    unchanged = {interval.identity for interval in before} & {interval.identity for interval in after}
    removed = [interval for interval in before if interval.identity not in unchanged]
    added = [interval for interval in after if interval.identity not in unchanged]
    return removed, added


def _recorded_at(decoded: DecodedEntry) -> float:
    return decoded.entry.recorded_at


def _occurred_at(decoded: DecodedEntry) -> float:
    assert decoded.event is not None
    return decoded.event.occurred_at


_TIME_OF: dict[Timeline, Callable[[DecodedEntry], float]] = {"recorded": _recorded_at, "valid": _occurred_at}


def _in_order(timeline: Timeline, entries: Iterable[DecodedEntry]) -> list[tuple[float, DecodedEntry]]:
    """Return the readable entries with their times on the timeline, ordered by time and position."""
    time_of = _TIME_OF[timeline]
    timed = [(time_of(decoded), decoded) for decoded in entries if decoded.event is not None]
    # Times of recording never decrease along a log: the timeline ``recorded`` has the order of the positions.
    return sorted(timed, key=lambda pair: (pair[0], pair[1].entry.position))


class _IntervalBuilder:
    """The validity intervals of the events folded so far."""

    def __init__(self, projection: Projection[PatternRow, Any]) -> None:
        self._projection = projection
        self._loaded = LoadedState()
        self._ended: list[ValidityInterval] = []
        self._current: dict[str, tuple[int, EvolvedRow]] = {}

    def fold(self, entries: Iterable[tuple[float, DecodedEntry]]) -> None:
        for moment, decoded in entries:
            at = microseconds(moment)
            folded = fold(self._projection, self._loaded, [decoded])
            overlay(self._loaded, folded)
            for key, evolved in folded.after.items():
                if key in self._current:
                    self._ended += _interval(self._current[key], at)
                self._current[key] = at, evolved

    def intervals(self) -> list[ValidityInterval]:
        return [*self._ended, *(interval for state in self._current.values() for interval in _interval(state, None))]


def _interval(state: tuple[int, EvolvedRow], at: int | None) -> Iterator[ValidityInterval]:
    """Yield the interval of a state, unless it is empty. The next event or an earlier expiry ends it."""
    start, (stored, document, _) = state
    if stored is None or document is None:
        return
    if stored.row.expires_at is not None:
        expiry = microseconds(stored.row.expires_at)
        at = expiry if at is None else min(at, expiry)
    if at is None or start < at:
        yield ValidityInterval(start, at, stored.row, stored.position, document)
