"""Helpers for tests of the projector: a store of a process that crashes, and folding to the end of a log."""

from collections.abc import Iterator
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from domain.events import Event, PatternDetected
from infra.log.event_log import EventLog
from infra.projecting.projector import Projector
from infra.read_models.store import RedisStore
from projections.base import Projection
from projections.mutations import Mutations
from projections.ports import CommitOutcome, Lease, PendingCommit, Progress, Segment
from projections.versions import Build
from tests.events import new_events, pattern_detected
from tests.integration.crashes import CrashError
from tests.read_model import FIRST_BUILD

LOG = "market-0"


class CrashingCommit:
    """A commit whose process crashes after the commit, before it reads the reply."""

    def __init__(self, commit: PendingCommit) -> None:
        self._commit = commit

    def result(self) -> CommitOutcome:
        self._commit.result()
        raise CrashError


class CrashingStore(RedisStore):
    """The real store of a process that crashes before or after some of its commits."""

    def __init__(self, client: Redis, crashes: Iterator[str]) -> None:
        super().__init__(client)
        self._crashes = crashes

    def begin_commit(self, lease: Lease, progress: Progress, mutations: Mutations) -> PendingCommit:
        crash = next(self._crashes, "none")
        if crash == "before":
            raise CrashError
        commit = super().begin_commit(lease, progress, mutations)
        return CrashingCommit(commit) if crash == "after" else commit


class LostCommit:
    """A commit whose reply is lost with the connection, so that the process does not know the new checkpoint."""

    def __init__(self, commit: PendingCommit, lease: Lease) -> None:
        self._commit = commit
        self._lease = lease

    def result(self) -> CommitOutcome:
        checkpoint = self._lease.checkpoint
        self._commit.result()
        self._lease.checkpoint = checkpoint
        raise RedisConnectionError("reply lost")


class LosingStore(RedisStore):
    """The real store of a process that loses the reply to its first commit."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self._loses = True

    def begin_commit(self, lease: Lease, progress: Progress, mutations: Mutations) -> PendingCommit:
        commit = super().begin_commit(lease, progress, mutations)
        self._loses, loses = False, self._loses
        return LostCommit(commit, lease) if loses else commit


def append(log: EventLog, events: list[Event]) -> None:
    log.append(new_events(events))


def acquire_lease(store: RedisStore, segment: Segment, owner: str = "worker", seconds: float = 30) -> Lease:
    [acquired] = store.lease([segment], owner, seconds)
    assert acquired is not None
    return acquired


def segment_of(projection: Projection[Any, Any], build: Build = FIRST_BUILD) -> Segment:
    return Segment(projection.name, build, LOG)


def open_log(client: Redis) -> EventLog:
    return EventLog(client, LOG)


def run_to_end(client: Redis, projection: Projection[Any, Any], batches: Iterator[int], crashes: Iterator[str]) -> None:
    """Fold the log to its end. After each crash another worker takes over."""
    log = open_log(client)
    store = CrashingStore(client, crashes)
    worker = 0
    current = acquire_lease(store, segment_of(projection), f"worker-{worker}")
    while current.checkpoint < log.head():
        try:
            outcome, *_ = Projector(projection, log, store, current).step(next(batches, 1_000), 0)
            assert outcome in (CommitOutcome.COMMITTED, CommitOutcome.ALREADY_COMMITTED)
        except CrashError:
            store.release([current])
            worker += 1
            current = acquire_lease(store, segment_of(projection), f"worker-{worker}")
    store.release([current])


def run_ahead(
    client: Redis, projection: Projection[Any, Any], batch_size: int, crashes: Iterator[str], build: Build = FIRST_BUILD
) -> None:
    """Fold the log to its end with the same projector, which folds ahead and continues after a crash."""
    log = open_log(client)
    store = CrashingStore(client, crashes)
    current = acquire_lease(store, segment_of(projection, build))
    projector = Projector(projection, log, store, current)
    while current.checkpoint < log.head():
        try:
            outcome, *_ = projector.step(batch_size, 0)
            assert outcome is CommitOutcome.COMMITTED
        except CrashError:
            continue
    store.release([current])


def detection(symbol: str, tier: str, pattern: str = "Doji", **fields: Any) -> PatternDetected:
    defaults = {"event_id": f"{symbol}-{tier}-{pattern}-{fields}", "confidence": 0.8, **fields}
    return pattern_detected(symbol=symbol, tier=tier, pattern=pattern, **defaults)
