"""The projector on a real server: read models equal the oracle, whatever the history, the batches and the crashes."""

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from domain.events import Event
from domain.log import LogEntry
from infra.log.event_log import EventLog
from infra.projecting.projector import Projector, Step
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from projections.mutations import Mutations
from projections.patterns import ActivePatterns
from projections.ports import CommitOutcome, Lease, Progress
from projections.registry import READ_MODELS
from tests.integration.projector_support import (
    LOG,
    LosingStore,
    acquire_lease,
    append,
    detection,
    open_log,
    run_ahead,
    run_to_end,
    segment_of,
)
from tests.oracles.read_models import ORACLES, expected_patterns
from tests.read_model import assert_same_content, load_segment
from tests.strategies import mixed_histories

on_a_server = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.parametrize("name", READ_MODELS)
@on_a_server
@given(
    history=mixed_histories,
    batches=st.lists(st.integers(1, 7), max_size=40),
    crashes=st.lists(st.sampled_from(("none", "before", "after")), max_size=20),
)
def test_a_read_model_equals_the_oracle_despite_crashes(
    redis: Redis, name: str, history: list[Event], batches: list[int], crashes: list[str]
) -> None:
    redis.flushall()
    projection = READ_MODELS[name]
    append(open_log(redis), history)
    run_to_end(redis, projection, iter(batches), iter(crashes))
    assert_same_content(load_segment(redis, projection, LOG), ORACLES[name](history))


@pytest.mark.parametrize("name", READ_MODELS)
@on_a_server
@given(
    history=mixed_histories,
    batch_size=st.integers(1, 5),
    crashes=st.lists(st.sampled_from(("none", "before", "after")), max_size=10),
)
def test_a_read_model_folded_ahead_equals_the_oracle_despite_crashes(
    redis: Redis, name: str, history: list[Event], batch_size: int, crashes: list[str]
) -> None:
    redis.flushall()
    append(open_log(redis), history)
    run_ahead(redis, READ_MODELS[name], batch_size, iter(crashes))
    assert_same_content(load_segment(redis, READ_MODELS[name], LOG), ORACLES[name](history))


class FailingRead:
    """A read whose connection is lost."""

    def wait(self) -> None:
        """Receive nothing."""

    def result(self) -> list[LogEntry]:
        raise RedisConnectionError("connection lost")


class FailingLog(EventLog):
    """A log whose reads of entries behind the next batch fail while ``fails`` is true."""

    fails = False

    def begin_read(self, after: int, limit: int) -> Any:
        return FailingRead() if self.fails else super().begin_read(after, limit)


def test_a_batch_on_rows_that_had_the_events_already_is_never_committed(redis: Redis) -> None:
    """The reply to a commit is lost, and a read fails during the repetition of the commit."""
    projection, store, log = READ_MODELS["activity"], LosingStore(redis), FailingLog(redis, LOG)
    history: list[Event] = [detection(f"S{number % 3}", "daily", event_id=f"e{number}") for number in range(12)]
    append(log, history)
    projector = Projector(projection, log, store, acquire_lease(store, segment_of(projection)))
    for log.fails, fault in ((False, "reply lost"), (True, "connection lost")):
        with pytest.raises(RedisConnectionError, match=fault):
            projector.step(3, 0)
    log.fails = False
    while projector.lease.checkpoint < log.head():
        projector.step(3, 0)
    assert_same_content(load_segment(redis, projection, LOG), ORACLES["activity"](history))


def test_a_batch_that_was_read_under_another_limit_is_split_and_known_to_have_more_behind_it(redis: Redis) -> None:
    projection, store, log = ActivePatterns(), RedisStore(redis), open_log(redis)
    append(log, [detection(f"S{number}", "daily", event_id=f"e{number}") for number in range(40)])
    projector = Projector(projection, log, store, acquire_lease(store, segment_of(projection)))
    assert projector.step(5, 0) == Step(CommitOutcome.COMMITTED, 5, has_more=True)
    assert projector.step(30, 0) == Step(CommitOutcome.COMMITTED, 5, has_more=True)
    assert projector.step(2, 0) == Step(CommitOutcome.COMMITTED, 2, has_more=True)
    while projector.lease.checkpoint < 40:
        step = projector.step(30, 0)
    assert not step.has_more


@on_a_server
@given(history=mixed_histories)
def test_an_event_that_is_appended_twice_is_recorded_once(redis: Redis, history: list[Event]) -> None:
    redis.flushall()
    log = open_log(redis)
    append(log, history)
    append(log, [*history, *history])
    assert log.head() == len(history)


def test_two_detections_produce_rows_indexes_counts_and_groups(redis: Redis) -> None:
    """This test shows that the comparisons with the oracle do not compare empty read models."""
    history = [detection("AAPL", "daily"), detection("AAPL", "intraday")]
    append(open_log(redis), history)
    run_to_end(redis, ActivePatterns(), iter(()), iter(()))
    model = load_segment(redis, ActivePatterns(), LOG)
    assert len(model.rows) == 2
    assert model.counts["by_symbol", "AAPL"] == 2
    assert len(model.indexes["confidence", ""]) == 2
    assert model.groups == {"AAPL:Doji:1757001600000": set(model.rows)}


