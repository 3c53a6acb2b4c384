"""The projector of a history: it folds archived events into the states of rows and their intervals.

The projector folds the units of a batch twice, without the batch and with it. Only the states that differ are written.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from psycopg import Connection
from psycopg.sql import SQL

from domain.log import LogEntry
from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.leases import PostgresLease, advance_checkpoint
from infra.archive.log_archive import copy_entries, read_events
from infra.archive.row_history.tables import HistoryTables, original, storable, to_datetime
from infra.postgres.database import Database
from infra.postgres.statements import load_statements
from projections.base import Projection
from projections.fold import DecodedEntry, decode_entries
from projections.queries import Timeline
from projections.row_history import TIMELINES, ValidityInterval, by_unit, interval_changes

logger = structlog.get_logger()

LONGEST_KEY = 1_000
"""Highest number of bytes of a key and of a unit. No index takes much longer ones. The recorder accepts about 500."""

_statements = load_statements(__package__)
_SELECT_ARCHIVED = _statements["select_archived"]
_INSERT_UNIT_EVENTS = SQL(_statements["insert_unit_events"])
_SELECT_UNIT_EVENTS = SQL(_statements["select_unit_events"])
_COPY_EVENTS_AT = _statements["copy_events_at"]
_DELETE_STATES = SQL(_statements["delete_states"])

State = tuple[Timeline, ValidityInterval]
"""A state of a row on one timeline."""

References = dict[str, dict[int, datetime]]
"""For each unit the positions of its events, with the times of recording."""


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
        self._batch_size = batch_size

    def step(self) -> int:
        """Fold the next batch of archived events and move the checkpoint.

        Events that cannot be decoded are logged and skipped.

        Returns:
            The number of events that were read.

        Raises:
            LeaseLostError: Another worker has the lease. Nothing was committed.
        """
        with self._database.connection() as connection:
            batch = self._next_batch(connection)
            if batch is None:
                return 0
            advance_checkpoint(connection, self.lease, batch.upto, batch.recorded_at)
            references = self._store_references(connection, decode_entries(self._projection, batch.entries))
            obsolete, new = self._changes(self._units(connection, references))
            self._delete(connection, obsolete)
            self._insert(connection, new)
        self.lease.checkpoint = batch.upto
        return len(batch.entries)

    def _next_batch(self, connection: Connection) -> _Batch | None:
        row = connection.execute(_SELECT_ARCHIVED, [ARCHIVE, FORMAT_VERSION, self.lease.log]).fetchone()
        if row is None or row[0] <= self.lease.checkpoint:
            return None
        upto, recorded_at = row
        entries = read_events(connection, self.lease.log, self.lease.checkpoint, upto, self._batch_size)
        if len(entries) == self._batch_size:
            return _Batch(entries, entries[-1].position, entries[-1].recorded_at)
        # The checkpoint also passes the months that were detached from the archive.
        return _Batch(entries, upto, recorded_at.timestamp())

    def _store_references(self, connection: Connection, entries: Iterable[DecodedEntry]) -> References:
        """Store which units each event is about, and return all events of these units."""
        units = by_unit(self._projection, filter(self._is_readable, entries))
        events = [(storable(unit), decoded.entry) for unit, own in units.items() for decoded in own]
        if not events:
            return {}
        values = {
            "version": self.lease.version,
            "log": self.lease.log,
            "units": [unit for unit, _ in events],
            "positions": [entry.position for _, entry in events],
            "moments": [entry.recorded_at for _, entry in events],
        }
        connection.execute(_INSERT_UNIT_EVENTS.format(events=self._tables.events), values)
        references: References = {}
        key = [self.lease.version, list({unit for unit, _ in events}), self.lease.log]
        rows = connection.execute(_SELECT_UNIT_EVENTS.format(events=self._tables.events), key)
        for unit, position, recorded_at in rows:
            references.setdefault(original(unit), {})[position] = recorded_at
        return references

    def _is_readable(self, decoded: DecodedEntry) -> bool:
        """Return whether an entry was decoded and addresses keys that PostgreSQL can index. Else log the reason."""
        keys = (target if isinstance(target, str) else target.name for target in decoded.targets)
        is_storable = all(len(storable(key).encode()) <= LONGEST_KEY for key in keys)
        if decoded.error is None and is_storable:
            return True
        logger.error(
            "event skipped in a history",
            history=self._tables.name,
            log=self.lease.log,
            position=decoded.entry.position,
            error=decoded.error or f"the event addresses a key of more than {LONGEST_KEY} bytes",
        )
        return False

    def _units(self, connection: Connection, references: References) -> list[list[DecodedEntry]]:
        """Read all events of each unit. A unit of which the archive lacks an event is left out."""
        if not references:
            return []
        moments = {position: moment for events in references.values() for position, moment in events.items()}
        values = [self.lease.log, list(moments), min(moments.values()), max(moments.values())]
        entries = copy_entries(connection, _COPY_EVENTS_AT, values)
        units = by_unit(self._projection, decode_entries(self._projection, entries))
        complete = []
        for unit, events in references.items():
            missing = events.keys() - {decoded.entry.position for decoded in units.get(unit, ())}
            if missing:
                logger.error(
                    "history of a row not updated: an event is not in the archive",
                    history=self._tables.name,
                    log=self.lease.log,
                    unit=unit,
                    position=min(missing),
                )
            else:
                complete.append(units[unit])
        return complete

    def _changes(self, units: Iterable[Sequence[DecodedEntry]]) -> tuple[list[State], list[State]]:
        """Return the states that the batch makes obsolete, and the states that it adds."""
        obsolete: list[State] = []
        new: list[State] = []
        for events in units:
            for timeline in TIMELINES:
                before, after = interval_changes(self._projection, timeline, events, self.lease.checkpoint)
                obsolete += ((timeline, interval) for interval in before)
                new += ((timeline, interval) for interval in after)
        return obsolete, new

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
