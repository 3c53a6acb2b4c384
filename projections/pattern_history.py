"""``pattern_history``: each state of each pattern, and the span of time in which the scan showed it.

It is told on two timelines: that of recording, what we knew at a moment, and that of the market, what we know by now
of that moment. ``docs/as-of.md`` has examples. Pure: the events of a detection go in, the spans come out.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from projections.base import Group, Projection
from projections.fold import DecodedEntry, EvolvedRow, LoadedState, fold, overlay
from projections.patterns import PatternRow

NAME = "pattern_history"

Timeline = Literal["recorded", "valid"]
"""``recorded``: by the moments at which events were recorded; ``valid``: by those at which they happened."""

TIMELINES: tuple[Timeline, ...] = ("recorded", "valid")


class ValidityInterval(NamedTuple):
    """A state of a pattern, shown from ``start`` until before ``end``, in whole microseconds since the epoch."""

    start: int
    end: int | None
    """None: without end, as far as is known."""
    row: PatternRow
    position: int
    """Of the event that made this state."""
    document: bytes
    """Row and position, as ``encode_row`` writes them."""

    @property
    def identity(self) -> tuple[int, int | None, bytes]:
        """Equal for equal states."""
        return self.start, self.end, self.document


def microseconds(moment: float) -> int:
    """A moment in whole microseconds since the epoch, from seconds: moments are not told apart any finer."""
    return round(moment * 1_000_000)


def detection_of(projection: Projection[PatternRow, Any], reading: DecodedEntry) -> str | None:
    """The detection that an event speaks of, whatever the tier; None where it cannot be read."""
    for target in reading.targets:
        return target.name if isinstance(target, Group) else projection.group_of(target)
    return None


def validity_intervals(
    projection: Projection[PatternRow, Any], timeline: Timeline, readings: Iterable[DecodedEntry]
) -> list[ValidityInterval]:
    """Every state that the events of one detection have made on a timeline; spans of one pattern do not overlap.

    ``readings`` are all of the events. One that cannot be read is left out; one that cannot be folded parks its
    pattern, which stays as it was.
    """
    builder = _IntervalBuilder(projection)
    builder.fold(_in_order(timeline, readings))
    return builder.states()


def interval_changes(
    projection: Projection[PatternRow, Any], timeline: Timeline, readings: Iterable[DecodedEntry], known: int
) -> tuple[list[ValidityInterval], list[ValidityInterval]]:
    """The states that were shown by the events up to the position ``known`` alone, and those that are by all of them.

    Those that are the same are in neither. ``readings`` are as for ``validity_intervals``.
    """
    ordered = _in_order(timeline, readings)
    former = [one for one in ordered if one[1].entry.position <= known]
    builder = _IntervalBuilder(projection)
    builder.fold(former)
    before = builder.states()
    if ordered[: len(former)] == former:
        builder.fold(ordered[len(former) :])
    else:
        builder = _IntervalBuilder(projection)
        builder.fold(ordered)
    after = builder.states()
    same = {one.identity for one in before} & {one.identity for one in after}
    return [one for one in before if one.identity not in same], [one for one in after if one.identity not in same]


def _recorded_at(reading: DecodedEntry) -> float:
    return reading.entry.recorded_at


def _occurred_at(reading: DecodedEntry) -> float:
    assert reading.event is not None
    return reading.event.occurred_at


_MOMENTS: dict[Timeline, Callable[[DecodedEntry], float]] = {"recorded": _recorded_at, "valid": _occurred_at}


def _in_order(timeline: Timeline, readings: Iterable[DecodedEntry]) -> list[tuple[float, DecodedEntry]]:
    """The events that can be read, with their moments, by (moment, position)."""
    moment_of = _MOMENTS[timeline]
    timed = [(moment_of(reading), reading) for reading in readings if reading.event is not None]
    # Along a log, the moments of recording never decrease: theirs is the order of positions.
    return sorted(timed, key=lambda one: (one[0], one[1].entry.position))


class _IntervalBuilder:
    """The states that the events told so far have made."""

    def __init__(self, projection: Projection[PatternRow, Any]) -> None:
        self._projection = projection
        self._loaded = LoadedState()
        self._ended: list[ValidityInterval] = []
        self._current: dict[str, tuple[int, EvolvedRow]] = {}

    def fold(self, readings: Iterable[tuple[float, DecodedEntry]]) -> None:
        """Fold the next events, each at its moment."""
        for moment, reading in readings:
            at = microseconds(moment)
            folded = fold(self._projection, self._loaded, [reading])
            overlay(self._loaded, folded)
            for key, evolved in folded.after.items():
                if key in self._current:
                    self._ended += _ended(self._current[key], at)
                self._current[key] = at, evolved

    def states(self) -> list[ValidityInterval]:
        """All of them, the current ones too."""
        return [*self._ended, *(interval for state in self._current.values() for interval in _ended(state, None))]


def _ended(state: tuple[int, EvolvedRow], at: int | None) -> Iterator[ValidityInterval]:
    """The span of a state that the next event ends ``at``, or an earlier expiry; none where it is empty."""
    begun, (stored, document, _) = state
    if stored is None or document is None:
        return
    if stored.row.expires_at is not None:
        expiry = microseconds(stored.row.expires_at)
        at = expiry if at is None else min(at, expiry)
    if at is None or begun < at:
        yield ValidityInterval(begun, at, stored.row, stored.position, document)
