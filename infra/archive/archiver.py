"""Copies a log into the archive, batch by batch: events, hashes and checkpoint in one transaction, behind a fence."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

from psycopg import Connection
from psycopg.sql import SQL, Identifier, Literal

from domain.log import LogEntry
from infra.archive.database import Database
from infra.archive.migrating import LOCK
from infra.archive.rows import (
    COPY_HEADER,
    COPY_TRAILER,
    GENESIS,
    canonical,
    chain,
    copied_row,
)
from infra.archive.segments import Lease, advance
from infra.eventlog import EventLog, LogDivergedError
from infra.eventlog.upkeep import log_state, note_archive

ARCHIVE = "archive"
"""The archive's name among the segments."""

VERSION = 1
"""Of the canonical bytes."""

_COPY = "COPY tickview.events FROM STDIN (FORMAT binary)"

_ANCHOR = "INSERT INTO tickview.anchors (log, month, position, hash) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"


class Archiver:
    """Archives one log, as long as it has the lease."""

    def __init__(self, database: Database, log: EventLog, lease: Lease, batch_size: int) -> None:
        self.lease = lease
        self._database = database
        self._log = log
        self._batch_size = batch_size
        self._hash = self._begin()
        self._month: datetime | None = None

    def step(self, timeout: float) -> list[LogEntry]:
        """Archive the next events, waiting up to ``timeout`` seconds for the first; returns those archived.

        Raises LeaseLostError where nothing was archived, and what the log and the database raise.
        """
        entries = self._log.wait(self.lease.position, self._batch_size, timeout)
        if entries:
            self.archive(entries)
        return entries

    def archive(self, entries: Sequence[LogEntry]) -> None:
        """Add events, which follow upon the checkpoint."""
        rows, months, anchors = [COPY_HEADER], [], []
        hash_, month = self._hash, self._month
        for entry in entries:
            if month is None or entry.recorded_at >= _following(month).timestamp():
                month = _month_of(entry.recorded_at)
                months.append(month)
                anchors.append((self._log.name, month.date(), entry.position - 1, hash_))
            event = canonical(self._log.name, entry)
            hash_ = chain(hash_, event)
            rows.append(copied_row(event, hash_))
        rows.append(COPY_TRAILER)
        last = entries[-1]
        for begun in months:
            self._make_month(begun)
        with self._database.connection() as connection:
            advance(connection, self.lease, last.position, last.recorded_at)
            with connection.cursor().copy(_COPY) as copy:
                copy.write(b"".join(rows))
            connection.execute("UPDATE tickview.logs SET hash = %s WHERE log = %s", [hash_, self._log.name])
            for anchor in anchors:
                connection.execute(_ANCHOR, anchor)
        self.lease.position, self._hash, self._month = last.position, hash_, month

    def _begin(self) -> bytes:
        """The hash of the last archived event. The archive comes to know a log that is new to it.

        Raises LogDivergedError where it knows another log of this name.
        """
        state = log_state(self._log)
        if not state.opened:
            self._log.open()
            state = log_state(self._log)
        with self._database.connection() as connection:
            connection.execute(
                "INSERT INTO tickview.logs VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [self._log.name, state.id, state.epoch, GENESIS],
            )
            [[identity, hash_]] = connection.execute(
                "UPDATE tickview.logs SET epoch = %s WHERE log = %s RETURNING id, hash", [state.epoch, self._log.name]
            )
        if identity != state.id:
            raise LogDivergedError(
                f"log {self._log.name} in Redis is {state.id}, the archive has another of that name, {identity}: "
                "is this the right Redis, and the right PostgreSQL?"
            )
        note_archive(self._log)
        return bytes(hash_)

    def _make_month(self, month: datetime) -> None:
        with self._database.connection() as connection:
            make_month(connection, month)


def make_month(connection: Connection, month: datetime) -> None:
    """The partition of the month that begins at ``month``, if it is not there yet; reading goes on meanwhile."""
    name = partition_name(month)
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
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


def _month_of(recorded_at: float) -> datetime:
    return datetime.fromtimestamp(recorded_at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _following(month: datetime) -> datetime:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
