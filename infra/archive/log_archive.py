"""The archive as the port of the event log: it reads the events that were trimmed from a log, and opens the log."""

from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg import Connection

from domain.log import LogEntry
from infra.archive.recovery import open_log
from infra.archive.row_format import parse_row, received_rows
from infra.log.archive_port import StreamRange
from infra.log.bounds import BATCH_BYTES
from infra.log.handle import LogHandle
from infra.postgres.database import Database
from infra.postgres.statements import load_statements
from infra.redis.connections import RedisClient

_statements = load_statements(__package__)
_COPY_LOG_EVENTS = _statements["copy_log_events"]
_SELECT_BATCH_END = _statements["select_batch_end"]
_COPY_STREAM_EVENTS_ASCENDING = _statements["copy_stream_events_ascending"]
_COPY_STREAM_EVENTS_DESCENDING = _statements["copy_stream_events_descending"]


def read_batch(connection: Connection, log: str, after: int, upto: int, limit: int) -> list[LogEntry]:
    """Return the first archived events with positions > ``after`` and <= ``upto``, in order.

    The batch has at most ``limit`` events and ``BATCH_BYTES`` bytes, or one event.
    """
    [[end]] = connection.execute(_SELECT_BATCH_END, [BATCH_BYTES, log, after, upto, limit])
    return copy_entries(connection, _COPY_LOG_EVENTS, [log, after, end, limit]) if end else []


def copy_entries(connection: Connection, statement: LiteralString, values: Sequence[Any]) -> list[LogEntry]:
    """Return the events that a binary ``COPY`` of rows of ``tickview.events`` sends."""
    with connection.cursor().copy(statement, values) as copy:
        return [parse_row(row).entry for row in received_rows(copy)]


class PostgresArchive:
    """The archive of every log. ``open_log`` describes the arguments."""

    def __init__(self, database: Database, client: RedisClient, *, restore_limit: int, partitions: int) -> None:
        self._database = database
        self._client = client
        self._restore_limit = restore_limit
        self._partitions = partitions

    def read(self, log: str, after: int, upto: int, limit: int) -> list[LogEntry]:
        """Return the archived events with positions > ``after`` and <= ``upto``, in order, at most ``limit``."""
        with self._database.connection() as connection:
            return copy_entries(connection, _COPY_LOG_EVENTS, [log, after, upto, limit])

    def read_batch(self, log: str, after: int, upto: int, limit: int) -> list[LogEntry]:
        """Return the first of these events, also bounded by their bytes."""
        with self._database.connection() as connection:
            return read_batch(connection, log, after, upto, limit)

    def read_stream(self, log: str, versions: StreamRange) -> list[LogEntry]:
        """Return the archived events of a stream in a range of versions, ordered by version."""
        statement = _COPY_STREAM_EVENTS_DESCENDING if versions.descending else _COPY_STREAM_EVENTS_ASCENDING
        values = [log, versions.stream, versions.lowest, versions.highest, versions.limit]
        with self._database.connection() as connection:
            return copy_entries(connection, statement, values)

    def open(self, log: LogHandle) -> None:
        """Restore the events that ``log`` has lost, and open it. ``open_log`` describes the errors."""
        open_log(self._database, self._client, log, restore_limit=self._restore_limit, partitions=self._partitions)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()
