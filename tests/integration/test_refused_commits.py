"""Commits that a server refuses because of their data: one event is parked, and all others are folded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from infra.projecting.projector import BatchRefusedError, Projector
from infra.projecting.projector_thread import ProjectorThread, SegmentOrders
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import MAX_COMMIT_BYTES, RedisStore
from infra.redis.connections import connect
from projections.backtests import BacktestRow, Backtests
from projections.patterns import ActivePatterns
from projections.ports import RowsTooLargeError
from tests import servers
from tests.events import backtest_completed, new_events
from tests.integration.projector_support import LOG, acquire_lease, append, detection, open_log, segment_of
from tests.oracles.read_models import expected_backtests, expected_patterns
from tests.processes.roles import wait_until
from tests.read_model import assert_same_content, load_segment

KEYS = SegmentKeys(segment_of(Backtests()))

STREAM_KEY = b"@backtest-job-3"

HISTORY = [backtest_completed(event_id=f"event-{number}", job_id=f"job-{number}") for number in range(10)]


class SwollenBacktests(Backtests):
    """The real projection with a bug: the row of the third run has too many bytes.

    Args:
        size: The number of bytes. 0: the bug is fixed.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def evolve(self, row: BacktestRow | None, event: Any) -> BacktestRow | None:
        evolved = super().evolve(row, event)
        if evolved is None or evolved.job_id != "job-3" or not self.size:
            return evolved
        return replace(evolved, results={"note": "x" * self.size})


@contextmanager
def folding(redis: Redis, projection: Backtests) -> Iterator[ProjectorThread]:
    """Fold the history in a thread until the context ends."""
    log, store = open_log(redis), RedisStore(redis)
    log.append(new_events(HISTORY))
    projector = Projector(projection, log, store, acquire_lease(store, segment_of(projection), seconds=300))
    thread = ProjectorThread(redis, log, projector, 100, SegmentOrders())
    thread.start()
    try:
        yield thread
    finally:
        thread.request_stop()
        thread.join()


def retry(redis: Redis, thread: ProjectorThread) -> None:
    """Request a retry of the parked stream, and wait for its end."""
    redis.sadd(KEYS.retry, STREAM_KEY)
    thread.request_retry()
    wait_until(lambda: redis.scard(KEYS.retry) == 0, "the parked event was tried again")


