"""Copies a log into the archive, batch by batch: events, hashes and checkpoint in one transaction, behind a fence."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

from psycopg import Connection
from psycopg.sql import SQL, Identifier, Literal

from domain.log import LogEntry
from infra.archive.leases import PostgresLease, advance_checkpoint, limit_waiting
from infra.archive.recovery import UNKNOWN_ARCHIVE
from infra.archive.row_format import COPY_HEADER, COPY_TRAILER, GENESIS, canonical_bytes, chain_hash, encode_copy_row
from infra.log.errors import LogDivergedError
from infra.log.event_log import EventLog
from infra.log.maintenance import LogState, log_state, mark_archived
from infra.postgres.database import Database
from infra.postgres.schema import SCHEMA_LOCK

ARCHIVE = "archive"
"""The archive's name among the segments."""

FORMAT_VERSION = 1
"""Of the canonical bytes."""

COPY_EVENTS = "COPY tickview.events FROM STDIN (FORMAT binary)"
"""How rows go in; ``rows`` makes them."""

SENT_AT_ONCE = 250
"""Events sent to the server at once: it writes them while the next are made ready."""

Anchor = tuple[str, date, int, bytes]
"""Log, month, and the position and the hash of the last event before it."""

_NEW_LOG = "INSERT INTO tickview.logs VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"

_ANCHOR = "INSERT INTO tickview.anchors (log, month, position, hash) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"


class Archiver:
    """Archives one log, as long as it has the lease."""

    def __init__(self, database: Database, log: EventLog, lease: PostgresLease, batch_size: int) -> None:
        self.lease = lease
        self._database = database
        self._log = log
        self._batch_size = batch_size
        self._hash = self._begin()
        self._month_ends = float("-inf")
        """When the month of the last event ends, in epoch seconds."""

    def step(self, timeout: float) -> list[LogEntry]:
        """Archive the next events, waiting up to ``timeout`` seconds for the first; returns those archived.

        Raises LeaseLostError where nothing was archived, and what the log and the database raise.
        """
        entries = self._log.wait(self.lease.checkpoint, self._batch_size, timeout)
        if entries:
            self.archive(entries)
        return entries

    def archive(self, entries: Sequence[LogEntry]) -> None:
        """Add events, which follow upon the checkpoint."""
        months = self._months_begun(entries)
        for month in months.values():
            self._make_month(month)
        last = entries[-1]
        with self._database.connection() as connection:
            advance_checkpoint(connection, self.lease, last.position, last.recorded_at)
            hash_, anchors = self._copy(connection, entries, months)
            connection.execute("UPDATE tickview.logs SET hash = %s WHERE log = %s", [hash_, self._log.name])
            for anchor in anchors:
                connection.execute(_ANCHOR, anchor)
        self.lease.checkpoint, self._hash = last.position, hash_
        self._month_ends = _following(start_of_month(last.recorded_at)).timestamp()

    def _months_begun(self, entries: Sequence[LogEntry]) -> dict[int, datetime]:
        """Months that are new to this archiver, by the position of the first event of each."""
        begun: dict[int, datetime] = {}
        ends = self._month_ends
        if entries[-1].recorded_at < ends:
            return begun
        for entry in entries:
            if entry.recorded_at >= ends:
                begun[entry.position] = start_of_month(entry.recorded_at)
                ends = _following(begun[entry.position]).timestamp()
        return begun

    def _copy(
        self, connection: Connection, entries: Sequence[LogEntry], months: Mapping[int, datetime]
    ) -> tuple[bytes, list[Anchor]]:
        """Chain the events and send their rows; returns the last hash, and what precedes each month."""
        log, hash_, anchors = self._log.name, self._hash, []
        with connection.cursor().copy(COPY_EVENTS) as copy:
            copy.write(COPY_HEADER)
            for start in range(0, len(entries), SENT_AT_ONCE):
                rows = []
                for entry in entries[start : start + SENT_AT_ONCE]:
                    if entry.position in months:
                        anchors.append((log, months[entry.position].date(), entry.position - 1, hash_))
                    event = canonical_bytes(log, entry)
                    hash_ = chain_hash(hash_, event)
                    rows.append(encode_copy_row(event, hash_))
                copy.write(b"".join(rows))
            copy.write(COPY_TRAILER)
        return hash_, anchors

    def _begin(self) -> bytes:
        """The hash of the last archived event. The archive comes to know a log that is new to it.

        Raises LogDivergedError where it knows another log of this name.
        """
        state = log_state(self._log)
        if not state.opened:
            self._log.open()
            state = log_state(self._log)
        with self._database.connection() as connection:
            limit_waiting(connection)
            is_new = connection.execute(_NEW_LOG, [self._log.name, state.id, state.epoch, GENESIS]).rowcount == 1
            if is_new:
                self._begin_archive(connection, state)
            [[identity, hash_]] = connection.execute(
                "UPDATE tickview.logs SET epoch = %s WHERE log = %s RETURNING id, hash", [state.epoch, self._log.name]
            )
        if identity != state.id:
            raise LogDivergedError(
                f"log {self._log.name} in Redis is {state.id}, the archive has another of that name, {identity}: "
                "is this the right Redis, and the right PostgreSQL?"
            )
        mark_archived(self._log)
        return bytes(hash_)

    def _begin_archive(self, connection: Connection, state: LogState) -> None:
        """Begin where the log begins, which may have been trimmed of what another archive has, or had."""
        if state.archived:
            raise LogDivergedError(UNKNOWN_ARCHIVE.format(log=self._log.name))
        before = (state.first or 1) - 1
        if before > self.lease.checkpoint:
            advance_checkpoint(connection, self.lease, before, 0)
            self.lease.checkpoint = before

    def _make_month(self, month: datetime) -> None:
        with self._database.connection() as connection:
            create_month_partition(connection, month)


def create_month_partition(connection: Connection, month: datetime) -> None:
    """The partition of the month that begins at ``month``, if it is not there yet; reading goes on meanwhile."""
    name = partition_name(month)
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [SCHEMA_LOCK])
    [[there]] = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"tickview.{name}"])
    if there:
        return
    table = Identifier("tickview", name)
    connection.execute(SQL("CREATE TABLE {} (LIKE tickview.events)").format(table))
    connection.execute(
        SQL("ALTER TABLE tickview.events ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            table, Literal(month), Literal(_following(month))
        )
    )


def partition_name(month: date) -> str:
    """The partition of a month."""
    return f"events_{month:%Y_%m}"


def start_of_month(recorded_at: float) -> datetime:
    """When the month of a moment began, in UTC."""
    return datetime.fromtimestamp(recorded_at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _following(month: datetime) -> datetime:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
