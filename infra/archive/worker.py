"""``tickview archive``: a thread for each log archives it, keeps its history and trims it, while it has the lease."""

import time
from threading import Event

import structlog
from eventsourcing.persistence import PersistenceError
from psycopg import Error as DatabaseError
from redis import Redis
from redis.exceptions import RedisError

from domain.streams import is_market_log
from infra.archive.archiver import ARCHIVE, FORMAT_VERSION, Archiver
from infra.archive.leases import LeaseLostError, PostgresLease, acquire_lease, record_error, release_lease
from infra.archive.pattern_history.worker import PatternHistoryWorker
from infra.archive.retention import Retention, trim_log
from infra.log.event_log import EventLog
from infra.log.maintenance import log_state
from infra.postgres.database import Database
from infra.processes.outage import OutageLog

logger = structlog.get_logger()

WAIT_SECONDS = 1.0
"""How long a log is waited for before the lease is prolonged."""

GATHER_SECONDS = 0.05
"""Events that follow each other so closely are archived together: a commit costs more than the wait."""

TRIM_SECONDS = 1.0
"""Between two looks at what may be trimmed."""

RETRY_SECONDS = 0.5
"""Between tries while a server is away."""


class ArchiveWorker:
    """Keeps one log."""

    def __init__(
        self,
        database: Database,
        client: Redis,
        log: EventLog,
        owner: str,
        *,
        lease_seconds: float,
        batch_size: int,
        retention: Retention,
    ) -> None:
        self._database = database
        self._client = client
        self._log = log
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._batch_size = batch_size
        self._retention = retention
        self._history = (
            PatternHistoryWorker(database, log.name, owner, lease_seconds) if is_market_log(log.name) else None
        )

    def run(self, stop: Event) -> None:
        """Until ``stop`` is set; a server that is away is waited for."""
        outage = OutageLog("archiving waits", "archiving goes on", log=self._log.name)
        while not stop.is_set():
            try:
                if not log_state(self._log).opened:
                    self._log.open()
                lease = self._take()
                if lease is None:
                    stop.wait(self._lease_seconds / 3)
                else:
                    outage.recovered()
                    self._keep(lease, stop)
            except LeaseLostError as error:
                logger.warning("lease lost", log=self._log.name, reason=str(error))
            except (RedisError, PersistenceError, DatabaseError) as error:
                outage.failed(error)
                self._note(" ".join(str(error).split()))
                stop.wait(RETRY_SECONDS)

    def _take(self) -> PostgresLease | None:
        with self._database.connection() as connection:
            return acquire_lease(connection, ARCHIVE, FORMAT_VERSION, self._log.name, self._owner, self._lease_seconds)

    def _keep(self, lease: PostgresLease, stop: Event) -> None:
        archiver = Archiver(self._database, self._log, lease, self._batch_size)
        logger.info("archiving", log=self._log.name, position=lease.checkpoint, epoch=lease.epoch)
        wait = min(WAIT_SECONDS, self._lease_seconds / 3)
        prolonged = trimmed = time.monotonic()
        while not stop.is_set():
            archived = archiver.step(0 if self._history and self._history.behind else wait)
            # While the archive itself is behind, it goes first.
            if self._history and len(archived) < self._batch_size:
                self._history.keep()
            now = time.monotonic()
            if now - prolonged >= self._lease_seconds / 3:
                held = self._take()
                if held is None or held.epoch != lease.epoch:
                    raise LeaseLostError(f"the lease on {lease.log} was given to somebody else")
                self._note(None)  # An idle log would keep an error that is over.
                prolonged = now
            if now - trimmed >= TRIM_SECONDS:
                self._look_after(lease)
                trimmed = now
            if archived and len(archived) < self._batch_size:
                stop.wait(GATHER_SECONDS)
        if self._history:
            self._history.release()
        with self._database.connection() as connection:
            release_lease(connection, lease)

    def _look_after(self, lease: PostgresLease) -> None:
        """Open the log where its server was replaced, and trim it."""
        if not log_state(self._log).opened:
            self._log.open()
            raise LeaseLostError(f"the server of {lease.log} was replaced")
        gone = trim_log(self._log, self._client, lease.checkpoint, self._retention)
        if gone:
            logger.info("log trimmed", log=lease.log, events=gone)

    def _note(self, reason: str | None) -> None:
        try:
            with self._database.connection() as connection:
                record_error(connection, ARCHIVE, FORMAT_VERSION, self._log.name, reason)
        except (PersistenceError, DatabaseError):
            logger.warning("what holds up the archive could not be noted in it", log=self._log.name)
