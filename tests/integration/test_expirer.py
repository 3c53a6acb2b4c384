"""The expirer on a real Valkey: one expiry event per elapsed pattern, and none for prolonged patterns."""

import time
from typing import Any

import pytest
from redis import Redis

from domain.codec import decode
from domain.events import Event, PatternDetected, PatternExpired
from infra.log.event_log import EventLog
from infra.projecting.expirer import EXPIRY_BATCH, ExpiryError, expire
from infra.projecting.projector import Projector
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from projections.base import StoredRow
from projections.patterns import ActivePatterns, PatternRow
from projections.ports import Lease, Segment
from tests.events import new_events, pattern_detected, pattern_updated
from tests.read_model import FIRST_BUILD, load_segment

SEGMENT = Segment("patterns", FIRST_BUILD, "market-0")
NOW = time.time()


def detection(symbol: str, expires_at: float | None) -> PatternDetected:
    """Build the event of a detection 100 seconds ago."""
    times = {"occurred_at": NOW - 100, "detected_at": NOW - 100, "expires_at": expires_at}
    return pattern_detected(event_id=f"detected-{symbol}", symbol=symbol, correlation_id="flow-1", **times)


class Market:
    """One partition: a log and its patterns."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.log = EventLog(redis, "market-0")
        self._store = RedisStore(redis)
        [lease] = self._store.lease([SEGMENT], "worker", 60)
        assert lease is not None
        self._lease: Lease = lease

    def record(self, *events: Event) -> None:
        self.log.append(new_events(events))

    def project(self, projection: ActivePatterns | None = None) -> None:
        projector = Projector(projection or ActivePatterns(), self.log, self._store, self._lease)
        while projector.step(100, 0)[1]:
            pass

    def expire(self, projection: ActivePatterns | None = None) -> int:
        return expire(self.redis, self.log, projection or ActivePatterns(), SEGMENT)

    def rows(self) -> dict[str, Any]:
        return load_segment(self.redis, ActivePatterns(), "market-0").rows

    def expiries(self) -> list[PatternExpired]:
        events = [decode(entry.topic, entry.event_id, entry.state) for entry in self.log.read(0, 1_000)]
        return [event for event in events if isinstance(event, PatternExpired)]


def test_only_elapsed_patterns_are_expired(redis: Redis) -> None:
    market = Market(redis)
    market.record(detection("AAPL", NOW - 10), detection("MSFT", NOW + 3_600), detection("TSLA", None))
    market.project()
    assert market.expire() == 1
    market.project()
    assert {row["symbol"] for row in market.rows().values()} == {"MSFT", "TSLA"}
    [expiry] = market.expiries()
    assert (expiry.symbol, expiry.reason, expiry.occurred_at) == ("AAPL", "elapsed", NOW - 10)
    assert expiry.correlation_id == "flow-1"
    assert market.expire() == 0


def test_repeated_expiries_record_one_event(redis: Redis) -> None:
    market = Market(redis)
    market.record(detection("AAPL", NOW - 10))
    market.project()
    assert [market.expire() for _ in range(3)] == [1, 1, 1]
    assert len(market.expiries()) == 1


def test_a_pattern_that_was_prolonged_before_its_expiry_remains(redis: Redis) -> None:
    market = Market(redis)
    market.record(detection("AAPL", NOW - 10))
    market.project()
    prolonged = pattern_updated(tier="daily", occurred_at=NOW, detected_at=NOW - 100, expires_at=NOW + 3_600)
    market.record(prolonged)
    assert market.expire() == 1
    market.project()
    assert [row["expires_at"] for row in market.rows().values()] == [NOW + 3_600]


def test_a_repeated_detection_of_an_expired_pattern_is_expired_again(redis: Redis) -> None:
    """The second expiry has the same pattern and the same end as the first, but is no duplicate."""
    market = Market(redis)
    market.record(detection("AAPL", NOW - 10))
    market.project()
    market.expire()
    market.project()
    market.record(detection("AAPL", NOW - 10).model_copy(update={"event_id": "again"}))
    market.project()
    assert len(market.rows()) == 1
    market.expire()
    market.project()
    assert market.rows() == {}
    assert len(market.expiries()) == 2


def test_a_row_that_cannot_be_ended_does_not_stop_the_others(redis: Redis) -> None:
    class Faulty(ActivePatterns):
        """The real projection with a bug in the end of some rows."""

        def expiry(self, stored: StoredRow[PatternRow]) -> PatternExpired:
            if stored.row.symbol.startswith("BAD"):
                raise LookupError("expiry fails")
            return super().expiry(stored)

    market = Market(redis)
    bad = [detection(f"BAD{number}", NOW - 50 + number / 1_000) for number in range(EXPIRY_BATCH + 1)]
    market.record(*bad, detection("AAPL", NOW - 1))
    market.project()
    for _ in range(2):
        with pytest.raises(ExpiryError, match=rf"^{len(bad)} rows .* BAD0:.*LookupError: expiry fails"):
            market.expire(Faulty())
        assert [event.symbol for event in market.expiries()] == ["AAPL"]
    assert market.expire() == EXPIRY_BATCH


def test_an_end_whose_id_another_event_has_is_an_error(redis: Redis) -> None:
    market = Market(redis)
    market.record(detection("AAPL", NOW - 10), detection("MSFT", NOW - 10))
    market.project()
    [row] = [PatternRow(**row) for row in market.rows().values() if row["symbol"] == "AAPL"]
    end = ActivePatterns().expiry(StoredRow(row, 1))
    market.record(pattern_detected(event_id=end.event_id, symbol="TSLA"))
    assert market.expire() == 2, "the event with the id may still end the row"
    market.project()
    for _ in range(2):
        with pytest.raises(ExpiryError, match=r"^1 rows .* AAPL:.*: the event at position 3 has the id of the end"):
            market.expire()
    assert {row["symbol"] for row in market.rows().values()} == {"AAPL", "TSLA"}


def test_a_parked_row_is_no_refused_end(redis: Redis) -> None:
    market = Market(redis)
    market.record(detection("AAPL", NOW - 10))
    market.project()
    [key] = market.rows()
    market.expire()

    class Faulty(ActivePatterns):
        """The real projection with a bug in the fold of expiries."""

        def evolve(self, row: PatternRow | None, event: Event) -> PatternRow | None:  # type: ignore[override]
            del row, event
            raise LookupError

    market.project(Faulty())
    assert redis.hkeys(SegmentKeys(SEGMENT).parked) == [key.encode()]
    assert market.expire() == 1
