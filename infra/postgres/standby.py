"""A standby of the PostgreSQL server, from which the past is read: audit, histories and queries as of a moment."""

import time
from collections.abc import Mapping

from psycopg import Connection, Error

from infra.log.errors import ArchiveUnavailableError
from infra.postgres.database import Database
from infra.postgres.errors import one_line
from infra.postgres.schema import pending_migrations
from infra.postgres.sessions import configure_session
from infra.postgres.statements import load_statements
from infra.processes.errors import StartupError

SETTING = "TICKVIEW_POSTGRES_READ_DSN"

CATCH_UP_SECONDS = 30.0
"""Seconds for which a command waits until the standby has what the primary server has."""

POLL_SECONDS = 0.1
"""Seconds between two looks at the standby during this time."""

_statements = load_statements(__package__)
_SELECT_SYSTEM_IDENTIFIER = _statements["select_system_identifier"]
_SELECT_WRITTEN = _statements["select_written"]
_SELECT_PROGRESS = _statements["select_progress"]
_SELECT_SECONDS_BEHIND = _statements["select_seconds_behind"]


def read_written(connection: Connection) -> str:
    """Return the place of the write-ahead log (WAL) up to which a server has everything."""
    [[written]] = connection.execute(_SELECT_WRITTEN)
    return str(written)


def seconds_behind(connection: Connection, written: str) -> float:
    """Return for how many seconds a standby has replayed nothing. 0: it has everything up to a place of the WAL.

    While archivers run, transactions follow each other within seconds, because they extend their leases.
    """
    [[seconds]] = connection.execute(_SELECT_SECONDS_BEHIND, {"written": written})
    return float(seconds)


def _read_progress(database: Database) -> dict[tuple[str, ...], int]:
    """Return the checkpoint of each segment of the archive and of the histories."""
    with database.connection() as connection:
        rows = connection.execute(_SELECT_PROGRESS).fetchall()
    return {tuple(segment): position for *segment, position in rows}


class StandbyNotReadyError(StartupError):
    """The standby cannot be used now. Later it may be, without a change of the settings."""


class Standby(Database):
    """A server from which the past is read, and to which nothing is written.

    It has the same content as the primary server, a moment later. After a failover it may be the primary server itself.

    Args:
        dsn: The DSN. If it names several hosts, standbys are preferred.
        primary: The primary server.

    Raises:
        StartupError: The DSN is malformed.
    """

    def __init__(self, dsn: str, primary: Database) -> None:
        super().__init__(dsn, SETTING, target="prefer-standby")
        self._primary = primary

    @property
    def primary(self) -> Database:
        """The server to which the archive is written."""
        return self._primary

    def check(self, *, writable: bool = False) -> None:
        """Check that the server answers, has the schema, and is a copy of the primary server.

        Raises:
            StandbyNotReadyError: The server cannot be reached, or its schema is behind.
            StartupError: The server is not a copy of the primary server.
        """
        assert not writable, "nothing is written to a standby"
        try:
            with self.open_session():
                pass
        except Error as error:
            raise StandbyNotReadyError(
                f"The standby of PostgreSQL does not serve TickView: {one_line(error)}. Check {SETTING}."
            ) from error

    def catch_up(self) -> None:
        """Wait until the server has archived and folded events as far as the primary server has now.

        Raises:
            ArchiveUnavailableError: One of the servers cannot be reached, or this one does not catch up in time.
        """
        # Places of the WAL would not do: a transaction may be visible before its WAL is written.
        reached = _read_progress(self._primary)
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while (missing := self._missing(reached)) > 0:
            if time.monotonic() >= deadline:
                raise ArchiveUnavailableError(
                    f"The standby of PostgreSQL is {missing:,} events behind the primary server, and did not catch up "
                    f"within {CATCH_UP_SECONDS:.0f} s. Check its replication, or unset {SETTING} to read from the "
                    "primary server"
                )
            time.sleep(POLL_SECONDS)

    def _missing(self, reached: Mapping[tuple[str, ...], int]) -> int:
        """Return how many events the server lacks in the segment in which it lacks most."""
        own = _read_progress(self)
        return max((position - own.get(segment, 0) for segment, position in reached.items()), default=0)

    def _prepare(self, connection: Connection) -> None:
        """Check the schema and the identity of a server that was just connected to."""
        if pending := pending_migrations(connection):
            raise StandbyNotReadyError(
                f"The standby of PostgreSQL lacks migration {pending[0].number} of TickView's schema. Either it is "
                f"behind the primary server, or {SETTING} names another database."
            )
        [[identifier]] = connection.execute(_SELECT_SYSTEM_IDENTIFIER)
        expected = self._primary.system_identifier()
        if expected not in (None, identifier):
            raise StartupError(
                f"The server of {SETTING} is no copy of the primary server: its system identifier is {identifier}, and "
                f"that of the primary server is {expected}. Set {SETTING} to a streaming standby of the server of "
                "TICKVIEW_POSTGRES_DSN."
            )

    def _configure(self, connection: Connection) -> None:
        configure_session(connection)
        connection.read_only = True
