"""The engine on a real server: whatever the history, the batches and the crashes, the read model equals the oracle."""

import time
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from domain.events import Event, PatternDetected
from infra.log.event_log import EventLog
from infra.projecting.projector import Projector
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from projections.base import Projection
from projections.mutations import Mutations
from projections.patterns import ActivePatterns, PatternRow
from projections.ports import CommitOutcome, Lease, PendingCommit, Progress, Segment
from projections.registry import READ_MODELS
from projections.versions import Build
from tests.events import new_events, pattern_detected
from tests.oracles.read_models import ORACLES, expected_patterns
from tests.read_model import FIRST_BUILD, assert_same_content, load_segment
from tests.strategies import mixed_histories, pattern_events

LOG = "market-0"

on_a_server = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class CrashError(Exception):
    """The worker is gone."""


class CrashingCommit:
    """A commit whose process dies once it is made."""

    def __init__(self, commit: PendingCommit) -> None:
        self._commit = commit

    def result(self) -> CommitOutcome:
        self._commit.result()
        raise CrashError


class CrashingStore(RedisStore):
    """The real store, whose process dies just before or just after some of its commits."""

    def __init__(self, client: Redis, crashes: Iterator[str]) -> None:
        super().__init__(client)
        self._crashes = crashes

    def begin_commit(self, lease: Lease, progress: Progress, mutations: Mutations) -> PendingCommit:
        crash = next(self._crashes, "none")
        if crash == "before":
            raise CrashError
        commit = super().begin_commit(lease, progress, mutations)
        return CrashingCommit(commit) if crash == "after" else commit


def append(log: EventLog, events: list[Event]) -> None:
    log.append(new_events(events))


def lease(store: RedisStore, segment: Segment, owner: str = "worker", seconds: float = 30) -> Lease:
    [taken] = store.lease([segment], owner, seconds)
    assert taken is not None
    return taken


def segment_of(projection: Projection[Any, Any], build: Build = FIRST_BUILD) -> Segment:
    return Segment(projection.name, build, LOG)


def open_log(client: Redis) -> EventLog:
    return EventLog(client, LOG)


def run_to_end(client: Redis, projection: Projection[Any, Any], batches: Iterator[int], crashes: Iterator[str]) -> None:
    """Drive the segment to the log's head; after each crash another worker takes over."""
    log = open_log(client)
    store = CrashingStore(client, crashes)
    owner = 0
    current = lease(store, segment_of(projection), f"worker-{owner}")
    while current.checkpoint < log.head():
        try:
            outcome, _ = Projector(projection, log, store, current).step(next(batches, 1_000), 0)
            assert outcome in (CommitOutcome.COMMITTED, CommitOutcome.ALREADY_COMMITTED)
        except CrashError:
            store.release([current])
            owner += 1
            current = lease(store, segment_of(projection), f"worker-{owner}")
    store.release([current])


@pytest.mark.parametrize("name", READ_MODELS)
@on_a_server
@given(
    history=mixed_histories,
    batches=st.lists(st.integers(1, 7), max_size=40),
    crashes=st.lists(st.sampled_from(("none", "before", "after")), max_size=20),
)
def test_read_model_equals_oracle(
    redis: Redis, name: str, history: list[Event], batches: list[int], crashes: list[str]
) -> None:
    redis.flushall()
    projection = READ_MODELS[name]
    append(open_log(redis), history)
    run_to_end(redis, projection, iter(batches), iter(crashes))
    assert_same_content(load_segment(redis, projection, LOG), ORACLES[name](history))


def run_ahead(
    client: Redis, projection: Projection[Any, Any], batch_size: int, crashes: Iterator[str], build: Build = FIRST_BUILD
) -> None:
    """Drive the segment to the log's head with one projector, which folds ahead and goes on after an error."""
    log = open_log(client)
    store = CrashingStore(client, crashes)
    current = lease(store, segment_of(projection, build))
    projector = Projector(projection, log, store, current)
    while current.checkpoint < log.head():
        try:
            outcome, _ = projector.step(batch_size, 0)
            assert outcome is CommitOutcome.COMMITTED
        except CrashError:
            continue
    store.release([current])


