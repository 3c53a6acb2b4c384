"""Comparison of the table that names the events of each unit of a history with the events of the whole log."""

from collections.abc import Callable, Iterator
from itertools import chain

from psycopg import Connection
from psycopg.sql import SQL

from infra.archive.log_archive import read_batch
from infra.archive.row_history.tables import original, storable
from infra.archive.row_history.unit_events import HistorySegment, readable
from infra.archive.verification.history_rows import HistoryFinding
from infra.postgres.statements import load_statements
from projections.decoding import decode_entries
from projections.row_history import by_unit, microseconds

BATCH_EVENTS = 1_000
"""Number of events that are read at once."""

_DECLARE_REFERENCES = SQL(load_statements(__package__)["declare_references"])

_Reference = tuple[int, str, int | None]
"""A position, a unit as it is stored, and the time of recording in microseconds since the epoch."""


def find_wrong_reference(
    connection: Connection, segment: HistorySegment, detached: int, checkpoint: int, advance: Callable[[int], object]
) -> HistoryFinding | None:
    """Compare the references of a history with all events behind ``detached``, up to ``checkpoint``.

    Both are read in the order of the positions, so that the memory does not depend on their number.

    Args:
        connection: A connection that reads one state of the database.
        segment: The history and the log.
        detached: The position up to which the events are in detached months.
        checkpoint: The position up to which the history is folded.
        advance: A function that is told how many positions are compared.
    """
    with connection.cursor(name="references") as cursor:
        cursor.execute(_DECLARE_REFERENCES.format(events=segment.tables.events), [segment.version, segment.log])
        stored = (reference for reference in cursor if reference[0] > detached)
        found = next(stored, None)
        for wanted in chain(_references(connection, segment, detached, checkpoint, advance), [None]):
            if wanted != found:
                return _finding(wanted, found)
            found = next(stored, None)
    return None


def _references(
    connection: Connection, segment: HistorySegment, after: int, upto: int, advance: Callable[[int], object]
) -> Iterator[_Reference]:
    """Yield the references that follow from the events, ordered by position and unit."""
    while entries := read_batch(connection, segment.log, after, upto, BATCH_EVENTS):
        units = by_unit(segment.projection, readable(decode_entries(segment.projection, entries)))
        yield from sorted(
            (decoded.entry.position, storable(unit), microseconds(decoded.entry.recorded_at))
            for unit, own in units.items()
            for decoded in own
        )
        advance(entries[-1].position - after)
        after = entries[-1].position


def _finding(wanted: _Reference | None, found: _Reference | None) -> HistoryFinding:
    """Describe the first difference. None: there are no further references."""
    if found is None or (wanted is not None and wanted[:2] < found[:2]):
        assert wanted is not None
        detail = f"the history does not name event {wanted[0]}, which is about this unit"
        return HistoryFinding(original(wanted[1]), None, None, "missing", detail)
    if wanted is None or found[:2] < wanted[:2]:
        detail = f"the history names event {found[0]}, which is not about this unit"
        return HistoryFinding(original(found[1]), None, None, "added", detail)
    detail = f"the history names another time of recording of event {found[0]}"
    return HistoryFinding(original(found[1]), None, None, "changed", detail)
