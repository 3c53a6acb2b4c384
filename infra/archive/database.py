"""Connections to PostgreSQL: a pool that opens on first use and survives restarts of the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from psycopg import Connection, OperationalError, connect
from psycopg_pool import ConnectionPool, PoolTimeout

from infra.archive.migrating import migrate
from infra.errors import StartupError
from infra.eventlog import ArchiveUnavailableError

CONNECTIONS = 8
"""Of one process, at most."""

CONNECT_SECONDS = 3
"""How long the server may take to answer a new connection."""


class Database:
    """PostgreSQL as one process sees it. Nothing connects before the first use, so it may be made before a fork."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._pool: ConnectionPool[Connection] | None = None
        self._opening = Lock()

    def check(self) -> None:
        """See that the server can be reached, is new enough and has our schema, or let it have it.

        Raises StartupError, saying what is wrong.
        """
        try:
            with connect(self.dsn, connect_timeout=CONNECT_SECONDS) as connection:
                migrate(connection)
        except OperationalError as error:
            raise StartupError(f"PostgreSQL does not serve us: {_reason(error)}; see TICKVIEW_POSTGRES_DSN") from error

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection in a transaction, which ends with the context. Raises ArchiveUnavailableError."""
        try:
            with self._opened().connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise ArchiveUnavailableError(f"PostgreSQL cannot be reached within {CONNECT_SECONDS} s") from error
        except OperationalError as error:
            raise ArchiveUnavailableError(f"PostgreSQL cannot be reached: {_reason(error)}") from error

    def close(self) -> None:
        """Close what is open."""
        if self._pool:
            self._pool.close()

    def _opened(self) -> "ConnectionPool[Connection]":
        with self._opening:
            if self._pool is None:
                with connect(self.dsn, connect_timeout=CONNECT_SECONDS) as connection:
                    migrate(connection)
                self._pool = ConnectionPool(
                    self.dsn,
                    min_size=0,
                    max_size=CONNECTIONS,
                    timeout=CONNECT_SECONDS,
                    # The pool tries less and less often, for everybody: better it gives up, and who asks next tries.
                    reconnect_timeout=CONNECT_SECONDS,
                    check=ConnectionPool.check_connection,
                    kwargs={"connect_timeout": CONNECT_SECONDS},
                    open=True,
                )
            return self._pool


def _reason(error: Exception) -> str:
    """The server's or the library's message in one line."""
    return " ".join(str(error).split())
