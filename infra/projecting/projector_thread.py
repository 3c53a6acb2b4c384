"""Projector thread: folds one segment until a stop is requested or its lease is lost."""

import time
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import structlog
from eventsourcing.persistence import PersistenceError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from infra.heartbeats.progress import Progress
from infra.log.event_log import EventLog
from infra.processes.outage import OutageLog
from infra.projecting.expirer import ExpiryError, expire
from infra.projecting.projector import BatchRefusedError, Projector, Step
from infra.read_models.keys import SegmentKeys
from infra.redis.cluster import run_on_key_node
from infra.redis.connections import RedisClient
from projections.ports import CommitOutcome, Lease, Segment

logger = structlog.get_logger()

THROTTLED_STEPS_PER_SECOND = 20
"""Steps per second of a throttled segment. Small steps keep the server free for queries in between."""

REFUSALS = 3
"""Number of refused attempts to commit a single event before it is parked."""

IDLE_SECONDS = 0.5
"""Longest wait for new entries, in seconds. Then the thread checks for ended rows and retries."""


@dataclass(frozen=True)
class SegmentOrders:
    """The orders of a worker to a projector thread. The worker replaces them as a whole."""

    is_live: bool = False
    """True if the segment belongs to the live build. The thread records ended rows of the live build only."""
    throttle: int = 0
    """Highest number of events per second. 0: no limit."""


class ProjectorThread(Thread):
    """The thread of one projector.

    Args:
        client: The client with which the thread reads ended rows.
        log: The log of the segment.
        projector: The projector of the segment.
        batch_size: Highest number of log entries per commit, at least 1.
        orders: The first orders. ``give_orders`` replaces them.
    """

    def __init__(
        self, client: RedisClient, log: EventLog, projector: Projector, batch_size: int, orders: SegmentOrders
    ) -> None:
        super().__init__(name=str(projector.lease.segment), daemon=True)
        self._client = client
        self._log = log
        self._projector = projector
        self._batch_size = self._limit = batch_size
        self._refusals: list[str] = []
        """The errors of the last attempts to commit a single event."""
        self._orders = orders
        self._stop_requested = Event()
        self._retry_requested = Event()
        self._expired_at = 0.0
        self._outage = OutageLog("folding interrupted", "folding resumed", **self.log_context)
        self._expiry_outage = OutageLog("rows not ended", "rows ended again", **self.log_context)
        self.progress = Progress()
        self.expiry_progress = Progress()

    @property
    def lease(self) -> Lease:
        """The lease on the segment."""
        return self._projector.lease

    @property
    def segment(self) -> Segment:
        """The segment that the thread folds."""
        return self.lease.segment

    @property
    def log_context(self) -> dict[str, Any]:
        """The fields that identify the segment in a log line."""
        return {"read_model": self.segment.read_model, "build": str(self.segment.build), "log": self.segment.log}

    def give_orders(self, orders: SegmentOrders) -> None:
        """Replace the orders. The next step follows the new orders."""
        self._orders = orders

    def request_retry(self) -> None:
        """Ask the thread to fold parked keys again after its next step."""
        self._retry_requested.set()

    def request_stop(self) -> None:
        """Ask the thread to end after its current step. ``join`` waits for the end."""
        self._stop_requested.set()

    def run(self) -> None:
        """Fold until a stop is requested or the lease is lost."""
        while not self._stop_requested.is_set():
            started = time.monotonic()
            throttle = self._orders.throttle
            try:
                step = self._step(throttle)
                if step.outcome not in (CommitOutcome.COMMITTED, CommitOutcome.ALREADY_COMMITTED):
                    logger.warning("lease lost", **self.log_context, outcome=step.outcome.value)
                    return
                if step.has_more:
                    # Entries that the segment has not read yet may extend the life of a row.
                    self.expiry_progress.made()
                else:
                    self._expire()
            except (RedisError, PersistenceError, BatchRefusedError) as error:
                self._outage.failed(error)
                self.progress.failed(error)
                self._reduce_batch(error)
                self._stop_requested.wait(IDLE_SECONDS)
            else:
                self._outage.recovered()
                self.progress.made()
                self._limit = min(self._batch_size, 2 * self._limit)
                if throttle:
                    self._stop_requested.wait(max(0.0, step.events / throttle - (time.monotonic() - started)))

    def _reduce_batch(self, error: Exception) -> None:
        """Halve the next batch. Note the error if a single event is refused."""
        if self._limit == 1 and (isinstance(error, BatchRefusedError) or self._closes_connection(error)):
            self._refusals.append(str(error))
        self._limit = max(1, self._limit // 2)

    def _closes_connection(self, error: Exception) -> bool:
        """Return whether the server works, but closes the connection of a command that is too large for it."""
        if not isinstance(error, RedisConnectionError):
            return False
        try:
            return run_on_key_node(self._client, SegmentKeys(self.segment).state, lambda node: bool(node.ping()))
        except RedisError:
            return False

    def _step(self, throttle: int) -> Step:
        """Fold one batch, and the parked keys whose retry is requested. Park an event that is always refused."""
        if len(self._refusals) >= REFUSALS:
            step = self._projector.park_next(self._refusals[-1])
            self._refusals.clear()
            return step
        events = throttle // THROTTLED_STEPS_PER_SECOND if throttle else self._limit
        limit = min(max(events, 1), self._limit)
        # An error of the batch behind a refused event would count as another error of the event.
        reads_ahead = self._limit == self._batch_size and not self._refusals
        step = self._projector.step(limit, IDLE_SECONDS, reads_ahead=reads_ahead)
        self._refusals.clear()
        if step.outcome is CommitOutcome.COMMITTED and self._retry_requested.is_set():
            self._retry_requested.clear()
            return step._replace(outcome=self._projector.retry_parked())
        return step

    @property
    def expires(self) -> bool:
        """Whether the thread records the end of rows."""
        return self._orders.is_live and self._projector.projection.ends is not None

    def _expire(self) -> None:
        """Record the ends of rows that are due. Rows that cannot be ended do not interrupt the folding."""
        now = time.monotonic()
        if not self.expires or now - self._expired_at < IDLE_SECONDS:
            return
        self._expired_at = now
        try:
            expire(self._client, self._log, self._projector.projection, self.segment)
        except ExpiryError as error:
            self._expiry_outage.failed(error)
            self.expiry_progress.failed(error)
        except (RedisError, PersistenceError) as error:
            self.expiry_progress.failed(error)
            raise
        else:
            self._expiry_outage.recovered()
            self.expiry_progress.made()
