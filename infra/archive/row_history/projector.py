"""The projector of a history: it folds archived events into the states of rows and their intervals.

Only the states that a batch changes are written. The projector keeps the last states of the units that changed last.
The events of another unit, or of one with an event that is late on a timeline, are folded from the beginning.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import structlog
from psycopg import Connection
from psycopg.sql import SQL

from domain.log import LogEntry
from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.leases import PostgresLease, advance_checkpoint
from infra.archive.log_archive import read_batch
from infra.archive.row_history.tables import HistoryTables, storable, to_datetime
from infra.archive.row_history.unit_events import (
    HistorySegment,
    Units,
    read_references,
    read_unit_events,
    unreadable_reason,
)
from infra.postgres.database import Database
from infra.postgres.statements import load_statements
from projections.base import Projection
from projections.fold import DecodedEntry, decode_entries
from projections.queries import Timeline
from projections.row_history import TIMELINES, IntervalChanges, UnitHistory, ValidityInterval, by_unit, refold

logger = structlog.get_logger()

_statements = load_statements(__package__)
_SELECT_ARCHIVED = _statements["select_archived"]
_INSERT_UNIT_EVENTS = SQL(_statements["insert_unit_events"])
_DELETE_STATES = SQL(_statements["delete_states"])

KEPT_UNITS = 2_000
"""Highest number of units whose last states the projector keeps."""

State = tuple[Timeline, ValidityInterval]
"""A state of a row on one timeline."""


class _Batch(NamedTuple):
    """Events to fold, and the checkpoint behind them."""

    entries: list[LogEntry]
    upto: int
    recorded_at: float
    """Time of recording of the event at ``upto``, in epoch seconds."""


class HistoryProjector:
    """Folds the history of one log under the version of its lease. A segment must not have two projectors."""

    def __init__(
        self, database: Database, projection: Projection[Any, Any], lease: PostgresLease, batch_size: int
    ) -> None:
        self.lease = lease
        self._database = database
        self._projection = projection
        self._tables = HistoryTables(projection)
        self._segment = HistorySegment(projection, self._tables, lease.version, lease.log)
        self._batch_size = batch_size
        self._kept: OrderedDict[str, dict[Timeline, UnitHistory]] = OrderedDict()

    def step(self) -> int:
        """Fold the next batch of archived events and move the checkpoint.

        Events that cannot be decoded are logged and skipped.

        Returns:
            The number of events that were read.

        Raises:
            LeaseLostError: Another worker has the lease. Nothing was committed.
        """
        try:
            with self._database.connection() as connection:
                batch = self._next_batch(connection)
                if batch is None:
                    return 0
                advance_checkpoint(connection, self.lease, batch.upto, batch.recorded_at)
                self._fold(connection, batch.entries)
        except BaseException:
            self._kept.clear()
            raise
        self.lease.checkpoint = batch.upto
        return len(batch.entries)

    def _next_batch(self, connection: Connection) -> _Batch | None:
        row = connection.execute(_SELECT_ARCHIVED, [ARCHIVE, FORMAT_VERSION, self.lease.log]).fetchone()
        if row is None or row[0] <= self.lease.checkpoint:
            return None
        upto, recorded_at = row
        entries = read_batch(connection, self.lease.log, self.lease.checkpoint, upto, self._batch_size)
        if entries:
            return _Batch(entries, entries[-1].position, entries[-1].recorded_at)
        # The checkpoint also passes the months that were detached from the archive.
        return _Batch(entries, upto, recorded_at.timestamp())

    def _fold(self, connection: Connection, entries: Iterable[LogEntry]) -> None:
        """Fold events into the states of their units, and write the states that change."""
        decoded = decode_entries(self._projection, entries)
        units = by_unit(self._projection, filter(self._is_readable, decoded))
        if not units:
            return
        self._store_references(connection, units)
        obsolete: list[State] = []
        new: list[State] = []
        for timeline, changes in self._changes(units, self._complete(connection, units)):
            obsolete += ((timeline, interval) for interval in changes.removed)
            new += ((timeline, interval) for interval in changes.added)
        self._delete(connection, obsolete)
        self._insert(connection, new)

    def _changes(self, units: Units, complete: Units) -> Iterator[tuple[Timeline, IntervalChanges]]:
        """Yield how the events of a batch change the intervals of each unit that is kept or complete."""
        for unit, events in units.items():
            if unit in complete:
                kept = self._kept[unit] = {}
                for timeline in TIMELINES:
                    checkpoint = self.lease.checkpoint
                    kept[timeline], changes = refold(self._projection, timeline, complete[unit], checkpoint)
                    yield timeline, changes
            elif unit in self._kept:
                for timeline, history in self._kept[unit].items():
                    yield timeline, history.change(events)
                self._kept.move_to_end(unit)
        while len(self._kept) > KEPT_UNITS:
            self._kept.popitem(last=False)

    def _store_references(self, connection: Connection, units: Units) -> None:
        """Store which units each event is about."""
        events = [(storable(unit), decoded.entry) for unit, own in units.items() for decoded in own]
        values = {
            "version": self.lease.version,
            "log": self.lease.log,
            "units": [unit for unit, _ in events],
            "positions": [entry.position for _, entry in events],
            "moments": [entry.recorded_at for _, entry in events],
        }
        connection.execute(_INSERT_UNIT_EVENTS.format(events=self._tables.events), values)

    def _is_readable(self, decoded: DecodedEntry) -> bool:
        """Return whether an entry can be in the history. Else log the reason."""
        reason = unreadable_reason(decoded)
        if reason is None:
            return True
        logger.error(
            "event skipped in a history",
            history=self._tables.name,
            log=self.lease.log,
            position=decoded.entry.position,
            error=reason,
        )
        return False

    def _complete(self, connection: Connection, units: Units) -> Units:
        """Read all events of the units that are not kept, or that have a late event.

        A unit of which the archive lacks an event is left out, and is no longer kept.
        """
        names = [unit for unit, events in units.items() if not self._continues(unit, events)]
        for unit in names:
            self._kept.pop(unit, None)
        if not names:
            return {}
        references = read_references(connection, self._segment, names)
        archived = read_unit_events(connection, self._segment, references)
        return {unit: archived[unit] for unit, events in references.items() if self._has_all(unit, events, archived)}

    def _continues(self, unit: str, events: Sequence[DecodedEntry]) -> bool:
        """Return whether a unit is kept, and the events come after its own on both timelines."""
        kept = self._kept.get(unit)
        return kept is not None and all(history.precedes(events) for history in kept.values())

    def _has_all(self, unit: str, positions: Iterable[int], archived: Units) -> bool:
        """Return whether the archive has the events of a unit at all positions. Else log the first that is missing."""
        missing = set(positions) - {decoded.entry.position for decoded in archived.get(unit, ())}
        if missing:
            logger.error(
                "history of a row not updated: an event is not in the archive",
                history=self._tables.name,
                log=self.lease.log,
                unit=unit,
                position=min(missing),
            )
        return not missing

    def _delete(self, connection: Connection, states: Sequence[State]) -> None:
        if not states:
            return
        values = {
            "version": self.lease.version,
            "timelines": [timeline for timeline, _ in states],
            "keys": [storable(interval.key) for _, interval in states],
            "starts": [to_datetime(interval.start) for _, interval in states],
        }
        connection.execute(_DELETE_STATES.format(history=self._tables.history), values)

    def _insert(self, connection: Connection, states: Sequence[State]) -> None:
        if not states:
            return
        with connection.cursor().copy(self._tables.copy_states) as copy:
            for timeline, interval in states:
                copy.write_row(self._tables.history_row(self.lease.version, timeline, self.lease.log, interval))
