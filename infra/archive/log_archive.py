"""The archive as a log sees it: the events that it has been trimmed of, and what it has lost."""

from collections.abc import Sequence
from typing import Any

from psycopg import Connection
from redis import Redis

from domain.log import LogEntry
from infra.archive.recovery import open_log
from infra.archive.row_format import parse_row, received_rows
from infra.log.archive_port import StreamRange
from infra.log.handle import LogHandle
from infra.postgres.database import Database

_READ = """
COPY (
    SELECT * FROM tickview.events
    WHERE log = %s AND position > %s AND position <= %s ORDER BY position LIMIT %s
) TO STDOUT (FORMAT binary)
"""

_READ_STREAM = """
COPY (
    SELECT * FROM tickview.events
    WHERE log = %s AND stream = %s AND version BETWEEN %s AND %s ORDER BY version {} LIMIT %s
) TO STDOUT (FORMAT binary)
"""


def read_events(connection: Connection, log: str, after: int, upto: int, limit: int) -> list[LogEntry]:
    """The archived events with positions > ``after`` and <= ``upto``, in order, ``limit`` at most."""
    return copied_entries(connection, _READ, [log, after, upto, limit])


def copied_entries(connection: Connection, sql: Any, values: Sequence[Any]) -> list[LogEntry]:
    """What a binary COPY of rows of ``tickview.events`` sends."""
    with connection.cursor().copy(sql, values) as copy:
        return [parse_row(row).entry for row in received_rows(copy)]


class PostgresArchive:
    """The archive of every log. ``client``, ``keep`` and ``partitions`` are those of ``open_log``."""

    def __init__(self, database: Database, client: Redis, *, keep: int, partitions: int) -> None:
        self._database = database
        self._client = client
        self._keep = keep
        self._partitions = partitions

    def read(self, log: str, after: int, upto: int, limit: int) -> list[LogEntry]:
        """The archived events with positions > ``after`` and <= ``upto``, in order, ``limit`` at most."""
        with self._database.connection() as connection:
            return read_events(connection, log, after, upto, limit)

    def read_stream(self, log: str, versions: StreamRange) -> list[LogEntry]:
        """Return the archived events of a stream in a range of versions, ordered by version."""
        sql = _READ_STREAM.format("DESC" if versions.descending else "ASC")
        values = [log, versions.stream, versions.lowest, versions.highest, versions.limit]
        with self._database.connection() as connection:
            return copied_entries(connection, sql, values)

    def open(self, log: LogHandle) -> None:
        """Put back what ``log`` has lost, if it has, and open it. Raises LogDivergedError."""
        open_log(self._database, self._client, log, keep=self._keep, partitions=self._partitions)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()
