"""Folds the archived events of one log into ``pattern_history``: each state of a pattern with the span it was shown.

What a batch changes is worked out by folding its detections without the batch and with it: a state that nothing has
changed since is not written again.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import structlog
from psycopg import Connection

from domain.log import LogEntry
from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.leases import PostgresLease, advance_checkpoint
from infra.archive.log_archive import copy_entries, read_events
from infra.postgres.database import Database
from projections.base import Group
from projections.fold import DecodedEntry, decode_entries
from projections.pattern_history import TIMELINES, Timeline, ValidityInterval, detection_of, interval_changes
from projections.patterns import ActivePatterns

logger = structlog.get_logger()

LONGEST_NAME = 1_000
"""Bytes of a pattern's id; no index takes what is much longer. The recorder lets about 500 through."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ARCHIVED = "SELECT position, recorded_at FROM tickview.segments WHERE name = %s AND version = %s AND log = %s"

_ADD_EVENTS = """
INSERT INTO tickview.pattern_events (version, detection, log, position, recorded_at)
SELECT %(version)s, detection, %(log)s, position, to_timestamp(recorded_at)
FROM unnest(%(detections)s::text[], %(positions)s::bigint[], %(moments)s::double precision[])
    AS event (detection, position, recorded_at)
ON CONFLICT DO NOTHING
"""

_EVENTS_OF = """
SELECT detection, position, recorded_at FROM tickview.pattern_events
WHERE version = %s AND detection = ANY(%s) AND log = %s
"""

_AT = """
COPY (
    SELECT * FROM tickview.events
    WHERE log = %s AND position = ANY(%s) AND recorded_at BETWEEN %s AND %s ORDER BY position
) TO STDOUT (FORMAT binary)
"""

_REMOVE = """
DELETE FROM tickview.pattern_history AS history
USING unnest(%(timelines)s::text[], %(symbols)s::text[], %(ids)s::text[], %(begun)s::timestamptz[])
    AS gone (timeline, symbol, id, begun)
WHERE history.version = %(version)s AND history.timeline = gone.timeline
    AND history.symbol = gone.symbol AND history.id = gone.id AND lower(history.span) = gone.begun
"""

COPY_STATES = """
COPY tickview.pattern_history (
    version, timeline, position, span, confidence, detected_at, relative_strength, relative_volume, rsi,
    symbol, pattern, tier, id, log, document
) FROM STDIN
"""
"""Takes what ``history_row`` makes."""

State = tuple[Timeline, ValidityInterval]


class _Batch(NamedTuple):
    """Events to fold, and where the checkpoint is behind them."""

    entries: list[LogEntry]
    upto: int
    recorded_at: float


