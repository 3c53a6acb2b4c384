"""Comparison of the rows of a history with the rows that follow from the events of their units."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier

from infra.archive.ranges import iso_milliseconds
from infra.archive.row_history.tables import HistoryTables, original, storable, to_datetime
from infra.archive.row_history.unit_events import HistorySegment, References, Units, read_references, read_unit_events
from infra.postgres.statements import load_statements
from projections.base import Projection
from projections.row_history import unit_of
from projections.unit_history import refold_units

DifferenceKind = Literal["changed", "missing", "added"]

_statements = load_statements(__package__)
_SELECT_STATES = SQL(_statements["select_states"])


_NO_START = -(2**63)


class HistoryFinding(NamedTuple):
    """The first row of a history that does not follow from the events."""

    key: str
    """The key of the row, or the unit whose events the history names wrongly."""
    timeline: str | None
    """None: the row is one of the table that names the events of each unit."""
    since: str | None
    """The start of the interval of the row, in ISO 8601; None if the row has none."""
    kind: DifferenceKind
    detail: str


class Comparison(NamedTuple):
    """The result of a comparison of some units."""

    rows: int
    """Number of rows that are as the events say."""
    skipped: frozenset[str]
    """The units that have events in detached months, so that their rows cannot be derived."""
    finding: HistoryFinding | None


class _Place(NamedTuple):
    """The identity of a row in a history, in the order in which rows are compared."""

    key: str
    timeline: str
    start: int
    """Microseconds since the epoch; ``_NO_START`` if the stored interval has no start."""


_Rows = dict[_Place, list[tuple[Any, ...]]]
"""Rows by place. A row is the tuple (position, end, whether the interval is well formed, document, values)."""


class RowComparison:
    """Compares the rows of one history on one log.

    Args:
        connection: A connection that reads one state of the database.
        segment: The history and the log.
        checkpoint: The position up to which the history is folded.
        detached: The position up to which the events are in detached months.
    """

    def __init__(self, connection: Connection, segment: HistorySegment, checkpoint: int, detached: int) -> None:
        self._connection = connection
        self._segment = segment
        self._checkpoint = checkpoint
        self._detached = detached
        self._names = ["position", "end of the interval", "form of the interval", "document"]
        self._names += [column.name for column in segment.tables.columns]

    def compare(self, units: Mapping[str, Collection[int]], keys: Iterable[str] = ()) -> Comparison:
        """Compare all rows that the events of some units produce, and all stored rows under some keys.

        Args:
            units: The units, each with the positions of those of its events that the caller knows.
            keys: Keys of stored rows. Their units must be among ``units``.
        """
        references = read_references(self._connection, self._segment, units)
        skipped = frozenset(unit for unit, events in references.items() if min(events) <= self._detached)
        for unit in skipped:
            del references[unit]
        events = read_unit_events(self._connection, self._segment, references)
        known = {unit: positions for unit, positions in units.items() if unit not in skipped}
        finding = self._check_references(known, references, events)
        if finding:
            return Comparison(0, skipped, finding)
        expected = self._expected({unit: events[unit] for unit in references})
        compared = {place.key for place in expected}
        compared |= {key for key in keys if unit_of_stored_key(self._segment.projection, key) not in skipped}
        return self._difference(expected, self._stored(compared), skipped)

    def _check_references(
        self, known: Mapping[str, Collection[int]], references: References, events: Units
    ) -> HistoryFinding | None:
        """Check that the history names the known events of each unit, and that the named events are about the unit."""
        for unit, positions in sorted(known.items()):
            named = references.get(unit, {})
            for position in sorted(set(positions) - set(named)):
                detail = f"the history does not name event {position}, which is about this unit"
                return HistoryFinding(unit, None, None, "missing", detail)
            archived = {decoded.entry.position for decoded in events.get(unit, ())}
            for position in sorted(named):
                if position > self._checkpoint:
                    return HistoryFinding(unit, None, None, "added", f"event {position} is behind the checkpoint")
                if position not in archived:
                    detail = f"the archive has no event {position} of this unit, recorded at that time"
                    return HistoryFinding(unit, None, None, "added", detail)
        return None

    def _expected(self, units: Units) -> _Rows:
        rows: _Rows = {}
        columns = self._segment.tables.columns
        _, changes = refold_units(self._segment.projection, units, 0)
        for timeline, state in changes.added:
            values = [column.value_of(state.row) for column in columns]
            row = (state.position, state.end, True, state.document, *values)
            rows.setdefault(_Place(state.key, timeline, state.start), []).append(row)
        return rows

    def _stored(self, keys: Iterable[str]) -> _Rows:
        rows: _Rows = {}
        statement = select_states(self._segment.tables)
        values = [self._segment.version, self._segment.log, [storable(key) for key in keys]]
        for key, timeline, start, *row in self._connection.execute(statement, values):
            place = _Place(original(key), timeline, _NO_START if start is None else start)
            rows.setdefault(place, []).append(tuple(row))
        return rows

    def _difference(self, expected: _Rows, stored: _Rows, skipped: frozenset[str]) -> Comparison:
        rows = 0
        for place in sorted(expected.keys() | stored.keys()):
            wanted, found = expected.get(place, []), stored.get(place, [])
            if wanted != found:
                return Comparison(rows, skipped, self._finding(place, wanted, found))
            rows += len(found)
        return Comparison(rows, skipped, None)

    def _finding(
        self, place: _Place, wanted: Sequence[tuple[Any, ...]], found: Sequence[tuple[Any, ...]]
    ) -> HistoryFinding:
        kind: DifferenceKind
        if not found:
            kind, detail = "missing", "the events produce this row"
        elif len(found) > len(wanted):
            kind, detail = "added", "the events do not produce this row"
        else:
            names = list(_different(self._names, wanted[0], found[0]))
            kind, detail = "changed", f"{', '.join(names)} of the row differ from the events"
        since = None if place.start == _NO_START else iso_milliseconds(to_datetime(place.start))
        return HistoryFinding(place.key, place.timeline, since, kind, detail)


def _different(names: Sequence[str], wanted: Sequence[Any], found: Sequence[Any]) -> Iterator[str]:
    return (name for name, one, other in zip(names, wanted, found, strict=True) if one != other)


def unit_of_stored_key(projection: Projection[Any, Any], key: str) -> str | None:
    """Return the unit of a stored key. None: the projection never writes such a key."""
    try:
        return unit_of(projection, key)
    except Exception:  # noqa: BLE001 a projection need not expect a key that it has not written itself
        return None


def select_states(tables: HistoryTables) -> Composed:
    """Return the statement that reads all states under some keys."""
    values = Composed([SQL(", {}").format(Identifier(column.name)) for column in tables.columns])
    return _SELECT_STATES.format(history=tables.history, values=values)