@pytest.mark.parametrize("name", READ_MODELS)
@on_a_server
@given(
    history=mixed_histories,
    batch_size=st.integers(1, 5),
    crashes=st.lists(st.sampled_from(("none", "before", "after")), max_size=10),
)
def test_folded_ahead_equals_oracle(
    redis: Redis, name: str, history: list[Event], batch_size: int, crashes: list[str]
) -> None:
    redis.flushall()
    append(open_log(redis), history)
    run_ahead(redis, READ_MODELS[name], batch_size, iter(crashes))
    assert_same_content(load_segment(redis, READ_MODELS[name], LOG), ORACLES[name](history))


@on_a_server
@given(history=mixed_histories)
def test_announced_twice_counts_once(redis: Redis, history: list[Event]) -> None:
    redis.flushall()
    log = open_log(redis)
    append(log, history)
    append(log, [*history, *history])
    assert log.head() == len(history)


def test_every_history_is_not_trivial(redis: Redis) -> None:
    """The oracle and the read model are not equal for want of anything to compare."""
    history = [detection("AAPL", "daily"), detection("AAPL", "intraday")]
    append(open_log(redis), history)
    run_to_end(redis, ActivePatterns(), iter(()), iter(()))
    model = load_segment(redis, ActivePatterns(), LOG)
    assert len(model.rows) == 2
    assert model.counts["by_symbol", "AAPL"] == 2
    assert len(model.indexes["confidence", ""]) == 2
    assert model.groups == {"AAPL:Doji:1757001600000": set(model.rows)}


def detection(symbol: str, tier: str, pattern: str = "Doji", **fields: Any) -> PatternDetected:
    known = {"event_id": f"{symbol}-{tier}-{pattern}-{fields}", "confidence": 0.8, **fields}
    return pattern_detected(symbol=symbol, tier=tier, pattern=pattern, **known)


def test_commit_of_a_stalled_worker_is_refused(redis: Redis) -> None:
    store, log = RedisStore(redis), open_log(redis)
    append(log, [detection("AAPL", "daily")])
    stalled = lease(store, segment_of(ActivePatterns()), "stalled", seconds=0.05)
    projector = Projector(ActivePatterns(), log, store, stalled)
    while not (taken := store.lease([stalled.segment], "successor", 30)[0]):
        time.sleep(0.01)
    outcome, _ = projector.step(10, 0)
    assert outcome is CommitOutcome.FENCED
    assert not redis.exists(SegmentKeys(stalled.segment).rows)
    assert Projector(ActivePatterns(), log, store, taken).step(10, 0)[0] is CommitOutcome.COMMITTED
    assert redis.hlen(SegmentKeys(stalled.segment).rows) == 1


def test_commit_heard_twice_takes_effect_once(redis: Redis) -> None:
    store, log = RedisStore(redis), open_log(redis)
    append(log, [detection("AAPL", "daily")])
    held = lease(store, segment_of(READ_MODELS["activity"]))
    again = Lease(**vars(held))
    assert Projector(READ_MODELS["activity"], log, store, held).step(10, 0)[0] is CommitOutcome.COMMITTED
    assert Projector(READ_MODELS["activity"], log, store, again).step(10, 0)[0] is CommitOutcome.ALREADY_COMMITTED
    [row] = load_segment(redis, READ_MODELS["activity"], LOG).rows.values()
    assert row["events"] == 1


def test_batch_that_begins_elsewhere_is_out_of_step(redis: Redis) -> None:
    store = RedisStore(redis)
    held = lease(store, segment_of(ActivePatterns()))
    held.checkpoint = 5
    assert store.begin_commit(held, Progress(9, 0.0, 0.0), Mutations()).result() is CommitOutcome.CHECKPOINT_MISMATCH


def test_foreign_events_move_the_checkpoint(redis: Redis) -> None:
    store, log = RedisStore(redis), open_log(redis)
    append(log, [detection("AAPL", "daily")] * 1 + [detection("MSFT", "daily")])
    held = lease(store, segment_of(READ_MODELS["producers"]))
    Projector(READ_MODELS["producers"], log, store, held).step(10, 0)
    assert lease(store, held.segment).checkpoint == 2


