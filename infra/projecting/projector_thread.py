"""A projector at work in a thread: folds its segment until it is told to stop or its lease is lost."""

import time
from threading import Event, Thread
from typing import Any

import structlog
from eventsourcing.persistence import PersistenceError
from redis import Redis
from redis.exceptions import RedisError

from infra.log.event_log import EventLog
from infra.processes.outage import OutageLog
from infra.projecting.expirer import expire
from infra.projecting.projector import Projector
from projections.patterns import ActivePatterns
from projections.ports import CommitOutcome, Lease, Segment

logger = structlog.get_logger()

THROTTLED_STEPS_A_SECOND = 20
"""A throttled segment is folded in so many small steps, for reads must not wait for a large one."""

IDLE_SECONDS = 0.5
"""How long a projector waits for new entries before it looks after expiries and retries."""


class ProjectorThread:
    """A projector in its thread."""

    def __init__(self, client: Redis, log: EventLog, projector: Projector, batch_size: int) -> None:
        self.stop = Event()
        self.retry = Event()
        """Parked keys are to be tried again."""
        self.is_live = False
        """Whether queries are answered from this segment: only then time that passes becomes events."""
        self.throttle = 0
        """Events a second, at most; 0: no limit."""
        self._client = client
        self._log = log
        self._projector = projector
        self._batch_size = batch_size
        self._expired_at = 0.0
        self._wait = OutageLog("segment waits", "segment goes on", **self.described)
        self.thread = Thread(target=self._run, name=str(self.segment), daemon=True)

    @property
    def lease(self) -> Lease:
        """Of the segment."""
        return self._projector.lease

    @property
    def segment(self) -> Segment:
        """The segment."""
        return self.lease.segment

    @property
    def described(self) -> dict[str, Any]:
        """The segment, for the log."""
        return {"read_model": self.segment.read_model, "build": str(self.segment.build), "log": self.segment.log}

    def _run(self) -> None:
        while not self.stop.is_set():
            started = time.monotonic()
            throttle = self.throttle
            step = throttle // THROTTLED_STEPS_A_SECOND if throttle else self._batch_size
            self._projector.batch_size = min(max(step, 1), self._batch_size)
            try:
                outcome, size = self._projector.step(IDLE_SECONDS)
                if outcome is CommitOutcome.COMMITTED and self.retry.is_set():
                    self.retry.clear()
                    outcome = self._projector.retry_parked()
                if outcome not in (CommitOutcome.COMMITTED, CommitOutcome.ALREADY_COMMITTED):
                    logger.warning("lease lost", **self.described, outcome=outcome.value)
                    return
                # A segment that is behind may still read that a pattern was prolonged.
                if size < self._batch_size:
                    self._expire()
            except (RedisError, PersistenceError) as error:
                self._wait.failed(error)
                self.stop.wait(IDLE_SECONDS)
            else:
                self._wait.recovered()
                if throttle:
                    self.stop.wait(max(0.0, size / throttle - (time.monotonic() - started)))

    def _expire(self) -> None:
        now = time.monotonic()
        if self.is_live and self.segment.read_model == ActivePatterns.name and now - self._expired_at >= IDLE_SECONDS:
            expire(self._client, self._log, self.segment)
            self._expired_at = now
