"""The worker of ``tickview archive``, which archives and trims one log, and lets a thread fold its histories."""

import time
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Event
from typing import Any

import structlog
from eventsourcing.persistence import PersistenceError
from psycopg import Error as DatabaseError
from redis.exceptions import RedisError

from infra.archive.archiver import ARCHIVE, FORMAT_VERSION, Archiver
from infra.archive.head_keeper import HeadKeeper
from infra.archive.leases import LeaseLostError, PostgresLease, acquire_lease, record_error, release_lease
from infra.archive.log_sharing import has_share_in
from infra.archive.retention import Retention, trim_log
from infra.archive.row_history.folding import HistoryFolding
from infra.archive.row_history.worker import HistoryWorker
from infra.heartbeats.progress import Progress
from infra.log.event_log import EventLog
from infra.log.maintenance import log_state
from infra.postgres.database import Database
from infra.processes.outage import OutageLog
from infra.redis.connections import RedisClient
from projections.base import Projection

logger = structlog.get_logger()

WAIT_SECONDS = 1.0
"""Longest wait for new events, in seconds. The lease must be extended between two waits."""

GATHER_SECONDS = 0.05
"""Seconds to wait for further events after a batch that was not full. A larger batch costs less than two commits."""

CHECK_SECONDS = 1.0
"""Seconds between two checks of the log's server. If events were archived in between, the archiver then trims the log
and stores the head in Redis."""

IDLE_TRIM_SECONDS = 5.0
"""Seconds between two trims of a log without new events. Events age, and read models pass them."""

RETRY_SECONDS = 0.5
"""Seconds between two attempts while a server is away."""


@dataclass(frozen=True)
class ArchiveOptions:
    """The options of an archive worker."""

    lease_seconds: float
    batch_size: int
    """Highest number of events per transaction."""
    retention: Retention
    histories: tuple[Projection[Any, Any], ...] = ()
    """The projections that have a history."""
    shared_logs: Collection[str] = ()
    """The names of the logs that all archivers share, which may become more. A log that is not among them is taken by
    any archiver."""