def test_commit_larger_than_one_command_may_be(redis: Redis) -> None:
    """More members of one index than Lua can unpack into a call."""
    log = open_log(redis)
    history = [detection("AAPL", "daily", detected_at=1_757_001_600.0 + number) for number in range(6_000)]
    for start in range(0, len(history), 1_000):
        append(log, history[start : start + 1_000])
    run_to_end(redis, ActivePatterns(), iter((10_000,)), iter(()))
    assert_same_content(load_segment(redis, ActivePatterns(), LOG), expected_patterns(history))


class Fragile(ActivePatterns):
    """The real projection with a bug: it cannot fold what is marked ``poison``, nor decide the keys of ``keyless``."""

    broken = True

    def keys(self, event: Any) -> Any:
        if self.broken and event.extra.get("poison") == "keys":
            raise LookupError("no keys today")
        return super().keys(event)

    def evolve(self, row: PatternRow | None, event: Any) -> PatternRow | None:
        if self.broken and event.extra.get("poison") == "evolve":
            raise ValueError("cannot fold this")
        return super().evolve(row, event)


poisoned_histories = st.lists(
    st.builds(
        lambda event, poison: event.model_copy(update={"extra": {"poison": poison}} if poison else {}),
        pattern_events,
        st.sampled_from((None, None, None, "evolve", "keys")),
    ),
    min_size=1,
    max_size=25,
    unique_by=lambda event: event.event_id,
)


@on_a_server
@given(history=poisoned_histories, batches=st.lists(st.integers(1, 6), max_size=25))
def test_after_a_fix_parked_events_are_folded_in_order(redis: Redis, history: list[Event], batches: list[int]) -> None:
    """The checkpoint does not stop at poison, nor move at the retry; in the end the read model equals the oracle."""
    redis.flushall()
    append(open_log(redis), history)
    fragile = Fragile()
    run_to_end(redis, fragile, iter(batches), iter(()))
    keys = SegmentKeys(segment_of(fragile))
    # What names no tier speaks of no row as long as there is none.
    poisons = [(event.extra.get("poison"), event.tier) for event in history]
    poisoned = any(poison == "keys" or (poison and tier) for poison, tier in poisons)
    assert redis.hlen(keys.parked) > 0 or not poisoned
    fragile.broken = False
    store = RedisStore(redis)
    held = lease(store, segment_of(fragile), "fixed")
    assert held.checkpoint == len(history)
    # Streams first: retrying them may add events to the keys behind.
    for _ in range(2):
        for key in sorted(redis.hkeys(keys.parked)):
            redis.sadd(keys.retry, key)
            assert Projector(fragile, open_log(redis), store, held).retry_parked() is CommitOutcome.COMMITTED
    assert redis.hlen(keys.parked) == 0
    assert not list(redis.scan_iter(keys.prefix + "parked:*"))
    assert redis.scard(keys.retry) == 0
    assert lease(store, segment_of(fragile), "fixed").checkpoint == len(history)
    assert set(load_segment(redis, fragile, LOG).rows) <= {
        f"{event.symbol}:{event.pattern}:{event.tier}:{round(event.detected_at * 1000)}" for event in history
    }
    assert_same_content(
        without_positions(load_segment(redis, fragile, LOG)), without_positions(expected_patterns(history))
    )


def without_positions(model: Any) -> Any:
    model.positions = {}
    return model


def parked(redis: Redis, keys: SegmentKeys) -> dict[bytes, Any]:
    """The notes and the events of all parked keys."""
    notes = redis.hgetall(keys.parked)
    return {key: (note, redis.lrange(keys.parked_events(key.decode()), 0, -1)) for key, note in notes.items()}


@on_a_server
@given(history=poisoned_histories, batch_size=st.integers(1, 4))
def test_folding_ahead_parks_what_batch_by_batch_parks(redis: Redis, history: list[Event], batch_size: int) -> None:
    redis.flushall()
    append(open_log(redis), history)
    fragile, ahead = Fragile(), Build(1, 2)
    run_to_end(redis, fragile, repeat(batch_size), iter(()))
    run_ahead(redis, fragile, batch_size, iter(()), ahead)
    assert_same_content(load_segment(redis, fragile, LOG, ahead), load_segment(redis, fragile, LOG))
    assert parked(redis, SegmentKeys(segment_of(fragile, ahead))) == parked(redis, SegmentKeys(segment_of(fragile)))


