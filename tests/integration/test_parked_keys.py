"""Parked keys on a real server: events that cannot be folded are parked, and folded in order after a fix."""

from itertools import repeat
from typing import Any
from urllib.parse import urlsplit

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from domain.events import Event
from infra.projecting.projector import RETRY_BATCH, Projector
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from infra.redis.connections import connect
from projections.patterns import ActivePatterns, PatternRow
from projections.ports import CommitOutcome
from projections.versions import Build
from tests.events import pattern_expired, pattern_updated
from tests.integration.losing_proxy import LosingProxy
from tests.integration.projector_support import (
    LOG,
    acquire_lease,
    append,
    detection,
    open_log,
    run_ahead,
    run_to_end,
    segment_of,
)
from tests.oracles.read_models import expected_patterns
from tests.read_model import FIRST_BUILD, assert_same_content, load_segment
from tests.strategies import pattern_events

on_a_server = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class FaultyPatterns(ActivePatterns):
    """The real projection with a bug: events marked ``poison`` fail in ``keys`` or in ``evolve``."""

    broken = True

    def keys(self, event: Any) -> Any:
        if self.broken and event.extra.get("poison") == "keys":
            raise LookupError("keys fails")
        return super().keys(event)

    def evolve(self, row: PatternRow | None, event: Any) -> PatternRow | None:
        if self.broken and event.extra.get("poison") == "evolve":
            raise ValueError("evolve fails")
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
def test_parked_events_are_folded_in_order_after_a_fix(redis: Redis, history: list[Event], batches: list[int]) -> None:
    """Neither poison nor a retry affects the checkpoint, and in the end the read model equals the oracle."""
    redis.flushall()
    append(open_log(redis), history)
    faulty = FaultyPatterns()
    run_to_end(redis, faulty, iter(batches), iter(()))
    keys = SegmentKeys(segment_of(faulty))
    # An event without a tier affects only rows that exist already.
    poisons = [(event.extra.get("poison"), event.tier) for event in history]
    poisoned = any(poison == "keys" or (poison and tier) for poison, tier in poisons)
    assert redis.hlen(keys.parked) > 0 or not poisoned
    faulty.broken = False
    store = RedisStore(redis)
    lease = acquire_lease(store, segment_of(faulty), "fixed")
    assert lease.checkpoint == len(history)
    # Two rounds: a retry of a parked stream may add events to parked keys.
    for _ in range(2):
        for key in sorted(redis.hkeys(keys.parked)):
            redis.sadd(keys.retry, key)
            assert Projector(faulty, open_log(redis), store, lease).retry_parked() is CommitOutcome.COMMITTED
    assert redis.hlen(keys.parked) == 0
    assert not list(redis.scan_iter(keys.prefix + "parked:*"))
    assert redis.scard(keys.retry) == 0
    assert acquire_lease(store, segment_of(faulty), "fixed").checkpoint == len(history)
    assert set(load_segment(redis, faulty, LOG).rows) <= {
        f"{event.symbol}:{event.pattern}:{event.tier}:{round(event.detected_at * 1000)}" for event in history
    }
    assert_same_content(
        without_positions(load_segment(redis, faulty, LOG)), without_positions(expected_patterns(history))
    )


def without_positions(model: Any) -> Any:
    model.positions = {}
    return model


def parked_keys(redis: Redis, keys: SegmentKeys) -> dict[bytes, Any]:
    """Return the error and the events of each parked key."""
    errors = redis.hgetall(keys.parked)
    return {key: (error, redis.lrange(keys.parked_events(key.decode()), 0, -1)) for key, error in errors.items()}


@on_a_server
@given(history=poisoned_histories, batch_size=st.integers(1, 4))
def test_folding_ahead_parks_the_same_events_as_folding_batch_by_batch(
    redis: Redis, history: list[Event], batch_size: int
) -> None:
    redis.flushall()
    append(open_log(redis), history)
    faulty, ahead_build = FaultyPatterns(), Build(1, 2)
    run_to_end(redis, faulty, repeat(batch_size), iter(()))
    run_ahead(redis, faulty, batch_size, iter(()), ahead_build)
    assert_same_content(load_segment(redis, faulty, LOG, ahead_build), load_segment(redis, faulty, LOG))
    parked_ahead, parked = (
        parked_keys(redis, SegmentKeys(segment_of(faulty, build))) for build in (ahead_build, FIRST_BUILD)
    )
    assert parked_ahead == parked


def test_a_retry_creates_no_row_from_an_event_for_all_tiers(redis: Redis) -> None:
    """The expiry of an unknown pattern is parked, and so is the update behind it, which speaks of existing rows."""
    store, faulty = RedisStore(redis), FaultyPatterns()
    keys = SegmentKeys(segment_of(faulty))
    expired = pattern_expired(symbol="BRK", tier="daily", event_id="1", extra={"poison": "evolve"})
    append(open_log(redis), [expired, pattern_updated(symbol="BRK", confidence=0.8, event_id="2")])
    lease = acquire_lease(store, segment_of(faulty))
    projector = Projector(faulty, open_log(redis), store, lease)
    assert projector.step(10, 0)[:2] == (CommitOutcome.COMMITTED, 2)
    [key] = redis.hkeys(keys.parked)
    assert redis.llen(keys.parked_events(key.decode())) == 2
    faulty.broken = False
    redis.sadd(keys.retry, key)
    assert projector.retry_parked() is CommitOutcome.COMMITTED
    assert not redis.exists(keys.parked, keys.rows, keys.groups)


