"""A projector: folds one segment of a read model, batch by batch, as long as it has the lease."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from domain.log import LogEntry
from infra.log.event_log import EventLog
from projections.base import Projection
from projections.fold import (
    DecodedEntry,
    FoldResult,
    LoadedState,
    Mutations,
    decode_entries,
    decode_parked_entries,
    derive,
    fold,
    fold_parked,
    overlay,
    required_keys,
)
from projections.ports import CommitOutcome, Lease, Progress, ReadModelStore, do_nothing

logger = structlog.get_logger()

RETRIED_AT_ONCE = 500
"""Parked events tried again in one commit, at most."""


RATE_SECONDS = 5.0
"""The time over which the rate of folding is measured."""


class RateMeter:
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


class _Batch(NamedTuple):
    """Entries with what they do, ready to be committed from the checkpoint ``after``."""

    after: int
    entries: list[LogEntry]
    folded: FoldResult
    mutations: Mutations


class Projector:
    """Folds the log's new entries into a segment, exactly once each.

    While it is behind, it folds the next batch as the server commits this one. Nobody else changes the segment as long
    as the lease holds, so what this batch does is all that the next one must add to what it has loaded before; what is
    folded ahead is used only if this commit was heard to succeed, behind the same fence and checkpoint as any other.
    """

    def __init__(
        self, projection: Projection[Any, Any], log: EventLog, store: ReadModelStore, lease: Lease, batch_size: int
    ) -> None:
        self.projection = projection
        self.lease = lease
        self._log = log
        self._store = store
        self.batch_size = batch_size
        """Entries folded by one step, at most; may be changed between two."""
        self._rate = RateMeter()
        self._ahead: _Batch | None = None

    def step(self, timeout: float) -> tuple[CommitOutcome, int]:
        """Fold the next batch, waiting up to ``timeout`` seconds for one; returns what became of it and its size.

        The checkpoint moves to the last position read, whether the projection handles it or not.
        """
        batch, self._ahead = self._ahead, None
        if batch is None or batch.after != self.lease.checkpoint:
            entries = self._log.wait(self.lease.checkpoint, self.batch_size, timeout)
            if not entries:
                return CommitOutcome.COMMITTED, 0
            batch = self._fold(self.lease.checkpoint, entries, *self._load(entries))
        for parked in batch.folded.parked:
            if parked.error is not None:
                logger.error("event parked", key=parked.key, position=parked.entry.position, error=parked.error)
        entries, last = batch.entries, batch.entries[-1]
        # Before the commit: the server answers one after the other, and would let the reading wait for it.
        following = self._log.read(last.position, self.batch_size) if len(entries) == self.batch_size else []
        fold_ahead = self._folding_ahead(batch, following) if following else do_nothing
        progress = Progress(last.position, last.recorded_at, self._rate.after(len(entries)))
        outcome = self._store.commit(self.lease, progress, batch.mutations, fold_ahead)
        if outcome is not CommitOutcome.COMMITTED:
            self._ahead = None
        return outcome, len(entries)

    def _load(self, entries: list[LogEntry]) -> tuple[list[DecodedEntry], LoadedState]:
        readings = decode_entries(self.projection, entries)
        return readings, self._store.load(
            self.projection, self.lease.segment, *required_keys(self.projection, readings)
        )

    def _fold(self, after: int, entries: list[LogEntry], readings: list[DecodedEntry], loaded: LoadedState) -> _Batch:
        folded = fold(self.projection, loaded, readings)
        return _Batch(after, entries, folded, derive(self.projection, folded))

    def _folding_ahead(self, batch: _Batch, following: list[LogEntry]) -> Callable[[], None]:
        readings, loaded = self._load(following)

        def fold_ahead() -> None:
            overlay(loaded, batch.folded)
            self._ahead = self._fold(batch.entries[-1].position, following, readings, loaded)

        return fold_ahead

    def retry_parked(self) -> CommitOutcome:
        """Try the parked keys again that an operator asks for, each in order, leaving the checkpoint where it is."""
        self._ahead = None
        outcome = CommitOutcome.COMMITTED
        for key in self._store.retry_requests(self.lease.segment):
            outcome = self._retry(key)
            if outcome is not CommitOutcome.COMMITTED:
                break
        return outcome

    def _retry(self, key: str) -> CommitOutcome:
        entries = self._store.parked_entries(self.lease.segment, key, RETRIED_AT_ONCE)
        readings = decode_parked_entries(self.projection, key, entries)
        loaded = self._store.load(self.projection, self.lease.segment, *required_keys(self.projection, readings))
        folded = fold_parked(self.projection, loaded, key, readings)
        left = sum(1 for parked in folded.parked if parked.key == key)
        logger.info("parked events tried again", key=key, folded=len(entries) - left, left=left)
        mutations = derive(self.projection, folded)
        return self._store.commit_retry(self.lease, key, len(entries) - left, mutations)