def test_retry_undoes_what_was_folded_ahead(redis: Redis) -> None:
    """A parked key is retried while the next batch, which touches it, has been folded on the row as it was before."""
    history: list[Event] = [
        detection("AAPL", "daily", extra={"poison": "evolve"}),
        detection("AAPL", "daily", occurred_at=1_757_001_700.0, confidence=0.9),
    ]
    append(open_log(redis), history)
    store, fragile = RedisStore(redis), Fragile()
    keys = SegmentKeys(segment_of(fragile))
    projector = Projector(fragile, open_log(redis), store, lease(store, segment_of(fragile)))
    assert projector.step(1, 0) == (CommitOutcome.COMMITTED, 1)
    fragile.broken = False
    redis.sadd(keys.retry, "AAPL:Doji:daily:1757001600000")
    assert projector.retry_parked() is CommitOutcome.COMMITTED
    assert projector.step(1, 0) == (CommitOutcome.COMMITTED, 1)
    assert redis.hlen(keys.parked) == 0
    assert_same_content(load_segment(redis, fragile, LOG), expected_patterns(history))


def test_commit_whose_reply_was_lost_is_heard_by_the_next_try(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks between the commit and its reply; the same commit, sent again, finds that it is done."""
    log = open_log(redis)
    append(log, [detection("AAPL", "daily"), detection("MSFT", "daily")])
    store = RedisStore(redis)
    held = lease(store, segment_of(READ_MODELS["activity"]))
    commands = [
        ("HSET", SegmentKeys(held.segment).state, ["checkpoint", 1]),
        ("HSET", SegmentKeys(held.segment).rows, ["a", "1"]),
    ]

    commit = store.send(held, 1, commands)
    while not redis.exists(SegmentKeys(held.segment).rows):
        pass
    read_response, breaks = Connection.read_response, iter([True])

    def break_once(connection: Connection) -> Any:
        if next(breaks, False):
            raise RedisConnectionError("broken")
        return read_response(connection)

    monkeypatch.setattr(Connection, "read_response", break_once)
    assert commit.result() is CommitOutcome.ALREADY_COMMITTED
    assert redis.hget(SegmentKeys(held.segment).rows, "a") == b"1"
    assert redis.ping()


def test_poison_parks_its_key_and_nothing_else(redis: Redis) -> None:
    history: list[Event] = [
        detection("AAPL", "daily"),
        detection("AAPL", "daily", occurred_at=1_757_001_700.0, confidence=0.9, extra={"poison": "evolve"}),
        detection("AAPL", "daily", occurred_at=1_757_001_800.0, confidence=0.95),
        detection("MSFT", "daily"),
    ]
    append(open_log(redis), history)
    fragile = Fragile()
    run_to_end(redis, fragile, iter(()), iter(()))
    rows = load_segment(redis, fragile, LOG).rows
    key = "AAPL:Doji:daily:1757001600000"
    assert rows[key]["confidence"] == 0.8
    assert "MSFT:Doji:daily:1757001600000" in rows
    keys = SegmentKeys(segment_of(fragile))
    assert redis.hkeys(keys.parked) == [key.encode()]
    assert b"cannot fold this" in redis.hget(keys.parked, key)
    assert [entry.position for entry in RedisStore(redis).parked_entries(segment_of(fragile), key, 10)] == [2, 3]


def test_retry_before_the_fix_leaves_all_as_it_was(redis: Redis) -> None:
    history: list[Event] = [detection("AAPL", "daily", extra={"poison": "evolve"}), detection("AAPL", "daily")]
    append(open_log(redis), history)
    fragile = Fragile()
    run_to_end(redis, fragile, iter(()), iter(()))
    store, segment = RedisStore(redis), segment_of(fragile)
    keys = SegmentKeys(segment)
    redis.sadd(keys.retry, "AAPL:Doji:daily:1757001600000")
    held = lease(store, segment, "again")
    assert held.retries
    Projector(fragile, open_log(redis), store, held).retry_parked()
    assert len(store.parked_entries(segment, "AAPL:Doji:daily:1757001600000", 10)) == 2
    assert not lease(store, segment, "again").retries
