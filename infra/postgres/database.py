"""Connections to PostgreSQL: a pool that opens on first use and survives restarts of the server."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from psycopg import Connection, Error, OperationalError
from psycopg.errors import IdleInTransactionSessionTimeout, LockNotAvailable, QueryCanceled
from psycopg_pool import ConnectionPool, PoolTimeout

from infra.log.errors import ArchiveBusyError, ArchiveUnavailableError
from infra.postgres.schema import migrate
from infra.postgres.sessions import CONNECT_SECONDS, complete_dsn, configure_session, open_session
from infra.postgres.statements import load_statements
from infra.processes.errors import StartupError

POOL_SIZE = 8
"""Highest number of connections of one process."""

_statements = load_statements(__package__)
PING = _statements["ping"]
"""Statement that checks that the server answers."""
_SHOW_READ_ONLY = _statements["show_read_only"]


class Database:
    """A PostgreSQL database with a pool of connections.

    The pool opens on first use. A process may therefore create the object before it forks.

    Raises:
        StartupError: The DSN is malformed.
    """

    def __init__(self, dsn: str) -> None:
        try:
            self.dsn = complete_dsn(dsn)
        except Error as error:
            raise StartupError(f"TICKVIEW_POSTGRES_DSN: {_one_line(error)}") from error
        self._pool: ConnectionPool[Connection] | None = None
        self._pool_lock = Lock()

    def check(self, *, writable: bool = False) -> None:
        """Check the server and bring the schema up to date.

        Args:
            writable: Whether the caller needs to write to the database.

        Raises:
            StartupError: The server cannot be reached or is too old, the schema is missing or too new, or the caller
                needs to write and the server only allows reading.
        """
        started = time.monotonic()
        try:
            with open_session(self.dsn) as connection:
                migrate(connection)
                [[read_only]] = connection.execute(_SHOW_READ_ONLY)
        except (LockNotAvailable, QueryCanceled) as error:
            reason = _translate_error(error, time.monotonic() - started)
            raise StartupError(f"PostgreSQL does not serve TickView: {reason}") from error
        except Error as error:
            raise StartupError(
                f"PostgreSQL does not serve TickView: {_one_line(error)}. Check TICKVIEW_POSTGRES_DSN."
            ) from error
        if writable and read_only == "on":
            raise StartupError(
                "This PostgreSQL server only allows reading, perhaps because it is a standby. The archive must be "
                "written: set TICKVIEW_POSTGRES_DSN to the primary server."
            )

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection in a transaction. The transaction ends with the context.

        Raises:
            ArchiveUnavailableError: The server cannot be reached, or it ended the connection.
            ArchiveBusyError: The server answers, but a lock or a time limit ended a statement.
        """
        started = time.monotonic()
        try:
            with self._open_pool().connection() as connection:
                started = time.monotonic()
                yield connection
        except PoolTimeout as error:
            # The pool may hold only connections that the server has ended. The next caller opens a new pool.
            self._discard_pool()
            raise ArchiveUnavailableError(f"PostgreSQL cannot be reached within {CONNECT_SECONDS} s") from error
        except (OperationalError, IdleInTransactionSessionTimeout) as error:
            raise _translate_error(error, time.monotonic() - started) from error

    def close(self) -> None:
        """Close the pool."""
        self._discard_pool()

    def _discard_pool(self) -> None:
        with self._pool_lock:
            pool, self._pool = self._pool, None
        if pool:
            pool.close()

    def _open_pool(self) -> "ConnectionPool[Connection]":
        with self._pool_lock:
            if self._pool is None:
                started = time.monotonic()
                try:
                    with open_session(self.dsn) as connection:
                        migrate(connection)
                except Error as error:
                    raise _translate_error(error, time.monotonic() - started) from error
                self._pool = ConnectionPool(
                    self.dsn,
                    min_size=0,
                    max_size=POOL_SIZE,
                    timeout=CONNECT_SECONDS,
                    # The pool would retry at growing intervals for all callers. It gives up instead, and the next
                    # caller connects again.
                    reconnect_timeout=CONNECT_SECONDS,
                    check=ConnectionPool.check_connection,
                    configure=configure_session,
                    open=True,
                )
            return self._pool


def _translate_error(error: Error, seconds: float) -> ArchiveUnavailableError:
    """Return TickView's error for a transaction that failed after ``seconds``, with advice for the operator."""
    if isinstance(error, LockNotAvailable):
        return ArchiveBusyError(
            f"Another session of PostgreSQL holds a lock. This session gave up waiting for the lock {seconds:.1f} s "
            f"after its transaction began ({_one_line(error)}). If the lock remains, look in pg_stat_activity for the "
            "transaction with the oldest xact_start, and end its session with pg_terminate_backend(pid)"
        )
    if isinstance(error, QueryCanceled):
        return ArchiveBusyError(
            f"PostgreSQL ended a statement {seconds:.1f} s after the transaction began ({_one_line(error)}). "
            "If the statement was not cancelled by hand, statement_timeout is too short for the archive: raise it with "
            "ALTER ROLE or ALTER DATABASE, or in TICKVIEW_POSTGRES_DSN, wherever it is set"
        )
    return ArchiveUnavailableError(f"PostgreSQL cannot be reached: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    """Return the message of the server or the library in one line."""
    return " ".join(str(error).split())
