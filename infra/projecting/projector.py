"""Projector: folds one segment of a read model, batch by batch, while its worker holds the lease."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import structlog
from eventsourcing.persistence import PersistenceError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from domain.errors import TickViewError
from domain.log import LogEntry
from domain.streams import USERS_LOG
from infra.log.bounds import is_full
from infra.log.event_log import EventLog
from infra.projecting.batches import DecodedBatch, FoldedBatch, LoadedBatch, ReceivedBatch
from infra.projecting.rate_meter import RateMeter
from infra.redis.server_errors import find_server_error
from infra.user_keys.key_store import UserKeys
from projections.base import Projection
from projections.decoding import DecodedEntry, decode_entries, decode_parked_entries, describe_error, required_keys
from projections.fold import FoldResult, Parked, fold, fold_parked, overlay, park_stream
from projections.mutations import derive
from projections.ports import (
    CommitOutcome,
    Lease,
    PendingCommit,
    PendingLoad,
    Progress,
    ReadModelStore,
    RowsTooLargeError,
)

logger = structlog.get_logger()

RETRY_BATCH = 500
"""Highest number of parked events that one commit folds again."""

OUTAGES = (RedisConnectionError, RedisTimeoutError, PersistenceError)
"""Errors that have nothing to do with the data of a batch."""


class BatchRefusedError(TickViewError):
    """The data of a batch prevent its commit, or the server refuses the data."""


class Step(NamedTuple):
    """The result of one step of a projector."""

    outcome: CommitOutcome
    events: int
    """The number of log entries in the batch. 0: the log had no new entry."""
    has_more: bool
    """Whether the batch ended because of its size, so that the log may have further entries."""


class Projector:
    """Folds the new entries of a log into a segment, each exactly once.

    While the segment is behind the log, the projector folds the next batch and decodes the batch behind it during the
    commit of the current batch. The commit occupies the server. The rows of the next batch and the entries behind it
    are therefore received before the commit is sent, and decoded afterwards. Only the holder of the lease changes the
    segment. The rows of the next batch are therefore the rows that were loaded before the commit, with the changes of
    the current batch on top. The next batch is used only if the commit succeeded. Its own commit checks the fence and
    the checkpoint like every other commit.

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
        self._keys = UserKeys(log) if log.name == USERS_LOG else None
        self._rate = RateMeter()
        self._ahead: FoldedBatch | None = None
        self._following: DecodedBatch | None = None
        """The batch behind ``_ahead``."""

    def step(self, batch_size: int, timeout: float, *, reads_ahead: bool = True) -> Step:
        """Fold and commit the next batch. The checkpoint moves past every entry, handled by the projection or not.

        Args:
            batch_size: Highest number of log entries to fold, at least 1.
            timeout: Seconds to wait for a first entry.
            reads_ahead: Whether to read and fold the following batch during the commit.

        Raises:
            BatchRefusedError: A smaller batch may succeed. An error of the following batch counts, too.
            RedisError: The server cannot do its work now.
            PersistenceError: The log cannot be read now.
        """
        with _data_errors_refused():
            return self._step(batch_size, timeout, reads_ahead)

    def _step(self, batch_size: int, timeout: float, reads_ahead: bool) -> Step:
        batch, following = self._ahead, self._following
        self._discard_ahead()
        if batch is None or batch.after != self.lease.checkpoint or len(batch.entries) > batch_size:
            entries = self._log.wait(self.lease.checkpoint, batch_size, timeout)
            if not entries:
                return Step(CommitOutcome.COMMITTED, 0, has_more=False)
            decoded = self._decode_batch(entries, batch_size)
            loaded = self._load(decoded, self._begin_load(decoded.decoded))
            batch, following = self._fold(self.lease.checkpoint, loaded), None
        for parked in batch.folded.parked:
            if parked.error is not None:
                logger.error("event parked", key=parked.key, position=parked.entry.position, error=parked.error)
        entries, last = batch.entries, batch.entries[-1]
        is_behind = batch.has_more and reads_ahead
        received = self._receive_ahead(last.position, following, batch_size) if is_behind else None
        progress = Progress(last.position, last.recorded_at, self._rate.record(len(entries)))
        commit = self._begin_commit(progress, batch)
        ahead = following = None
        try:
            if received:
                ahead, following = self._fold_ahead(received, batch, batch_size)
        finally:
            outcome = commit.result()
        # If the commit repeats an earlier one, the batch was folded on rows that had it already.
        if outcome is CommitOutcome.COMMITTED:
            self._ahead, self._following = ahead, following
        return Step(outcome, len(entries), batch.has_more)

    def _discard_ahead(self) -> None:
        self._ahead = self._following = None

    def _receive_ahead(self, after: int, following: DecodedBatch | None, batch_size: int) -> ReceivedBatch | None:
        """Receive the rows of the entries after a position, and the entries behind them, without decoding them.

        Args:
            after: The position.
            following: The entries after the position, if they are decoded already.
            batch_size: The highest number of entries to read.
        """
        batch = following or self._decode_batch(self._log.wait(after, batch_size, timeout=0), batch_size)
        if not batch.entries:
            return None
        # Both requests are sent before the first answer is received.
        entries = self._log.begin_read(batch.entries[-1].position, batch_size) if batch.has_more else None
        load = self._begin_load(batch.decoded)
        if entries:
            entries.wait()
        load.wait()
        return ReceivedBatch(batch, load, entries)

    def _fold_ahead(
        self, received: ReceivedBatch, current: FoldedBatch, batch_size: int
    ) -> tuple[FoldedBatch, DecodedBatch | None]:
        """Fold the next batch on top of the current batch, and decode the batch behind it."""
        loaded = self._load(received.batch, received.load)
        overlay(loaded.loaded, current.folded)
        ahead = self._fold(current.entries[-1].position, loaded)
        if received.following and not loaded.is_cut and (unread := received.following.result()):
            return ahead, self._decode_batch(unread, batch_size)
        return ahead, None

    def _load(self, batch: DecodedBatch, load: PendingLoad) -> LoadedBatch:
        """Wait for the rows of entries. If the rows are too large, load those of half of the entries, and so on."""
        read = len(batch.entries)
        while True:
            entries, decoded, has_more = batch
            try:
                return LoadedBatch(entries, decoded, load.result(), is_cut=len(entries) < read, has_more=has_more)
            except RowsTooLargeError:
                if len(entries) == 1:
                    raise
            batch = batch.first(len(entries) // 2)
            load = self._begin_load(batch.decoded)

    def _begin_load(self, decoded: Sequence[DecodedEntry]) -> PendingLoad:
        return self._store.begin_load(self.projection, self.lease.segment, *required_keys(self.projection, decoded))

    def _decode_batch(self, entries: list[LogEntry], batch_size: int) -> DecodedBatch:
        decoded = self._decode(entries, partial(decode_entries, self.projection))
        return DecodedBatch(entries, decoded, has_more=is_full(entries, batch_size))

    def _decode(
        self, entries: Sequence[LogEntry], decode: Callable[[Sequence[LogEntry]], list[DecodedEntry]]
    ) -> list[DecodedEntry]:
        """Decode entries. The events of users are decrypted only in memory: an entry that is parked stays encrypted."""
        if self._keys is None:
            return decode(entries)
        stored = {entry.position: entry for entry in entries}
        return [each._replace(entry=stored[each.entry.position]) for each in decode(self._keys.reveal(entries))]

    def _fold(self, after: int, batch: LoadedBatch) -> FoldedBatch:
        folded = fold(self.projection, batch.loaded, batch.decoded)
        mutations = derive(self.projection, folded)
        self._store.prepare(self.lease.segment, mutations)
        return FoldedBatch(after, batch.entries, folded, mutations, batch.has_more)

    def _begin_commit(self, progress: Progress, batch: FoldedBatch) -> PendingCommit:
        return self._store.begin_commit(self.lease, progress, batch.mutations)

    def park_next(self, error: str) -> Step:
        """Park the next entry of the log with an error, because it can be folded but not committed.

        Raises:
            BatchRefusedError: The entry cannot be parked either.
            RedisError: The server cannot do its work now.
            PersistenceError: The log cannot be read now.
        """
        self._discard_ahead()
        with _data_errors_refused():
            entries = self._log.wait(self.lease.checkpoint, 1, 0)
            if not entries:
                return Step(CommitOutcome.COMMITTED, 0, has_more=False)
            [entry] = entries
            logger.error("event parked", stream=entry.stream, position=entry.position, error=error)
            progress = Progress(entry.position, entry.recorded_at, self._rate.record(1))
            mutations = derive(self.projection, park_stream(entry, error))
            return Step(self._store.begin_commit(self.lease, progress, mutations).result(), 1, has_more=True)

    def retry_parked(self) -> CommitOutcome:
        """Fold again the parked events of every key whose retry an operator has requested. The checkpoint stays.

        Returns:
            The outcome of the first commit that was refused, else ``COMMITTED``.
        """
        self._discard_ahead()
        outcome = CommitOutcome.COMMITTED
        for key in self._store.retry_requests(self.lease.segment):
            outcome = self._retry_key(key)
            if outcome is not CommitOutcome.COMMITTED:
                break
        return outcome

    def _retry_key(self, key: str) -> CommitOutcome:
        """Fold parked events of a key again, fewer if their commit is refused. A single one stays parked."""
        limit = RETRY_BATCH
        while True:
            entries = self._store.parked_entries(self.lease.segment, key, limit)
            try:
                with _data_errors_refused():
                    folded = self._fold_parked(key, entries)
                    return self._commit_retry(key, entries, folded)
            except BatchRefusedError as error:
                if len(entries) <= 1:
                    folded = FoldResult(parked=[Parked(key, entry, str(error)) for entry in entries])
                    return self._commit_retry(key, entries, folded)
                limit = len(entries) // 2

    def _fold_parked(self, key: str, entries: Sequence[LogEntry]) -> FoldResult:
        decoded = self._decode(entries, partial(decode_parked_entries, self.projection, key))
        return fold_parked(self.projection, self._begin_load(decoded).result(), key, decoded)

    def _commit_retry(self, key: str, entries: Sequence[LogEntry], folded: FoldResult) -> CommitOutcome:
        still_parked = sum(1 for parked in folded.parked if parked.key == key)
        done = len(entries) - still_parked
        logger.info("parked events tried again", key=key, folded=done, still_parked=still_parked)
        outcome = self._store.commit_retry(self.lease, key, done, derive(self.projection, folded))
        # The reply of the first call was lost, and the client has repeated the call.
        return CommitOutcome.COMMITTED if outcome is CommitOutcome.ALREADY_COMMITTED else outcome


@contextmanager
def _data_errors_refused() -> Iterator[None]:
    """Raise BatchRefusedError for every error that the data of a batch have caused."""
    try:
        yield
    except OUTAGES:
        raise
    except Exception as error:
        if isinstance(error, RedisError) and find_server_error(error):
            raise
        raise BatchRefusedError(describe_error(error)) from error