def test_an_event_whose_commit_is_too_large_is_parked_until_a_fix(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.fold.MAX_ROW_BYTES", 2 * MAX_COMMIT_BYTES)
    projection = SwollenBacktests(MAX_COMMIT_BYTES)
    with folding(redis, projection) as thread:
        wait_until(lambda: redis.hlen(KEYS.rows) == len(HISTORY) - 1, "all other events are folded")
        assert redis.hkeys(KEYS.parked) == [STREAM_KEY]
        assert b"CommitTooLargeError" in redis.hget(KEYS.parked, STREAM_KEY)  # type: ignore[operator]
        retry(redis, thread)
        assert redis.hkeys(KEYS.parked) == [STREAM_KEY]
        assert redis.llen(KEYS.parked_events(STREAM_KEY.decode())) == 1
        projection.size = 0
        retry(redis, thread)
        wait_until(lambda: redis.hlen(KEYS.parked) == 0, "no event is parked")
    assert_same_content(load_segment(redis, projection, LOG), expected_backtests([*HISTORY]))


def test_a_row_that_cannot_be_read_parks_its_stream_alone(redis: Redis) -> None:
    redis.hset(KEYS.rows, "job-3", "no row")
    with folding(redis, SwollenBacktests(0)):
        wait_until(lambda: redis.hlen(KEYS.rows) == len(HISTORY), "all other events are folded")
        assert redis.hkeys(KEYS.parked) == [STREAM_KEY]
    assert redis.hget(KEYS.rows, "job-3") == b"no row"


def test_an_event_is_parked_if_the_server_closes_the_connection_of_its_commit() -> None:
    with (
        servers.valkey(**{"proto-max-bulk-len": "1mb"}) as server,
        connect(server.connection_url) as redis,
        folding(redis, SwollenBacktests(2_000_000)),
    ):
        wait_until(lambda: redis.hlen(KEYS.rows) == len(HISTORY) - 1, "all other events are folded")
        assert redis.hkeys(KEYS.parked) == [STREAM_KEY]


def test_an_event_that_makes_a_row_too_large_is_parked(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates add attributes to a row, and every later event about the row would write all of them."""
    monkeypatch.setattr("projections.fold.MAX_ROW_BYTES", 5_000)
    log, store, projection = open_log(redis), RedisStore(redis), ActivePatterns()
    append(log, [detection("AAPL", "daily"), detection("MSFT", "daily")])
    append(log, [detection("AAPL", "daily", extra={f"name-{number}": "x" * 1_000}) for number in range(8)])
    step = Projector(projection, log, store, acquire_lease(store, segment_of(projection))).step(100, 0)
    assert step.events == 10
    keys = SegmentKeys(segment_of(projection))
    [parked] = redis.hvals(keys.parked)
    assert b"RowTooLargeError: the row would have" in parked
    assert sorted(map(len, redis.hvals(keys.rows)))[-1] < 5_000
    assert redis.hlen(keys.rows) == 2


def test_small_events_on_large_rows_are_folded_in_smaller_batches(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.read_models.pending_load.MAX_LOAD_BYTES", 100_000)
    padding = {"padding": "x" * 10_000}
    history = [detection(f"S{number}", "daily", extra=padding) for number in range(40)]
    updates = [detection(f"S{number}", "daily", confidence=0.9) for number in range(40)]
    log, store, projection = open_log(redis), RedisStore(redis), ActivePatterns()
    lease = acquire_lease(store, segment_of(projection))
    append(log, history)
    projector = Projector(projection, log, store, lease)
    assert projector.step(100, 0).events == 40, "there were no rows to load"
    append(log, updates)
    steps = [projector.step(100, 0)]
    while steps[-1].has_more:
        steps.append(projector.step(100, 0))
    assert sum(step.events for step in steps) == 40
    assert max(step.events for step in steps) < 10
    with pytest.raises(RowsTooLargeError, match="let the event change fewer or smaller rows"):
        store.begin_load(
            projection, segment_of(projection), set(expected_patterns([*history]).rows), set(), set()
        ).result()
    assert_same_content(load_segment(redis, projection, LOG), expected_patterns([*history, *updates]))


def test_a_projection_whose_score_is_not_a_number_parks_the_row(redis: Redis) -> None:
    class Undefined(ActivePatterns):
        """The real projection with a bug in an index."""

    Undefined.indexes = tuple(
        index._replace(score=lambda row: float("nan") if row.symbol == "BAD" else 0.5)
        if index.name == "confidence"
        else index
        for index in ActivePatterns.indexes
    )
    log, store, projection = open_log(redis), RedisStore(redis), Undefined()
    append(log, [detection("BAD", "daily"), detection("GOOD", "daily")])
    assert Projector(projection, log, store, acquire_lease(store, segment_of(projection))).step(10, 0).events == 2
    keys = SegmentKeys(segment_of(projection))
    [parked] = redis.hvals(keys.parked)
    assert b"index confidence is not a number" in parked
    assert redis.hlen(keys.rows) == redis.zcard(keys.index("confidence")) == 1


def test_a_commit_to_a_key_of_another_type_writes_nothing(redis: Redis) -> None:
    log, store, projection = open_log(redis), RedisStore(redis), ActivePatterns()
    history = [detection(f"S{number}", "daily") for number in range(5)]
    append(log, history)
    keys = SegmentKeys(segment_of(projection))
    redis.set(keys.index("confidence"), "overwritten")
    lease = acquire_lease(store, segment_of(projection))
    for _ in range(2):
        with pytest.raises(ResponseError, match="index:confidence is a string, not a zset") as raised:
            Projector(projection, log, store, lease).step(10, 0)
        assert not isinstance(raised.value, BatchRefusedError)
        assert not redis.exists(keys.rows, keys.changes)
        assert redis.hget(keys.state, "checkpoint") in (None, b"0")
    redis.delete(keys.index("confidence"))
    assert Projector(projection, log, store, lease).step(10, 0).events == 5
    assert_same_content(load_segment(redis, projection, LOG), expected_patterns([*history]))
