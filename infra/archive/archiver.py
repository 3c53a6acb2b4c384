"""The archiver of one log: it copies batches of events, with their hashes and the checkpoint, in one transaction."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from psycopg import Connection

from domain.log import LogEntry
from domain.streams import USERS_LOG, is_market_log, user_of
from infra.archive.leases import PostgresLease, advance_checkpoint, limit_waiting
from infra.archive.months import create_month_partition, next_month, start_of_month
from infra.archive.partitions import merge_archived
from infra.archive.recovery import different_log_error, unknown_log_error
from infra.archive.row_format import (
    COPY_HEADER,
    COPY_TRAILER,
    GENESIS,
    canonical_bytes,
    chain_hash,
    encode_copy_row,
)
from infra.log.event_log import EventLog
from infra.log.maintenance import ArchivedHead, LogState, log_state, mark_archived
from infra.log.partitions import read_partitions
from infra.postgres.database import Database
from infra.postgres.statements import load_statements
from infra.user_keys.archived_keys import archive_keys
from infra.user_keys.encryption import UserKey
from infra.user_keys.key_store import UserKeys, destroyed_keys

ARCHIVE = "archive"
"""Name of the archive's segments in ``tickview.segments``."""

FORMAT_VERSION = 1
"""Version of the canonical bytes, which is the version of the archive's segments."""

SEND_BATCH = 250
"""Number of events sent at once. The server stores a batch while the archiver encodes the next one."""

_statements = load_statements(__package__)
COPY_EVENTS = _statements["copy_events_in"]
"""Statement that stores rows in the format of ``encode_copy_row``."""
_INSERT_LOG = _statements["insert_log"]
_UPDATE_LOG_EPOCH = _statements["update_log_epoch"]
_UPDATE_LOG_HASH = _statements["update_log_hash"]
_INSERT_ANCHOR = _statements["insert_anchor"]

Anchor = tuple[str, date, int, bytes]
"""Log, month, and the position and hash of the last event before the month."""


class Archiver:
    """Archives one log as long as its lease is valid.

    Raises:
        LogDivergedError: The archive holds another log of this name, or the log has an archive that is not this one.
        LeaseLostError: Another archiver has the lease.
    """

    def __init__(self, database: Database, log: EventLog, lease: PostgresLease, batch_size: int) -> None:
        self.lease = lease
        self._database = database
        self._log = log
        self._batch_size = batch_size
        self._hash = self._register_log()
        self._month_end = float("-inf")
        """End of the month of the last archived event, in epoch seconds."""

    @property
    def head(self) -> ArchivedHead:
        """The position and the hash of the last archived event."""
        return ArchivedHead(self.lease.checkpoint, self._hash)

    def step(self, timeout: float) -> list[LogEntry]:
        """Archive the next batch of events.

        Args:
            timeout: Seconds to wait for the first event.

        Returns:
            The archived events; none if no event arrived in time.

        Raises:
            LeaseLostError: Another archiver has the lease. Nothing was archived.
        """
        entries = self._log.wait(self.lease.checkpoint, self._batch_size, timeout)
        if entries:
            self.archive(entries)
        return entries

    def archive(self, entries: Sequence[LogEntry]) -> None:
        """Archive the events that follow the checkpoint. ``entries`` must not be empty."""
        months = self._new_months(entries)
        for month in months.values():
            with self._database.connection() as connection:
                create_month_partition(connection, month)
        last, keys = entries[-1], self._keys_of(entries)
        with self._database.connection() as connection:
            advance_checkpoint(connection, self.lease, last.position, last.recorded_at)
            archive_keys(connection, keys)
            last_hash, anchors = self._send(connection, entries, months)
            connection.execute(_UPDATE_LOG_HASH, [last_hash, self._log.name])
            for anchor in anchors:
                connection.execute(_INSERT_ANCHOR, anchor)
        self.lease.checkpoint, self._hash = last.position, last_hash
        self._month_end = next_month(start_of_month(last.recorded_at)).timestamp()

    def _keys_of(self, entries: Sequence[LogEntry]) -> dict[str, UserKey]:
        """Return the keys of the users of a batch. Destroy keys whose destruction was recorded, but not completed."""
        if self._log.name != USERS_LOG:
            return {}
        keys = UserKeys(self._log)
        keys.merge(destroyed_keys(entries))
        return keys.read({user for entry in entries if (user := user_of(entry.stream))})

    def _new_months(self, entries: Sequence[LogEntry]) -> dict[int, datetime]:
        """Return the months that begin in this batch, by the position of the first event of each month."""
        months: dict[int, datetime] = {}
        month_end = self._month_end
        if entries[-1].recorded_at < month_end:
            return months
        for entry in entries:
            if entry.recorded_at >= month_end:
                months[entry.position] = start_of_month(entry.recorded_at)
                month_end = next_month(months[entry.position]).timestamp()
        return months

    def _send(
        self, connection: Connection, entries: Sequence[LogEntry], months: Mapping[int, datetime]
    ) -> tuple[bytes, list[Anchor]]:
        """Chain the events and send their rows. Return the last hash, and the anchors of the new months."""
        log, last_hash, anchors = self._log.name, self._hash, []
        with connection.cursor().copy(COPY_EVENTS) as copy:
            copy.write(COPY_HEADER)
            for start in range(0, len(entries), SEND_BATCH):
                rows = []
                for entry in entries[start : start + SEND_BATCH]:
                    if entry.position in months:
                        anchors.append((log, months[entry.position].date(), entry.position - 1, last_hash))
                    event = canonical_bytes(log, entry)
                    last_hash = chain_hash(last_hash, event)
                    rows.append(encode_copy_row(event, last_hash))
                copy.write(b"".join(rows))
            copy.write(COPY_TRAILER)
        return last_hash, anchors

    def _register_log(self) -> bytes:
        """Add a new log to the archive, or check the identity of a known log. Return the hash of its last event."""
        state = log_state(self._log)
        if not state.opened:
            self._log.open()
            state = log_state(self._log)
        self._register_partitions()
        with self._database.connection() as connection:
            limit_waiting(connection)
            is_new = connection.execute(_INSERT_LOG, [self._log.name, state.id, state.epoch, GENESIS]).rowcount == 1
            if is_new:
                self._start_archive(connection, state)
            [[identity, last_hash]] = connection.execute(_UPDATE_LOG_EPOCH, [state.epoch, self._log.name])
        if identity != state.id:
            raise different_log_error(self._log.name, state.id, identity)
        mark_archived(self._log)
        return bytes(last_hash)

    def _register_partitions(self) -> None:
        """Add the number of partitions to the archive: it may have been raised before the log had an archive."""
        known = read_partitions(self._log.client)
        if known and is_market_log(self._log.name):
            with self._database.connection() as connection:
                merge_archived(connection, known)

    def _start_archive(self, connection: Connection, state: LogState) -> None:
        """Start at the first event of the log. The log may have been trimmed while it had another archive."""
        if state.archived:
            raise unknown_log_error(self._log.name)
        before = (state.first or 1) - 1
        if before > self.lease.checkpoint:
            advance_checkpoint(connection, self.lease, before, 0)
            self.lease.checkpoint = before
