"""A worker: leases its fair share of all segments and runs a projector for each, in a thread of its own."""

import time
from collections.abc import Callable
from functools import partial
from threading import Event, Thread
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError

from infra.connections import REDIS_ERRORS
from infra.eventlog import EventLog
from infra.expirer import expire
from infra.functions import call
from infra.projector import Projector
from infra.read_models.store import RedisStore
from projections.base import Projection
from projections.patterns import ActivePatterns
from projections.ports import Lease, Outcome, Segment

logger = structlog.get_logger()

WORKERS_KEY = "tickview:workers"

IDLE_SECONDS = 0.5
"""How long a projector waits for new entries before it looks after expiries and retries."""


class Worker:
    """One worker process's work."""

    def __init__(
        self,
        client: Redis,
        name: str,
        projections: dict[str, Projection[Any, Any]],
        logs: dict[str, EventLog],
        *,
        lease_seconds: float,
        batch_size: int,
    ) -> None:
        self._client = client
        self._name = name
        self._projections = projections
        self._logs = logs
        self._lease_seconds = lease_seconds
        self._batch_size = batch_size
        self._store = RedisStore(client)
        self._running: dict[Segment, _Running] = {}
        # Sorted by log first, so that neighbours in the list, which go to one worker, are different read models.
        self._segments = sorted(
            (Segment(projection.name, projection.version, log) for projection in projections.values() for log in logs),
            key=lambda segment: (segment.log, segment.read_model),
        )

    def run(self, stop: Event) -> None:
        """Work until ``stop`` is set; then give all leases back."""
        while not stop.is_set():
            try:
                self._tend()
            except REDIS_ERRORS as error:
                logger.warning("redis is away", error=str(error))
            stop.wait(self._lease_seconds / 3)
        for running in self._running.values():
            running.stop.set()
        for running in list(self._running.values()):
            self._give_back(running)
        self._enrol(0)

    def _enrol(self, seconds: float) -> tuple[int, int]:
        place, count = call(self._client, "enrol", [WORKERS_KEY], [self._name, round(seconds * 1000)])
        return place, count

    def _tend(self) -> None:
        """Prolong the leases held, give back those beyond the fair share, take free ones up to it."""
        place, workers = self._enrol(self._lease_seconds)
        share = -(-len(self._segments) // workers)
        self._prolong()
        for running in list(self._running.values())[share:]:
            self._give_back(running)
        first = place * share % len(self._segments)
        free = [one for one in self._segments[first:] + self._segments[:first] if one not in self._running]
        while free and len(self._running) < share:
            missing = share - len(self._running)
            asked, free = free[:missing], free[missing:]
            for lease in self._store.lease(asked, self._name, self._lease_seconds):
                if lease is not None:
                    self._begin(lease)

    def _prolong(self) -> None:
        held = list(self._running.values())
        segments = [running.lease.segment for running in held]
        for running, lease in zip(held, self._store.lease(segments, self._name, self._lease_seconds), strict=True):
            if lease is None or lease.epoch != running.lease.epoch or not running.thread.is_alive():
                self._end(running)
            elif lease.retries:
                running.retry.set()

    def _begin(self, lease: Lease) -> None:
        segment = lease.segment
        log = self._logs[segment.log]
        projector = Projector(self._projections[segment.read_model], log, self._store, lease, self._batch_size)
        running = _Running(projector, self._expirer_of(segment), self._batch_size)
        self._running[segment] = running
        running.thread.start()
        logger.info("segment taken", **segment._asdict(), epoch=lease.epoch, checkpoint=lease.checkpoint)

    def _expirer_of(self, segment: Segment) -> Callable[[], int] | None:
        if segment.read_model != ActivePatterns.name:
            return None
        return partial(expire, self._client, self._logs[segment.log], segment)

    def _end(self, running: "_Running") -> None:
        running.stop.set()
        running.thread.join()
        del self._running[running.lease.segment]
        logger.info("segment left", **running.lease.segment._asdict(), checkpoint=running.lease.checkpoint)

    def _give_back(self, running: "_Running") -> None:
        self._end(running)
        self._store.release(running.lease)


class _Running:
    """A projector in its thread."""

    def __init__(self, projector: Projector, expire_due: Callable[[], int] | None, batch_size: int) -> None:
        self.stop = Event()
        self.retry = Event()
        self.lease = projector.lease
        self._projector = projector
        self._expire_due = expire_due
        self._batch_size = batch_size
        self.thread = Thread(target=self._run, name="/".join(map(str, self.lease.segment)), daemon=True)

    def _run(self) -> None:
        looked_at = 0.0
        while not self.stop.is_set():
            try:
                outcome, size = self._projector.step(IDLE_SECONDS)
                if outcome is Outcome.COMMITTED and self.retry.is_set():
                    self.retry.clear()
                    outcome = self._projector.retry_parked()
                if outcome not in (Outcome.COMMITTED, Outcome.ALREADY_THERE):
                    logger.warning("lease lost", **self.lease.segment._asdict(), outcome=outcome.value)
                    return
                # A segment that is behind may still read that a pattern was prolonged.
                caught_up = size < self._batch_size
                if self._expire_due and caught_up and time.monotonic() - looked_at >= IDLE_SECONDS:
                    self._expire_due()
                    looked_at = time.monotonic()
            except RedisError as error:
                logger.warning("segment waits for redis", **self.lease.segment._asdict(), error=str(error))
                self.stop.wait(IDLE_SECONDS)