class PatternHistoryProjector:
    """Folds one log's history under the version of its lease, as long as it has that; at most one for a segment."""

    def __init__(self, database: Database, lease: PostgresLease, batch_size: int) -> None:
        self.lease = lease
        self._database = database
        self._batch_size = batch_size
        self._projection = ActivePatterns()

    def step(self) -> int:
        """Fold the next archived events, and move the checkpoint with them; returns how many were read.

        An event that cannot be read is logged and passed over. Raises LeaseLostError where nothing was committed, and
        what the database raises.
        """
        with self._database.connection() as connection:
            batch = self._next(connection)
            if batch is None:
                return 0
            advance_checkpoint(connection, self.lease, batch.upto, batch.recorded_at)
            positions = self._note(connection, decode_entries(self._projection, batch.entries))
            gone, new = self._changes(self._read(connection, positions))
            self._remove(connection, gone)
            self._add(connection, new)
        self.lease.checkpoint = batch.upto
        return len(batch.entries)

    def _next(self, connection: Connection) -> _Batch | None:
        archived = connection.execute(_ARCHIVED, [ARCHIVE, FORMAT_VERSION, self.lease.log]).fetchone()
        if archived is None or archived[0] <= self.lease.checkpoint:
            return None
        upto, recorded_at = archived
        entries = read_events(connection, self.lease.log, self.lease.checkpoint, upto, self._batch_size)
        if len(entries) == self._batch_size:
            return _Batch(entries, entries[-1].position, entries[-1].recorded_at)
        # Months that were detached from the archive are passed over.
        return _Batch(entries, upto, recorded_at.timestamp())

    def _note(self, connection: Connection, readings: Iterable[DecodedEntry]) -> dict[str, dict[int, datetime]]:
        """Note which detections the events speak of; these, each with all of its positions, and when of."""
        new: list[tuple[str, DecodedEntry]] = []
        for reading in readings:
            detection = detection_of(self._projection, reading)
            if detection is None or not all(map(_can_be_named, reading.targets)):
                reason = reading.error or "the pattern that it speaks of cannot be named in PostgreSQL"
                logger.error("event is not in the history", **self._at(reading.entry.position), error=reason)
            else:
                new.append((detection, reading))
        if not new:
            return {}
        values = {
            "version": self.lease.version,
            "log": self.lease.log,
            "detections": [detection for detection, _ in new],
            "positions": [reading.entry.position for _, reading in new],
            "moments": [reading.entry.recorded_at for _, reading in new],
        }
        connection.execute(_ADD_EVENTS, values)
        positions: dict[str, dict[int, datetime]] = {}
        asked = [self.lease.version, list({detection for detection, _ in new}), self.lease.log]
        for detection, position, recorded_at in connection.execute(_EVENTS_OF, asked):
            positions.setdefault(detection, {})[position] = recorded_at
        return positions

    def _read(self, connection: Connection, positions: dict[str, dict[int, datetime]]) -> list[list[DecodedEntry]]:
        """All events of each detection; one of which the archive no longer has all is left as it is."""
        if not positions:
            return []
        moments = {position: moment for events in positions.values() for position, moment in events.items()}
        values = [self.lease.log, list(moments), min(moments.values()), max(moments.values())]
        readings = {
            reading.entry.position: reading
            for reading in decode_entries(self._projection, copy_entries(connection, _AT, values))
        }
        whole = []
        for detection, events in positions.items():
            if events.keys() <= readings.keys():
                whole.append([readings[position] for position in events])
            else:
                missing = min(events.keys() - readings.keys())
                logger.error("history stays as it was", detection=detection, **self._at(missing), error="not archived")
        return whole

    def _changes(self, detections: Iterable[Sequence[DecodedEntry]]) -> tuple[list[State], list[State]]:
        """The states that are no longer so by the new events, and those that are so now."""
        gone: list[State] = []
        new: list[State] = []
        for readings in detections:
            for timeline in TIMELINES:
                before, after = interval_changes(self._projection, timeline, readings, self.lease.checkpoint)
                gone += ((timeline, one) for one in before)
                new += ((timeline, one) for one in after)
        return gone, new

    def _remove(self, connection: Connection, states: Sequence[State]) -> None:
        if not states:
            return
        values = {
            "version": self.lease.version,
            "timelines": [timeline for timeline, _ in states],
            "symbols": [one.row.symbol for _, one in states],
            "ids": [one.row.id for _, one in states],
            "begun": [moment_of(one.start) for _, one in states],
        }
        connection.execute(_REMOVE, values)

    def _add(self, connection: Connection, states: Sequence[State]) -> None:
        if not states:
            return
        with connection.cursor().copy(COPY_STATES) as copy:
            for timeline, one in states:
                copy.write_row(history_row(self.lease.version, timeline, self.lease.log, one))

    def _at(self, position: int) -> dict[str, Any]:
        return {"log": self.lease.log, "position": position}


def _can_be_named(target: str | Group) -> bool:
    name = (target.name if isinstance(target, Group) else target).encode()
    return b"\0" not in name and len(name) <= LONGEST_NAME


def history_row(version: int, timeline: Timeline, log: str, state: ValidityInterval) -> tuple[Any, ...]:
    """A row of ``tickview.pattern_history`` for ``COPY_STATES``."""
    row = state.row
    # Not a Range, which takes several times as long to write.
    ended = "" if state.end is None else moment_of(state.end)
    return (
        *(version, timeline, state.position, f"[{moment_of(state.start)},{ended})"),
        *(row.confidence, row.detected_at, row.relative_strength, row.relative_volume, row.rsi),
        *(row.symbol, row.pattern, row.tier, row.id, log, state.document),
    )


def moment_of(moment: int) -> datetime:
    """A moment in microseconds since the epoch as PostgreSQL has it."""
    return _EPOCH + timedelta(microseconds=moment)
