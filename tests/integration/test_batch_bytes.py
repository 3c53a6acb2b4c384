"""Batches are bounded by bytes: what is read, appended and committed at once stays small, however large events are."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from domain.streams import market_logs
from infra.archive.archiver import Archiver
from infra.log import bounds
from infra.log.append import NewEvent
from infra.log.bounds import BATCH_BYTES, size_of, split_by_bytes
from infra.log.event_log import EventLog
from infra.postgres.database import Database
from infra.projecting.projector import Projector
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from projections.backtests import Backtests
from projections.ports import Segment
from tests.archiving import acquire_archiver_lease, archive_to_end, archived_log
from tests.events import backtest_completed, new_events
from tests.read_model import FIRST_BUILD
from tests.row_history import fold_history

LOG = market_logs(4)[0]
MEGABYTE = 1_000_000
PER_BATCH = BATCH_BYTES // MEGABYTE


def large_events(count: int) -> list[NewEvent]:
    """Return the results of different backtests, of about one megabyte each."""
    return new_events(
        backtest_completed(job_id=f"job-{number}", results={"note": "x" * MEGABYTE}) for number in range(count)
    )


@given(st.lists(st.binary(max_size=60)), st.integers(1, 100))
def test_every_event_is_in_one_batch_that_is_as_long_as_allowed(states: list[bytes], limit: int) -> None:
    events = [NewEvent("s", "t", state) for state in states]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "BATCH_BYTES", limit)
        batches = list(split_by_bytes(events))
    assert [event for batch in batches for event in batch] == events
    assert all(len(batch) == 1 or size_of(batch) <= limit for batch in batches)
    assert all(size_of(batch) + len(following[0].state) > limit for batch, following in pairwise(batches))


def test_a_log_with_large_events_is_read_in_small_batches(redis: Redis) -> None:
    log = EventLog(redis, LOG)
    small = new_events(backtest_completed(job_id=f"small-{number}") for number in range(3))
    for batch in split_by_bytes([*small, *large_events(2 * PER_BATCH)]):
        log.append(batch)
    reader = EventLog(redis, LOG)
    for read in (
        lambda after: reader.wait(after, 1_000, 0),
        lambda after: reader.begin_read(after, 1_000).result(),
    ):
        positions: list[int] = []
        while entries := read(len(positions)):
            assert len(entries) == 1 or size_of(entries) <= BATCH_BYTES
            positions += [entry.position for entry in entries]
        assert positions == list(range(1, log.head() + 1))


def test_large_events_are_folded_archived_and_replayed_from_the_archive(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOG)
    count = 2 * PER_BATCH + 1
    for batch in split_by_bytes(large_events(count)):
        log.append(batch)
    steps = fold(redis, lambda projector: projector.step(1_000, 0)[1])
    assert sum(steps) == count
    assert max(steps) <= PER_BATCH
    archiver = Archiver(database, log, acquire_archiver_lease(database, LOG), 1_000)
    assert len(archiver.step(0)) <= PER_BATCH
    archive_to_end(database, log)
    fold_history(database, LOG, 1_000)
    redis.xtrim(log.keys.log, maxlen=1)
    redis.delete(*redis.keys("*backtests*"))
    steps = fold(redis, lambda projector: projector.step(1_000, 0)[1], log)
    assert (sum(steps), max(steps) <= PER_BATCH) == (count, True)


def fold(redis: Redis, step: Callable[[Projector], int], log: EventLog | None = None) -> list[int]:
    """Fold a log to its end. Return the number of events of each step."""
    store, segment = RedisStore(redis), Segment(Backtests.name, FIRST_BUILD, LOG)
    [lease] = store.lease([segment], "worker", 60)
    assert lease is not None
    projector = Projector(Backtests(), log or EventLog(redis, LOG), store, lease)
    steps = []
    while events := step(projector):
        steps.append(events)
    rows = redis.hlen(SegmentKeys(segment).rows)
    assert rows == sum(steps)
    return steps
