"""Projector: folds one segment of a read model, batch by batch, while its worker holds the lease."""

import time
from collections import deque
from typing import Any, NamedTuple

import structlog

from domain.log import LogEntry
from infra.log.bounds import is_full
from infra.log.event_log import EventLog
from projections.base import Projection
from projections.fold import (
    DecodedEntry,
    FoldResult,
    LoadedState,
    decode_entries,
    decode_parked_entries,
    fold,
    fold_parked,
    overlay,
    required_keys,
)
from projections.mutations import Mutations, derive
from projections.ports import CommitOutcome, Lease, Progress, ReadModelStore

logger = structlog.get_logger()

RETRY_BATCH = 500
"""Highest number of parked events that one commit folds again."""

RATE_SECONDS = 5.0
"""Seconds over which the rate of folding is measured."""


class RateMeter:
    """The number of folded events per second over the last ``RATE_SECONDS``."""

    def __init__(self) -> None:
        self._batches: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def record(self, events: int) -> float:
        """Count a batch of events that was folded just now. Return the rate, this batch included."""
        now = time.monotonic()
        self._batches.append((now, events))
        while self._batches[0][0] < now - RATE_SECONDS:
            self._batches.popleft()
        since = min(self._batches[0][0], now - 1.0)
        return sum(number for _, number in self._batches) / (now - since)


class Step(NamedTuple):
    """The result of one step of a projector."""

    outcome: CommitOutcome
    events: int
    """The number of log entries in the batch. 0: the log had no new entry."""
    has_more: bool
    """Whether the batch ended because of its size, so that the log may have further entries."""


class _LoadedBatch(NamedTuple):
    """Entries of the log, decoded, with the rows that they may change."""

    entries: list[LogEntry]
    decoded: list[DecodedEntry]
    loaded: LoadedState


class _FoldedBatch(NamedTuple):
    """A batch that can be committed if the segment's checkpoint is ``after``."""

    after: int
    entries: list[LogEntry]
    folded: FoldResult
    mutations: Mutations


class Projector:
    """Folds the new entries of a log into a segment, each exactly once.

    While the segment is behind the log, the projector folds the next batch during the commit of the current batch.
    Only the holder of the lease changes the segment. The rows for the next batch are therefore the rows that were
    loaded before the commit, with the changes of the current batch on top. The next batch is used only if the commit
    succeeded. Its own commit checks the fence and the checkpoint like every other commit.

    Args:
        projection: The projection that folds the events.
        log: The log of the segment.
        store: The store of the read model.
        lease: The worker's lease on the segment. Commits move its checkpoint.
    """

    def __init__(self, projection: Projection[Any, Any], log: EventLog, store: ReadModelStore, lease: Lease) -> None:
        self.projection = projection
        self.lease = lease
        self._log = log
        self._store = store
        self._rate = RateMeter()
        self._ahead: _FoldedBatch | None = None

    def step(self, batch_size: int, timeout: float) -> Step:
        """Fold and commit the next batch. The checkpoint moves past every entry, handled by the projection or not.

        Args:
            batch_size: Highest number of log entries to fold, at least 1.
            timeout: Seconds to wait for a first entry.
        """
        batch, self._ahead = self._ahead, None
        if batch is None or batch.after != self.lease.checkpoint:
            entries = self._log.wait(self.lease.checkpoint, batch_size, timeout)
            if not entries:
                return Step(CommitOutcome.COMMITTED, 0, has_more=False)
            batch = self._fold(self.lease.checkpoint, self._load(entries))
        for parked in batch.folded.parked:
            if parked.error is not None:
                logger.error("event parked", key=parked.key, position=parked.entry.position, error=parked.error)
        entries, last = batch.entries, batch.entries[-1]
        # Read before the commit is sent: the server executes commands in order, so a later read would wait for it.
        has_more = is_full(entries, batch_size)
        following = self._log.read_batch(last.position, batch_size) if has_more else []
        loaded = self._load(following) if following else None
        progress = Progress(last.position, last.recorded_at, self._rate.record(len(entries)))
        commit = self._store.begin_commit(self.lease, progress, batch.mutations)
        try:
            if loaded:
                overlay(loaded.loaded, batch.folded)
                self._ahead = self._fold(last.position, loaded)
        finally:
            outcome = commit.result()
        if outcome is not CommitOutcome.COMMITTED:
            self._ahead = None
        return Step(outcome, len(entries), has_more)

    def _load(self, entries: list[LogEntry]) -> _LoadedBatch:
        decoded = decode_entries(self.projection, entries)
        loaded = self._store.load(self.projection, self.lease.segment, *required_keys(self.projection, decoded))
        return _LoadedBatch(entries, decoded, loaded)

    def _fold(self, after: int, batch: _LoadedBatch) -> _FoldedBatch:
        folded = fold(self.projection, batch.loaded, batch.decoded)
        return _FoldedBatch(after, batch.entries, folded, derive(self.projection, folded))

    def retry_parked(self) -> CommitOutcome:
        """Fold again the parked events of every key whose retry an operator has requested. The checkpoint stays.

        Returns:
            The outcome of the first commit that was refused, else ``COMMITTED``.
        """
        self._ahead = None
        outcome = CommitOutcome.COMMITTED
        for key in self._store.retry_requests(self.lease.segment):
            outcome = self._retry_key(key)
            if outcome is not CommitOutcome.COMMITTED:
                break
        return outcome

    def _retry_key(self, key: str) -> CommitOutcome:
        entries = self._store.parked_entries(self.lease.segment, key, RETRY_BATCH)
        decoded = decode_parked_entries(self.projection, key, entries)
        loaded = self._store.load(self.projection, self.lease.segment, *required_keys(self.projection, decoded))
        folded = fold_parked(self.projection, loaded, key, decoded)
        still_parked = sum(1 for parked in folded.parked if parked.key == key)
        done = len(entries) - still_parked
        logger.info("parked events tried again", key=key, folded=done, still_parked=still_parked)
        return self._store.commit_retry(self.lease, key, done, derive(self.projection, folded))