class ArchiveWorker:
    """Archives, folds and trims one log, whenever it has the lease on the log.

    Args:
        database: The archive.
        client: The Redis server that holds the read models.
        log: The log.
        owner: The name under which this worker holds leases.
        options: The options.
    """

    def __init__(
        self, database: Database, client: RedisClient, log: EventLog, owner: str, options: ArchiveOptions
    ) -> None:
        self._database = database
        self._client = client
        self._log = log
        self._owner = owner
        self._options = options
        self._lease_interval = options.lease_seconds / 3
        """Seconds between two extensions of the lease, and between two attempts to acquire it."""
        self.progress = Progress()
        histories = [
            HistoryWorker(database, projection, log.name, owner, options.lease_seconds)
            for projection in options.histories
            if projection.folds(log.name)
        ]
        self._folding = HistoryFolding(log.name, histories) if histories else None
        self._is_folding = False

    def progresses(self) -> list[Progress]:
        """Return the progress of the threads that work on the log."""
        return [self.progress, *([self._folding.progress] if self._folding and self._is_folding else [])]

    def run(self, stop: Event) -> None:
        """Work until ``stop`` is set. The worker waits for a server that is away."""
        outage = OutageLog("archiving waits", "archiving resumed", log=self._log.name)
        while not stop.is_set():
            try:
                if not log_state(self._log).opened:
                    self._log.open()
                lease = self._acquire_lease() if self._has_share() else None
                if lease is None:
                    self.progress.made()
                    self.progress.wait(stop, self._lease_interval)
                else:
                    outage.recovered()
                    self._work(lease, stop)
            except LeaseLostError as error:
                logger.warning("lease lost", log=self._log.name, reason=str(error))
            except (RedisError, PersistenceError, DatabaseError) as error:
                outage.failed(error)
                self.progress.failed(error)
                # Without PostgreSQL, recording the error takes until the timeout of the connection.
                if not stop.is_set():
                    self._record_error(" ".join(str(error).split()))
                stop.wait(RETRY_SECONDS)

    def _has_share(self) -> bool:
        """Return whether this archiver should work on the log."""
        logs = self._options.shared_logs
        if self._log.name not in logs:
            return True
        return has_share_in(self._client, self._log.name, logs, self._owner, self._options.lease_seconds)

    def _acquire_lease(self) -> PostgresLease | None:
        with self._database.connection() as connection:
            return acquire_lease(
                connection, ARCHIVE, FORMAT_VERSION, self._log.name, self._owner, self._options.lease_seconds
            )

    def _work(self, lease: PostgresLease, stop: Event) -> None:
        """Work under a lease until it is lost, until another archiver should work, or until ``stop`` is set."""
        archiver = Archiver(self._database, self._log, lease, self._options.batch_size)
        with self._folding.running() if self._folding else nullcontext():
            self._is_folding = True
            try:
                self._archive(archiver, lease, stop)
            finally:
                self._is_folding = False
        with self._database.connection() as connection:
            release_lease(connection, lease)

    def _archive(self, archiver: Archiver, lease: PostgresLease, stop: Event) -> None:
        keeper = HeadKeeper(self._database, self._log)
        logger.info("archiving started", log=self._log.name, position=lease.checkpoint, epoch=lease.epoch)
        extended = checked = trimmed = time.monotonic()
        trimmed_position = lease.checkpoint
        while not stop.is_set():
            archived = archiver.step(min(WAIT_SECONDS, self._lease_interval))
            if archived and self._folding:
                self._folding.tell(archived)
            self.progress.made()
            now = time.monotonic()
            if now - extended >= self._lease_interval:
                self._extend_lease(lease)
                extended = now
                if not self._has_share():
                    break
            if now - checked >= CHECK_SECONDS:
                self._check_server(lease)
                checked = now
                if lease.checkpoint != trimmed_position or now - trimmed >= IDLE_TRIM_SECONDS:
                    if extended < now:
                        # A standby that lacks the last archived events may have been promoted since.
                        self._extend_lease(lease)
                        extended = now
                    self._trim(lease)
                    keeper.keep(archiver.head)
                    trimmed, trimmed_position = now, lease.checkpoint
            if 0 < len(archived) < self._options.batch_size:
                stop.wait(GATHER_SECONDS)
        keeper.keep(archiver.head)

    def _extend_lease(self, lease: PostgresLease) -> None:
        extended = self._acquire_lease()
        if extended is None or extended.epoch != lease.epoch:
            raise LeaseLostError(f"another archiver has the lease on {lease.log}")
        if extended.checkpoint != lease.checkpoint:
            raise LeaseLostError(
                f"the archive of {lease.log} ends at {extended.checkpoint} instead of {lease.checkpoint}: another "
                "PostgreSQL server has taken over"
            )
        # Any archiver may have recorded an error. Only a commit would clear it, and an idle log has no commits.
        self._record_error(None)

    def _check_server(self, lease: PostgresLease) -> None:
        """If the server of the log was restarted or replaced, open the log and give up the lease."""
        if not log_state(self._log).opened:
            self._log.open()
            raise LeaseLostError(f"the server of {lease.log} was restarted or replaced")

    def _trim(self, lease: PostgresLease) -> None:
        events = trim_log(self._log, self._client, lease.checkpoint, self._options.retention)
        if events:
            logger.info("log trimmed", log=lease.log, events=events)

    def _record_error(self, reason: str | None) -> None:
        try:
            with self._database.connection() as connection:
                record_error(connection, ARCHIVE, FORMAT_VERSION, self._log.name, reason)
        except (PersistenceError, DatabaseError):
            # The outage is in the log already, once.
            logger.debug("error not recorded in the archive", log=self._log.name)
