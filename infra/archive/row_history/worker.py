"""The worker that folds a history of one log, in short rounds."""

import time
from collections.abc import Sequence
from typing import Any

import structlog
from eventsourcing.persistence import PersistenceError
from psycopg import Error as DatabaseError

from domain.log import LogEntry
from infra.archive.leases import LeaseLostError, PostgresLease, acquire_lease, record_error, release_lease
from infra.archive.row_history.projector import HistoryProjector
from infra.archive.row_history.tables import HistoryTables
from infra.archive.row_history.versions import live_version, remove_previous_version, switch_live_version
from infra.postgres.database import Database
from projections.base import Projection

logger = structlog.get_logger()

BATCH_SIZE = 1_000
"""Highest number of events per step. Larger steps take longer and are hardly faster per event."""

MAINTENANCE_SECONDS = 1.0
"""Seconds between two looks at the versions of the history, until no other version is left."""

IDLE_MAINTENANCE_SECONDS = 10.0
"""Seconds between two looks at the versions of the history, while this version is the only one."""

RETRY_SECONDS = 1.0
"""Seconds between two attempts after an error."""


class HistoryWorker:
    """Folds a history of one log under the version of this code, while it has the lease on the segment."""

    def __init__(
        self, database: Database, projection: Projection[Any, Any], log: str, owner: str, lease_seconds: float
    ) -> None:
        self.behind = False
        """Whether the last round left archived events unfolded."""
        self._database = database
        self._projection = projection
        self._tables = HistoryTables(projection)
        self._log = log
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._projector: HistoryProjector | None = None
        self._is_live = False
        self._has_tables = False
        self._has_recorded_error = False
        self._next_lease = self._next_attempt = self._next_maintenance = 0.0

    def run_round(self, seconds: float, archived: Sequence[LogEntry] | None) -> None:
        """Fold for some seconds, and to the end of the current step.

        Raises nothing: the archive goes on after every error, and a later round retries.

        Args:
            seconds: Seconds after which no further step begins.
            archived: The events that were archived since the last round, or an empty list if they are not known.
                None: no events were archived. The round then reads the archive only if the history may be behind.
        """
        now = time.monotonic()
        if now < self._next_attempt:
            return
        try:
            self._fold(now, seconds, archived)
            if self._has_recorded_error and self._projector:
                # Only a commit would clear the error, and there may be nothing to commit.
                self._record_error(None)
        except LeaseLostError as error:
            logger.warning("lease lost", history=self._tables.name, log=self._log, reason=str(error))
            self._back_off(now)
        except (PersistenceError, DatabaseError) as error:
            logger.warning("history waits", history=self._tables.name, log=self._log, reason=_describe(error))
            self._record_error(_describe(error))
            self._back_off(now)
        except Exception as error:
            logger.exception("history waits", history=self._tables.name, log=self._log)
            self._record_error(_describe(error))
            self._back_off(now)

    def release(self) -> None:
        """Release the lease."""
        if self._projector:
            lease, self._projector = self._projector.lease, None
            with self._database.connection() as connection:
                release_lease(connection, lease)

    def _fold(self, now: float, seconds: float, archived: Sequence[LogEntry] | None) -> None:
        if now >= self._next_lease:
            self._acquire_lease()
            self._next_lease = now + self._lease_seconds / 3
        if self._projector is None:
            self.behind = False
            return
        if archived is not None or self.behind:
            self.behind = self._step_until(self._projector, now + min(seconds, self._lease_seconds / 3), archived or ())
        if now >= self._next_maintenance:
            is_idle = self._maintain_versions()
            self._next_maintenance = now + (IDLE_MAINTENANCE_SECONDS if is_idle else MAINTENANCE_SECONDS)

    def _step_until(self, projector: HistoryProjector, until: float, archived: Sequence[LogEntry]) -> bool:
        """Fold until a moment on the monotonic clock. Return whether archived events may be left."""
        while projector.step(archived):
            if archived and projector.lease.checkpoint == archived[-1].position:
                return False
            if time.monotonic() >= until:
                return True
        return False

    def _acquire_lease(self) -> None:
        """Acquire or extend the lease. Code whose version is below the live one leaves the work to newer code."""
        name, version = self._tables.name, self._projection.version
        with self._database.connection() as connection:
            live = live_version(connection, self._tables)
            lease: PostgresLease | None = None
            if live is None or live <= version:
                if not self._has_tables:
                    self._tables.create(connection)
                lease = acquire_lease(connection, name, version, self._log, self._owner, self._lease_seconds)
        if lease is None:
            self._projector = None
            return
        if not self._has_tables:
            with self._database.connection() as connection:
                self._tables.create_indexes(connection)
            self._has_tables = True
        if self._projector is None or self._projector.lease.epoch != lease.epoch:
            self._projector = HistoryProjector(self._database, self._projection, lease, BATCH_SIZE)
            self.behind = True

    def _maintain_versions(self) -> bool:
        """Make this version live when it has caught up. Then remove the previous version, some rows per round.

        Returns:
            Whether this version is live and no previous version was found.
        """
        removed = 0
        with self._database.connection() as connection:
            was_live = self._is_live
            if not was_live:
                self._is_live = switch_live_version(connection, self._tables, self._projection.version)
            elif not self.behind:
                removed = remove_previous_version(connection, self._tables)
        if removed:
            logger.info("previous version of a history removed", history=self._tables.name, rows=removed)
        return was_live and not removed and not self.behind

    def _back_off(self, now: float) -> None:
        # After a failover, the new primary server may not have what this worker has read or written.
        self._projector, self.behind, self._is_live, self._has_tables = None, False, False, False
        self._next_lease = self._next_maintenance = 0.0
        self._next_attempt = now + RETRY_SECONDS

    def _record_error(self, reason: str | None) -> None:
        if self._projector is None:
            return
        self._has_recorded_error = reason is not None
        try:
            with self._database.connection() as connection:
                record_error(connection, self._tables.name, self._projection.version, self._log, reason)
        except (PersistenceError, DatabaseError):
            logger.warning("error of a history not recorded", history=self._tables.name, log=self._log)


def _describe(error: Exception) -> str:
    """Return the type and the first line of an error. PostgreSQL shows rows of the table in further lines."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]