def test_a_batch_without_events_of_the_projection_only_moves_the_checkpoint(redis: Redis) -> None:
    """The worker asks the server for no rows."""
    projection, store, log = READ_MODELS["universes"], RedisStore(redis), open_log(redis)
    append(log, [detection("AAPL", "daily"), detection("MSFT", "daily")])
    projector = Projector(projection, log, store, acquire_lease(store, segment_of(projection)))
    calls: Any = redis.info("commandstats").get("cmdstat_fcall_ro", {"calls": 0})
    assert projector.step(10, 0) == Step(CommitOutcome.COMMITTED, 2, has_more=False)
    after: Any = redis.info("commandstats").get("cmdstat_fcall_ro", {"calls": 0})
    assert after["calls"] == calls["calls"]
    assert redis.hget(SegmentKeys(segment_of(projection)).state, "checkpoint") == b"2"


def test_the_commit_of_a_stalled_worker_is_fenced(redis: Redis) -> None:
    store, log = RedisStore(redis), open_log(redis)
    append(log, [detection("AAPL", "daily")])
    stalled = acquire_lease(store, segment_of(ActivePatterns()), "stalled", seconds=0.05)
    projector = Projector(ActivePatterns(), log, store, stalled)
    while not (successor := store.lease([stalled.segment], "successor", 30)[0]):
        time.sleep(0.01)
    outcome, *_ = projector.step(10, 0)
    assert outcome is CommitOutcome.FENCED
    assert not redis.exists(SegmentKeys(stalled.segment).rows)
    assert Projector(ActivePatterns(), log, store, successor).step(10, 0)[0] is CommitOutcome.COMMITTED
    assert redis.hlen(SegmentKeys(stalled.segment).rows) == 1


def test_a_repeated_commit_takes_effect_once(redis: Redis) -> None:
    activity = READ_MODELS["activity"]
    store, log = RedisStore(redis), open_log(redis)
    append(log, [detection("AAPL", "daily")])
    lease = acquire_lease(store, segment_of(activity))
    copy_of_lease = Lease(**vars(lease))
    first, repeated = (Projector(activity, log, store, current) for current in (lease, copy_of_lease))
    assert first.step(10, 0)[0] is CommitOutcome.COMMITTED
    assert repeated.step(10, 0)[0] is CommitOutcome.ALREADY_COMMITTED
    [row] = load_segment(redis, activity, LOG).rows.values()
    assert row["events"] == 1


def test_a_commit_with_another_checkpoint_is_refused(redis: Redis) -> None:
    store = RedisStore(redis)
    lease = acquire_lease(store, segment_of(ActivePatterns()))
    lease.checkpoint = 5
    assert store.begin_commit(lease, Progress(9, 0.0, 0.0), Mutations()).result() is CommitOutcome.CHECKPOINT_MISMATCH


def test_events_without_effect_move_the_checkpoint(redis: Redis) -> None:
    store, log = RedisStore(redis), open_log(redis)
    append(log, [detection("AAPL", "daily"), detection("MSFT", "daily")])
    lease = acquire_lease(store, segment_of(READ_MODELS["producers"]))
    Projector(READ_MODELS["producers"], log, store, lease).step(10, 0)
    assert acquire_lease(store, lease.segment).checkpoint == 2


def test_a_commit_of_thousands_of_rows_succeeds(redis: Redis) -> None:
    """The rows are more members of one index than Lua can pass as arguments of one call."""
    log = open_log(redis)
    history = [detection("AAPL", "daily", detected_at=1_757_001_600.0 + number) for number in range(6_000)]
    for start in range(0, len(history), 1_000):
        append(log, history[start : start + 1_000])
    run_to_end(redis, ActivePatterns(), iter((10_000,)), iter(()))
    assert_same_content(load_segment(redis, ActivePatterns(), LOG), expected_patterns(history))


def test_a_commit_is_sent_again_after_its_reply_was_lost(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks between the commit and its reply. The repeated commit finds the commit done."""
    log = open_log(redis)
    append(log, [detection("AAPL", "daily"), detection("MSFT", "daily")])
    store = RedisStore(redis)
    lease = acquire_lease(store, segment_of(READ_MODELS["activity"]))
    commands = [
        ("HSET", SegmentKeys(lease.segment).state, ["checkpoint", 1]),
        ("HSET", SegmentKeys(lease.segment).rows, ["a", "1"]),
    ]

    commit = store.send(lease, 1, commands)
    while not redis.exists(SegmentKeys(lease.segment).rows):
        pass
    read_response, breaks = Connection.read_response, iter([True])

    def break_once(connection: Connection) -> Any:
        if next(breaks, False):
            raise RedisConnectionError("broken")
        return read_response(connection)

    monkeypatch.setattr(Connection, "read_response", break_once)
    assert commit.result() is CommitOutcome.ALREADY_COMMITTED
    assert redis.hget(SegmentKeys(lease.segment).rows, "a") == b"1"
    assert redis.ping()
