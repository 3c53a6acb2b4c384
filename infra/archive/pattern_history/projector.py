"""The projector of ``pattern_history``: it folds archived events into the states of patterns and their intervals.

The projector folds the detections of a batch twice, without the batch and with it. Only the states that differ are
written.
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
from infra.postgres.statements import load_statements
from projections.base import Group
from projections.fold import DecodedEntry, decode_entries
from projections.pattern_history import TIMELINES, Timeline, ValidityInterval, detection_of, interval_changes
from projections.patterns import ActivePatterns

logger = structlog.get_logger()

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LONGEST_ID = 1_000
"""Highest number of bytes of a pattern id. No index takes much longer ids. The recorder accepts about 500 bytes."""

_statements = load_statements(__package__)
COPY_STATES = _statements["copy_states_in"]
"""Statement that stores the rows of ``history_row``."""
_SELECT_ARCHIVED = _statements["select_archived"]
_INSERT_PATTERN_EVENTS = _statements["insert_pattern_events"]
_SELECT_PATTERN_EVENTS = _statements["select_pattern_events"]
_COPY_EVENTS_AT = _statements["copy_events_at"]
_DELETE_STATES = _statements["delete_states"]

State = tuple[Timeline, ValidityInterval]
"""A state of a pattern on one timeline."""


class _Batch(NamedTuple):
    """Events to fold, and the checkpoint behind them."""

    entries: list[LogEntry]
    upto: int
    recorded_at: float
    """Time of recording of the event at ``upto``, in epoch seconds."""


class PatternHistoryProjector:
    """Folds the history of one log under the version of its lease. A segment must not have two projectors."""

    def __init__(self, database: Database, lease: PostgresLease, batch_size: int) -> None:
        self.lease = lease
        self._database = database
        self._batch_size = batch_size
        self._projection = ActivePatterns()

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
            obsolete, new = self._changes(self._detections(connection, references))
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

    def _store_references(
        self, connection: Connection, decoded_entries: Iterable[DecodedEntry]
    ) -> dict[str, dict[int, datetime]]:
        """Store which detection each event is about.

        Returns:
            For each detection of the batch the positions of all its events, with the time of recording.
        """
        references: list[tuple[str, DecodedEntry]] = []
        for decoded in decoded_entries:
            detection = detection_of(self._projection, decoded)
            if detection is None or not all(map(_is_storable, decoded.targets)):
                reason = decoded.error or "PostgreSQL cannot store the id of the pattern"
                logger.error(
                    "event skipped in the pattern history",
                    log=self.lease.log,
                    position=decoded.entry.position,
                    error=reason,
                )
            else:
                references.append((detection, decoded))
        if not references:
            return {}
        values = {
            "version": self.lease.version,
            "log": self.lease.log,
            "detections": [detection for detection, _ in references],
            "positions": [decoded.entry.position for _, decoded in references],
            "moments": [decoded.entry.recorded_at for _, decoded in references],
        }
        connection.execute(_INSERT_PATTERN_EVENTS, values)
        positions: dict[str, dict[int, datetime]] = {}
        key = [self.lease.version, list({detection for detection, _ in references}), self.lease.log]
        for detection, position, recorded_at in connection.execute(_SELECT_PATTERN_EVENTS, key):
            positions.setdefault(detection, {})[position] = recorded_at
        return positions

    def _detections(
        self, connection: Connection, references: dict[str, dict[int, datetime]]
    ) -> list[list[DecodedEntry]]:
        """Read all events of each detection. A detection of which the archive lacks an event is left out."""
        if not references:
            return []
        moments = {position: moment for events in references.values() for position, moment in events.items()}
        values = [self.lease.log, list(moments), min(moments.values()), max(moments.values())]
        entries = copy_entries(connection, _COPY_EVENTS_AT, values)
        by_position = {decoded.entry.position: decoded for decoded in decode_entries(self._projection, entries)}
        complete = []
        for detection, events in references.items():
            missing = events.keys() - by_position.keys()
            if missing:
                logger.error(
                    "history of a detection not updated: an event is not in the archive",
                    log=self.lease.log,
                    detection=detection,
                    position=min(missing),
                )
            else:
                complete.append([by_position[position] for position in events])
        return complete

    def _changes(self, detections: Iterable[Sequence[DecodedEntry]]) -> tuple[list[State], list[State]]:
        """Return the states that the batch makes obsolete, and the states that it adds."""
        obsolete: list[State] = []
        new: list[State] = []
        for events in detections:
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
            "symbols": [interval.row.symbol for _, interval in states],
            "ids": [interval.row.id for _, interval in states],
            "starts": [to_datetime(interval.start) for _, interval in states],
        }
        connection.execute(_DELETE_STATES, values)

    def _insert(self, connection: Connection, states: Sequence[State]) -> None:
        if not states:
            return
        with connection.cursor().copy(COPY_STATES) as copy:
            for timeline, interval in states:
                copy.write_row(history_row(self.lease.version, timeline, self.lease.log, interval))


def _is_storable(target: str | Group) -> bool:
    """Return whether PostgreSQL can store and index the id of a pattern or a detection."""
    name = (target.name if isinstance(target, Group) else target).encode()
    return b"\0" not in name and len(name) <= LONGEST_ID


def history_row(version: int, timeline: Timeline, log: str, state: ValidityInterval) -> tuple[Any, ...]:
    """Return a row of ``tickview.pattern_history`` for ``COPY_STATES``."""
    row = state.row
    # Writing a psycopg Range takes several times as long as writing a text.
    end = "" if state.end is None else to_datetime(state.end)
    return (
        *(version, timeline, state.position, f"[{to_datetime(state.start)},{end})"),
        *(row.confidence, row.detected_at, row.relative_strength, row.relative_volume, row.rsi),
        *(row.symbol, row.pattern, row.tier, row.id, log, state.document),
    )


def to_datetime(moment: int) -> datetime:
    """Convert microseconds since the epoch to a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=moment)
