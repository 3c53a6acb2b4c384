"""Keeps ``pattern_history`` of one log current, a little at a time, between the batches of the archiver."""

import time

import structlog
from eventsourcing.persistence import PersistenceError
from psycopg import Error as DatabaseError

from infra.archive.leases import LeaseLostError, PostgresLease, acquire_lease, record_error, release_lease
from infra.archive.pattern_history.projector import PatternHistoryProjector
from infra.archive.pattern_history.versions import live_version, remove_previous_version, switch_live_version
from infra.postgres.database import Database
from projections.pattern_history import NAME
from projections.patterns import ActivePatterns

logger = structlog.get_logger()

AT_ONCE_SECONDS = 0.5
"""How long one round may take, and one step longer: the archiver of the log waits meanwhile."""

BATCH_SIZE = 500
"""Events folded in one step, at most: more would make steps longer, and the whole hardly faster."""

RETRY_SECONDS = 1.0
"""Between tries where something is wrong."""


class PatternHistoryWorker:
    """Folds the history of one log under this code's version, as long as it has the lease."""

    def __init__(self, database: Database, log: str, owner: str, lease_seconds: float) -> None:
        self.behind = False
        """Whether the last round left archived events unread."""
        self._database = database
        self._log = log
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._projector: PatternHistoryProjector | None = None
        self._is_live = self._is_noted = False
        self._next_take = self._next_try = 0.0

    def run_round(self) -> None:
        """One round. Raises nothing: the archive goes on whatever goes wrong here, which is tried again."""
        now = time.monotonic()
        if now < self._next_try:
            return
        try:
            self._keep(now)
            if self._is_noted and self._projector:
                self._note(None)  # Where there is nothing more to commit, an error would stay that is over.
        except LeaseLostError as error:
            logger.warning("lease lost", read_model=NAME, log=self._log, reason=str(error))
            self._give_up(now)
        except (PersistenceError, DatabaseError) as error:
            logger.warning("history waits", log=self._log, reason=_reason(error))
            self._note(_reason(error))
            self._give_up(now)
        except Exception as error:
            logger.exception("history waits", log=self._log)
            self._note(_reason(error))
            self._give_up(now)

    def release(self) -> None:
        """Give the lease back."""
        if self._projector:
            lease, self._projector = self._projector.lease, None
            with self._database.connection() as connection:
                release_lease(connection, lease)

    def _keep(self, now: float) -> None:
        if now >= self._next_take:
            self._take()
            self._next_take = now + self._lease_seconds / 3
        if self._projector is None:
            self.behind = False
            return
        until = now + min(AT_ONCE_SECONDS, self._lease_seconds / 3)
        while self._projector.step():
            if time.monotonic() >= until:
                self.behind = True
                break
        else:
            self.behind = False
        self._settle()

    def _take(self) -> None:
        """Take or prolong the lease; code that is older than what answers leaves the work to others."""
        version = ActivePatterns.version
        with self._database.connection() as connection:
            live = live_version(connection)
            lease: PostgresLease | None = None
            if live is None or live <= version:
                lease = acquire_lease(connection, NAME, version, self._log, self._owner, self._lease_seconds)
        if lease is None:
            self._projector = None
        elif self._projector is None or self._projector.lease.epoch != lease.epoch:
            self._projector = PatternHistoryProjector(self._database, lease, BATCH_SIZE)

    def _settle(self) -> None:
        """Let this version answer as soon as it may, and then remove the one before, little by little."""
        removed = 0
        with self._database.connection() as connection:
            if not self._is_live:
                self._is_live = switch_live_version(connection, ActivePatterns.version)
            elif not self.behind:
                removed = remove_previous_version(connection)
        if removed:
            logger.info("former history removed", rows=removed)

    def _give_up(self, now: float) -> None:
        self._projector, self.behind = None, False
        self._next_take, self._next_try = 0.0, now + RETRY_SECONDS

    def _note(self, reason: str | None) -> None:
        if self._projector is None:
            return
        self._is_noted = reason is not None
        try:
            with self._database.connection() as connection:
                record_error(connection, NAME, ActivePatterns.version, self._log, reason)
        except (PersistenceError, DatabaseError):
            logger.warning("what holds up the history could not be noted", log=self._log)


def _reason(error: Exception) -> str:
    """Without the rows that PostgreSQL shows in further lines."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]
