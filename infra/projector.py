"""A projector: folds one segment of a read model, batch by batch, as long as it has the lease."""

import time
from collections import deque
from typing import Any

import structlog

from infra.eventlog import EventLog
from projections.base import Projection
from projections.fold import derive, fold, fold_parked, needed, read, read_parked
from projections.ports import Lease, Outcome, Progress, Store

logger = structlog.get_logger()

RETRIED_AT_ONCE = 500
"""Parked events tried again in one commit, at most."""


RATE_SECONDS = 5.0
"""The time over which the rate of folding is measured."""


class Rate:
    """Events per second, over the last ``RATE_SECONDS``."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def after(self, events: int) -> float:
        """The rate, these just done included."""
        now = time.monotonic()
        self._steps.append((now, events))
        while self._steps[0][0] < now - RATE_SECONDS:
            self._steps.popleft()
        since = min(self._steps[0][0], now - 1.0)
        return sum(number for _, number in self._steps) / (now - since)


class Projector:
    """Folds the log's new entries into a segment, exactly once each."""

    def __init__(
        self, projection: Projection[Any, Any], log: EventLog, store: Store, lease: Lease, batch_size: int
    ) -> None:
        self.projection = projection
        self.lease = lease
        self._log = log
        self._store = store
        self._batch_size = batch_size
        self._rate = Rate()

    def step(self, timeout: float) -> tuple[Outcome, int]:
        """Fold the next batch, waiting up to ``timeout`` seconds for one; returns what became of it and its size.

        The checkpoint moves to the last position read, whether the projection handles it or not.
        """
        entries = self._log.wait(self.lease.checkpoint, self._batch_size, timeout)
        if not entries:
            return Outcome.COMMITTED, 0
        readings = read(self.projection, entries)
        loaded = self._store.load(self.projection, self.lease.segment, *needed(self.projection, readings))
        folded = fold(self.projection, loaded, readings)
        for parked in folded.parked:
            if parked.error is not None:
                logger.error("event parked", key=parked.key, position=parked.entry.position, error=parked.error)
        mutations = derive(self.projection, folded)
        progress = Progress(entries[-1].position, entries[-1].recorded_at, self._rate.after(len(entries)))
        return self._store.commit(self.lease, progress, mutations), len(entries)

    def retry_parked(self) -> Outcome:
        """Try the parked keys again that an operator asks for, each in order, leaving the checkpoint where it is."""
        outcome = Outcome.COMMITTED
        for key in self._store.retry_requests(self.lease.segment):
            outcome = self._retry(key)
            if outcome is not Outcome.COMMITTED:
                break
        return outcome

    def _retry(self, key: str) -> Outcome:
        entries = self._store.parked_entries(self.lease.segment, key, RETRIED_AT_ONCE)
        readings = read_parked(self.projection, key, entries)
        loaded = self._store.load(self.projection, self.lease.segment, *needed(self.projection, readings))
        folded = fold_parked(self.projection, loaded, key, readings)
        left = sum(1 for parked in folded.parked if parked.key == key)
        logger.info("parked events tried again", key=key, folded=len(entries) - left, left=left)
        mutations = derive(self.projection, folded)
        return self._store.commit_retry(self.lease, key, len(entries) - left, mutations)
