"""Connections to PostgreSQL: a pool that opens on first use and survives restarts of the server."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from psycopg import Connection, Error, OperationalError, connect
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import IdleInTransactionSessionTimeout, LockNotAvailable, QueryCanceled
from psycopg_pool import ConnectionPool, PoolTimeout

from infra.log.errors import ArchiveBusyError, ArchiveUnavailableError
from infra.postgres.schema import migrate
from infra.processes.errors import StartupError

CONNECTIONS = 8
"""Of one process, at most."""

CONNECT_SECONDS = 3
"""How long the server may take to answer a new connection."""

CONNECTING: dict[str, str | int | None] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
"""A host that has gone without a word is noticed within a minute, and not in two hours."""


class Database:
    """PostgreSQL as one process sees it. Nothing connects before the first use, so it may be made before a fork.

    Raises StartupError for a DSN that is none.
    """

    def __init__(self, dsn: str) -> None:
        try:
            self.dsn = make_conninfo(dsn, **{**CONNECTING, **conninfo_to_dict(dsn)})
        except Error as error:
            raise StartupError(f"TICKVIEW_POSTGRES_DSN: {_reason(error)}") from error
        self._pool: ConnectionPool[Connection] | None = None
        self._opening = Lock()

    def check(self, *, writable: bool = False) -> None:
        """See that the server can be reached, is new enough, has our schema or takes it, and can be written if asked.

        Raises StartupError, saying what is wrong.
        """
        began = time.monotonic()
        try:
            with connect(self.dsn) as connection:
                migrate(connection)
                [[read_only]] = connection.execute("SHOW transaction_read_only")
        except (LockNotAvailable, QueryCanceled) as error:
            raise StartupError(
                f"PostgreSQL does not serve us: {_unavailable(error, time.monotonic() - began)}"
            ) from error
        except Error as error:
            raise StartupError(f"PostgreSQL does not serve us: {_reason(error)}; see TICKVIEW_POSTGRES_DSN") from error
        if writable and read_only == "on":
            raise StartupError(
                "PostgreSQL only lets us read (is it a standby?), and the archive is written: "
                "set TICKVIEW_POSTGRES_DSN to its primary"
            )

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection in a transaction, which ends with the context. Raises ArchiveUnavailableError."""
        began = time.monotonic()
        try:
            with self._opened().connection() as connection:
                began = time.monotonic()
                yield connection
        except PoolTimeout as error:
            raise ArchiveUnavailableError(f"PostgreSQL cannot be reached within {CONNECT_SECONDS} s") from error
        except (OperationalError, IdleInTransactionSessionTimeout) as error:
            raise _unavailable(error, time.monotonic() - began) from error

    def close(self) -> None:
        """Close what is open."""
        if self._pool:
            self._pool.close()

    def _opened(self) -> "ConnectionPool[Connection]":
        with self._opening:
            if self._pool is None:
                began = time.monotonic()
                try:
                    with connect(self.dsn) as connection:
                        migrate(connection)
                except Error as error:
                    raise _unavailable(error, time.monotonic() - began) from error
                self._pool = ConnectionPool(
                    self.dsn,
                    min_size=0,
                    max_size=CONNECTIONS,
                    timeout=CONNECT_SECONDS,
                    # The pool tries less and less often, for everybody: better it gives up, and who asks next tries.
                    reconnect_timeout=CONNECT_SECONDS,
                    check=ConnectionPool.check_connection,
                    open=True,
                )
            return self._pool


def _unavailable(error: Error, seconds: float) -> ArchiveUnavailableError:
    """What to say of an error in a transaction that had lasted so long: a server that keeps us waiting is there."""
    if isinstance(error, LockNotAvailable):
        return ArchiveBusyError(
            f"another session of PostgreSQL holds a lock, which was waited for in vain until {seconds:.1f} s after the "
            f"transaction began ({_reason(error)}); if it does not end by itself, look in pg_stat_activity for the "
            "transaction that has lasted longest (xact_start), and end its session with pg_terminate_backend(pid)"
        )
    if isinstance(error, QueryCanceled):
        return ArchiveBusyError(
            f"PostgreSQL ended a statement {seconds:.1f} s after the transaction began ({_reason(error)}); "
            "if nobody did that by hand, statement_timeout is too short for the archive: raise it with ALTER ROLE, "
            "ALTER DATABASE or in TICKVIEW_POSTGRES_DSN, wherever it is set"
        )
    return ArchiveUnavailableError(f"PostgreSQL cannot be reached: {_reason(error)}")


def _reason(error: Exception) -> str:
    """The server's or the library's message in one line."""
    return " ".join(str(error).split())