def test_a_retry_discards_batches_that_were_folded_ahead(redis: Redis) -> None:
    """A key is retried after the next batch with an event of this key was folded ahead on the former row."""
    history: list[Event] = [
        detection("AAPL", "daily", extra={"poison": "evolve"}),
        detection("AAPL", "daily", occurred_at=1_757_001_700.0, confidence=0.9),
    ]
    append(open_log(redis), history)
    store, faulty = RedisStore(redis), FaultyPatterns()
    keys = SegmentKeys(segment_of(faulty))
    projector = Projector(faulty, open_log(redis), store, acquire_lease(store, segment_of(faulty)))
    assert projector.step(1, 0)[:2] == (CommitOutcome.COMMITTED, 1)
    faulty.broken = False
    redis.sadd(keys.retry, "AAPL:Doji:daily:1757001600000")
    assert projector.retry_parked() is CommitOutcome.COMMITTED
    assert projector.step(1, 0)[:2] == (CommitOutcome.COMMITTED, 1)
    assert redis.hlen(keys.parked) == 0
    assert_same_content(load_segment(redis, faulty, LOG), expected_patterns(history))


def test_a_retry_whose_reply_is_lost_folds_each_parked_event_once(redis: Redis, redis_url: str) -> None:
    begun: list[Event] = [detection("AAPL", "daily", extra={"poison": "evolve"})]
    changes = [begun[0].model_copy(update={"event_id": f"later-{number}"}) for number in range(RETRY_BATCH + 1)]
    history = begun + changes
    append(open_log(redis), history)
    faulty = FaultyPatterns()
    run_to_end(redis, faulty, iter(()), iter(()))
    keys, faulty.broken = SegmentKeys(segment_of(faulty)), False
    redis.sadd(keys.retry, "AAPL:Doji:daily:1757001600000")
    address = urlsplit(redis_url)
    with (
        LosingProxy(address.hostname or "", address.port or 0, b"commit") as proxy,
        connect(f"redis://127.0.0.1:{proxy.port}") as client,
    ):
        store = RedisStore(client)
        lease = acquire_lease(store, segment_of(faulty), "again")
        left = redis.llen(keys.parked_events("AAPL:Doji:daily:1757001600000")) - RETRY_BATCH
        Projector(faulty, open_log(client), store, lease).retry_parked()
        assert proxy.lost_replies == 1
        assert redis.llen(keys.parked_events("AAPL:Doji:daily:1757001600000")) == left
        while redis.hlen(keys.parked):
            Projector(faulty, open_log(client), store, lease).retry_parked()
    assert_same_content(load_segment(redis, faulty, LOG), expected_patterns(history))


def test_poison_parks_only_its_own_key(redis: Redis) -> None:
    history: list[Event] = [
        detection("AAPL", "daily"),
        detection("AAPL", "daily", occurred_at=1_757_001_700.0, confidence=0.9, extra={"poison": "evolve"}),
        detection("AAPL", "daily", occurred_at=1_757_001_800.0, confidence=0.95),
        detection("MSFT", "daily"),
    ]
    append(open_log(redis), history)
    faulty = FaultyPatterns()
    run_to_end(redis, faulty, iter(()), iter(()))
    rows = load_segment(redis, faulty, LOG).rows
    key = "AAPL:Doji:daily:1757001600000"
    assert rows[key]["confidence"] == 0.8
    assert "MSFT:Doji:daily:1757001600000" in rows
    keys = SegmentKeys(segment_of(faulty))
    assert redis.hkeys(keys.parked) == [key.encode()]
    assert b"evolve fails" in redis.hget(keys.parked, key)
    assert [entry.position for entry in RedisStore(redis).parked_entries(segment_of(faulty), key, 10)] == [2, 3]


def test_a_retry_before_the_fix_changes_nothing(redis: Redis) -> None:
    history: list[Event] = [detection("AAPL", "daily", extra={"poison": "evolve"}), detection("AAPL", "daily")]
    append(open_log(redis), history)
    faulty = FaultyPatterns()
    run_to_end(redis, faulty, iter(()), iter(()))
    store, segment = RedisStore(redis), segment_of(faulty)
    keys = SegmentKeys(segment)
    redis.sadd(keys.retry, "AAPL:Doji:daily:1757001600000")
    lease = acquire_lease(store, segment, "again")
    assert lease.retries
    Projector(faulty, open_log(redis), store, lease).retry_parked()
    assert len(store.parked_entries(segment, "AAPL:Doji:daily:1757001600000", 10)) == 2
    assert not acquire_lease(store, segment, "again").retries
