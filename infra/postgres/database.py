"""Connections to PostgreSQL: a pool that opens on first use and survives restarts of the server."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from psycopg import Connection, Error, OperationalError, connect
from psycopg.errors import IdleInTransactionSessionTimeout, LockNotAvailable, QueryCanceled, ReadOnlySqlTransaction
from psycopg_pool import ConnectionPool, PoolTimeout

from infra.log.errors import ArchiveUnavailableError
from infra.postgres.errors import READ_ONLY_ADVICE, one_line, translate_error
from infra.postgres.schema import migrate
from infra.postgres.sessions import CONNECT_SECONDS, complete_dsn, configure_session, count_attempts, with_first_host
from infra.postgres.statements import load_statements
from infra.processes.errors import StartupError

POOL_SIZE = 16
"""Highest number of connections of one process. An archiver has two threads per log, and connects only as it needs."""

_statements = load_statements(__package__)
PING = _statements["ping"]
"""Statement that checks that the server answers."""
_SHOW_READ_ONLY = _statements["show_read_only"]
_SELECT_SYSTEM_IDENTIFIER = _statements["select_system_identifier"]


class Database:
    """A PostgreSQL database with a pool of connections.

    The pool opens on first use. A process may therefore create the object before it forks.

    Args:
        dsn: The DSN. If it names several hosts, connections are opened to the host that answered last or, if that does
            not serve, to the first that does.
        setting: The setting that has the DSN, for messages.
        target: The value of ``target_session_attrs`` if the DSN names several hosts and no such value.

    Raises:
        StartupError: The DSN is malformed.
    """

    def __init__(self, dsn: str, setting: str = "TICKVIEW_POSTGRES_DSN", target: str = "read-write") -> None:
        try:
            self.dsn = complete_dsn(dsn, target)
        except Error as error:
            raise StartupError(f"{setting}: {one_line(error)}") from error
        self._connect_seconds = CONNECT_SECONDS * count_attempts(self.dsn)
        self._first_dsn = self.dsn
        """The DSN with the host that answered last in front. Without this, each connection would wait for a host that
        is gone."""
        self._system_identifier: int | None = None
        self._pool: ConnectionPool[Connection] | None = None
        self._pool_lock = Lock()

    @property
    def primary(self) -> "Database":
        """The server to which the archive is written: this one."""
        return self

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
            with self.open_session() as connection:
                [[read_only]] = connection.execute(_SHOW_READ_ONLY)
        except (LockNotAvailable, QueryCanceled) as error:
            reason = translate_error(error, time.monotonic() - started)
            raise StartupError(f"PostgreSQL does not serve TickView: {reason}") from error
        except Error as error:
            raise StartupError(
                f"PostgreSQL does not serve TickView: {one_line(error)}. Check TICKVIEW_POSTGRES_DSN."
            ) from error
        if writable and read_only == "on":
            raise StartupError(f"{READ_ONLY_ADVICE}.")

    def system_identifier(self) -> int | None:
        """Return the number that the server shares with all its standbys. None: the server cannot be reached."""
        if self._system_identifier is None:
            try:
                with self.open_session() as connection:
                    [[self._system_identifier]] = connection.execute(_SELECT_SYSTEM_IDENTIFIER)
            except (Error, StartupError):
                return None
        return self._system_identifier

    def catch_up(self) -> None:
        """Wait until this server has what the primary server has. It is the primary server, and there is no wait."""

    @contextmanager
    def open_session(self) -> Iterator[Connection]:
        """Open a connection beside the pool, in a transaction, and check the server.

        Raises:
            StartupError: The server cannot be used.
            psycopg.Error: The server cannot be reached, or it ended the connection.
        """
        with connect(self._first_dsn) as connection:
            self._remember(connection)
            self._prepare(connection)
            yield connection

    def _prepare(self, connection: Connection) -> None:
        """Prepare the database on the first connection to it: bring the schema up to date."""
        migrate(connection)

    def _remember(self, connection: Connection) -> None:
        """Configure a new connection, and let later connections try its host first."""
        self._configure(connection)
        self._first_dsn = with_first_host(self.dsn, connection.info.host, connection.info.port)

    def _configure(self, connection: Connection) -> None:
        configure_session(connection)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection in a transaction. The transaction ends with the context.

        Raises:
            ArchiveUnavailableError: The server cannot be reached, or it ended the connection.
            ArchiveReadOnlyError: The server refuses to write. The next caller connects again, perhaps to another host.
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
            raise ArchiveUnavailableError(f"PostgreSQL cannot be reached within {self._connect_seconds} s") from error
        except ReadOnlySqlTransaction as error:
            self._discard_pool()
            raise translate_error(error, time.monotonic() - started) from error
        except (OperationalError, IdleInTransactionSessionTimeout) as error:
            raise translate_error(error, time.monotonic() - started) from error

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
                    with self.open_session():
                        pass
                except Error as error:
                    raise translate_error(error, time.monotonic() - started) from error
                self._pool = ConnectionPool(
                    lambda: self._first_dsn,
                    min_size=0,
                    max_size=POOL_SIZE,
                    timeout=self._connect_seconds,
                    # The pool would retry at growing intervals for all callers. It gives up instead, and the next
                    # caller connects again.
                    reconnect_timeout=self._connect_seconds,
                    check=ConnectionPool.check_connection,
                    configure=self._remember,
                    open=True,
                )
            return self._pool
