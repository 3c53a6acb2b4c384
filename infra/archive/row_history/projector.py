"""The projector of a history: it folds archived events into the states of rows and their intervals.

Only the states that a batch changes are written. The projector keeps the last states of the units that changed last.
The events of another unit, or of one with an event that is late on a timeline, are folded from the beginning.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from psycopg import Connection
from psycopg.sql import SQL

from domain.log import LogEntry
from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.leases import PostgresLease, advance_checkpoint
from infra.archive.log_archive import read_batch
from infra.archive.row_history.state_rows import copy_states
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
from projections.decoding import DecodedEntry, decode_entries
from projections.queries import Timeline
from projections.row_history import TIMELINES, HistoryChanges, StatePlace, by_unit
from projections.unit_history import UnitHistories, change_units, refold_units

logger = structlog.get_logger()

_statements = load_statements(__package__)
_SELECT_ARCHIVED = _statements["select_archived"]
_USE_INDEXES = _statements["use_indexes"]
_INSERT_UNIT_EVENTS = SQL(_statements["insert_unit_events"])
_END_STATES = SQL(_statements["end_states"])
_REMOVE_STATES = SQL(_statements["remove_states"])

KEPT_UNITS = 10_000
"""Highest number of units whose last states the projector keeps. A pattern takes about 2 KB."""


class _Batch(NamedTuple):
    """Events to fold, and the checkpoint behind them."""

    entries: Sequence[LogEntry]
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
        self._kept: OrderedDict[str, UnitHistories] = OrderedDict()

    def step(self, archived: Sequence[LogEntry] = ()) -> int:
        """Fold the next batch of archived events and move the checkpoint.

        Events that cannot be decoded are logged and skipped.

        Args:
            archived: Events that this process has just archived. If they are the next batch, they are not read.

        Returns:
            The number of events that were read.

        Raises:
            LeaseLostError: Another worker has the lease. Nothing was committed.
        """
        try:
            with self._database.connection() as connection:
                connection.execute(_USE_INDEXES)
                batch = self._next_batch(connection, archived)
                if batch is None:
                    return 0
                advance_checkpoint(connection, self.lease, batch.upto, batch.recorded_at)
                self._fold(connection, batch.entries)
        except BaseException:
            self._kept.clear()
            raise
        self.lease.checkpoint = batch.upto
        return len(batch.entries)

    def _next_batch(self, connection: Connection, archived: Sequence[LogEntry]) -> _Batch | None:
        row = connection.execute(_SELECT_ARCHIVED, [ARCHIVE, FORMAT_VERSION, self.lease.log]).fetchone()
        if row is None or row[0] <= self.lease.checkpoint:
            return None
        upto, recorded_at = row
        if archived and archived[0].position == self.lease.checkpoint + 1 and archived[-1].position <= upto:
            return _Batch(archived, archived[-1].position, archived[-1].recorded_at)
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
        changes = self._changes(units, self._complete(connection, units))
        with connection.pipeline():  # The statements travel in one round trip.
            self._store_references(connection, units)
            self._end(connection, changes.ended)
            self._remove(connection, changes.removed)
        if changes.added:
            copy_states(connection, self._tables, self.lease.version, self.lease.log, changes.added)

    def _changes(self, units: Units, complete: Units) -> HistoryChanges:
        """Return how the events of a batch change the history of the units that are kept or complete."""
        continued = {unit: (self._kept[unit], events) for unit, events in units.items() if unit in self._kept}
        changes = change_units(self._projection, continued, self.lease.checkpoint)
        refolded, others = refold_units(self._projection, complete, self.lease.checkpoint)
        changes.extend(others)
        self._keep({unit: histories for unit, (histories, _) in continued.items()} | refolded)
        return changes

    def _keep(self, changed: Mapping[str, UnitHistories]) -> None:
        """Keep the units that changed last."""
        for unit, histories in changed.items():
            self._kept.pop(unit, None)
            # Events about removed rows are rare. The memory is better used for others.
            if any(history.has_rows for history in histories):
                self._kept[unit] = histories
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
        """Return all events of the units that are not kept, or that have a late event. Read the earlier ones.

        A unit of which the archive lacks an event is left out, and is no longer kept.
        """
        complete = {unit: events for unit, events in units.items() if not self._continues(unit, events)}
        for unit in complete:
            self._kept.pop(unit, None)
        if not complete:
            return {}
        references = read_references(connection, self._segment, complete, self.lease.checkpoint)
        earlier = read_unit_events(connection, self._segment, references)
        for unit, positions in references.items():
            if self._has_all(unit, positions, earlier):
                complete[unit] = earlier[unit] + complete[unit]
            else:
                del complete[unit]
        return complete

    def _continues(self, unit: str, events: Sequence[DecodedEntry]) -> bool:
        """Return whether a unit is kept, and the events come after its own on both timelines."""
        kept = self._kept.get(unit)
        return kept is not None and all(history.precedes(events) for history in kept)

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

    def _end(self, connection: Connection, ended: Iterable[tuple[StatePlace, int]]) -> None:
        """Give states their new ends."""
        ends: dict[tuple[str, int], dict[Timeline, datetime]] = {}
        for (timeline, key, position), end in ended:
            ends.setdefault((key, position), {})[timeline] = to_datetime(end)
        if ends:
            self._change(connection, _END_STATES, ends, None)

    def _remove(self, connection: Connection, removed: Iterable[StatePlace]) -> None:
        """Remove states from their timelines."""
        places: dict[tuple[str, int], dict[Timeline, bool]] = {}
        for timeline, key, position in removed:
            places.setdefault((key, position), {})[timeline] = True
        if places:
            self._change(connection, _REMOVE_STATES, places, False)

    def _change(
        self,
        connection: Connection,
        statement: SQL,
        places: Mapping[tuple[str, int], Mapping[Timeline, Any]],
        unchanged: Any,
    ) -> None:
        """Execute a statement that finds states by keys and positions, and has a value for each timeline."""
        values: dict[str, Any] = {
            "version": self.lease.version,
            "keys": [storable(key) for key, _ in places],
            "positions": [position for _, position in places],
        }
        for timeline in TIMELINES:
            values[timeline] = [place.get(timeline, unchanged) for place in places.values()]
        connection.execute(statement.format(history=self._tables.history), values)
