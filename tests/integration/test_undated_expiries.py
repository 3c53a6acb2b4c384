"""Expiries without the time of their detection, on a real server: they end the latest active detection."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from domain.announcements import Message, Receipt
from domain.codec import decode
from domain.events import PatternExpired, UndatedExpiry
from domain.streams import log_of, symbol_stream
from domain.undated_expiry import DETECTION_FROM
from domain.wire import PATTERNS, Bounds
from infra.projecting.expirer import expire
from infra.projecting.projector import Projector
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions
from infra.recording.dead_letters import DeadLetters
from infra.recording.latest_detections import TAIL
from infra.recording.recorder import Recorder
from infra.redis.functions import load
from projections.patterns import ActivePatterns, pattern_id
from projections.ports import Segment
from projections.producers import Producers
from projections.versions import Build
from tests.events import NOON
from tests.logs import open_directory
from tests.read_model import load_segment

LOGS = ("market-0", "market-1")
SYMBOLS = ("AAPL", "X:BTCUSD", "MSFT")
NEVER = 2e9
"""An end of patterns that lies in the future."""

numbers = count(1)


class Service:
    """A recorder and the workers of one server, which fold when the test says so."""

    def __init__(self, client: Redis) -> None:
        client.flushall()
        load(client)
        self.client = client
        self.logs = open_directory(client, len(LOGS))
        self.recorder = self.another_recorder()
        self.store = RedisStore(client)
        self.builds = {name: Build(version, 1) for name, version in (("patterns", 2), ("producers", 2))}
        for name, build in self.builds.items():
            change_versions(client, name, lambda versions, build=build: versions.deployed(build.version))

    def another_recorder(self) -> Recorder:
        letters = DeadLetters(self.client, max_count=100, max_bytes=1_000_000, max_age=1_000)
        return Recorder(self.logs, letters, Bounds())

    def record(self, *messages: dict[str, Any], channel: str = PATTERNS) -> list[Receipt]:
        receipts = self.recorder.record([Message(channel, orjson.dumps(each), NOON + 900, "http") for each in messages])
        assert not any(receipt.refusals for receipt in receipts)
        return receipts

    def segments(self, name: str) -> list[Segment]:
        return [Segment(name, self.builds[name], log) for log in LOGS]

    def fold(self, name: str = "patterns", limit: int = 1_000) -> None:
        """Fold at most ``limit`` events of each log."""
        projection = {"patterns": ActivePatterns(), "producers": Producers()}[name]
        for segment, lease in zip(
            self.segments(name), self.store.lease(self.segments(name), "worker", 60), strict=True
        ):
            assert lease is not None
            Projector(projection, self.logs[segment.log], self.store, lease).step(limit, 0, reads_ahead=False)

    def rows(self, name: str = "patterns") -> set[str]:
        """Return the keys of the rows after all events."""
        self.fold(name)
        projection = {"patterns": ActivePatterns(), "producers": Producers()}[name]
        models = [load_segment(self.client, projection, log, self.builds[name]) for log in LOGS]
        return {key for model in models for key in model.rows}

    def expiries(self) -> list[PatternExpired | UndatedExpiry]:
        entries = [entry for log in self.logs.values() for entry in log.read(0, 1_000)]
        events = (decode(entry.topic, entry.event_id, entry.state) for entry in entries)
        return [event for event in events if isinstance(event, PatternExpired | UndatedExpiry)]


def detected(second: float, symbol: str = "AAPL", tier: str = "daily", **fields: Any) -> dict[str, Any]:
    body = {"symbol": symbol, "pattern": "Doji", "confidence": 0.5, "timestamp": NOON + second, "source": tier}
    return {"event_type": "pattern_detected", "event_id": f"e{next(numbers)}", "data": body | fields}


def expired(second: float | None = None, symbol: str = "AAPL", tier: str | None = "daily") -> dict[str, Any]:
    """Build an expiry that does not name the time of the detection. ``second`` is the time of the message."""
    message: dict[str, Any] = {"event_type": "pattern_expired", "event_id": f"e{next(numbers)}", "source": "pl"}
    message["data"] = {"symbol": symbol, "pattern": "Doji", "source": tier}
    return message if second is None else {**message, "timestamp": NOON + second}


def key(second: float, symbol: str = "AAPL", tier: str = "daily") -> str:
    return pattern_id(symbol, "Doji", tier, NOON + second)


def test_an_expiry_ends_the_latest_detection_of_its_symbol_pattern_and_tier(redis: Redis) -> None:
    service = Service(redis)
    other = detected(30, pattern="Hammer")
    service.record(detected(0), detected(10), detected(20, tier="1min"), other, detected(40, symbol="MSFT"))
    service.fold()
    [receipt] = service.record(expired(60))
    assert [event.type for event in receipt.events] == ["PatternExpired"]
    remaining = {key(0), key(20, tier="1min"), key(40, "MSFT"), pattern_id("AAPL", "Hammer", "daily", NOON + 30)}
    assert service.rows() == remaining
    [event] = service.expiries()
    assert isinstance(event, PatternExpired)
    assert (event.detected_at, event.extra) == (NOON + 10, {DETECTION_FROM: "latest"})
    service.record(expired(61))
    assert service.rows() == remaining - {key(0)}


def test_an_expiry_sees_a_detection_of_the_same_batch_and_not_the_one_behind_it(redis: Redis) -> None:
    service = Service(redis)
    service.record(detected(0), expired(), detected(1), detected(2), expired(), expired(), detected(3))
    assert service.rows() == {key(3)}


def test_an_expiry_that_comes_after_a_later_detection_ends_the_earlier_one(redis: Redis) -> None:
    service = Service(redis)
    service.record(detected(0), detected(100))
    service.record(expired(50))
    assert service.rows() == {key(100)}


def test_an_expiry_without_a_tier_ends_the_latest_detection_in_every_tier(redis: Redis) -> None:
    service = Service(redis)
    service.record(detected(0, tier="1min"), detected(5), detected(5, tier="1min"))
    service.record(expired(60, tier=None))
    assert service.rows() == {key(0, tier="1min")}


def test_the_round_trips_of_expiries_do_not_grow_with_the_symbols_that_are_not_folded(redis: Redis) -> None:
    service, round_trips = Service(redis), []
    for symbols in (["AAPL"], [f"S{number}" for number in range(30)]):
        for symbol in symbols:
            service.record(detected(0, symbol), *(detected(5, symbol, "1min") for _ in range(TAIL + 4)))
        before = redis.info("stats")["total_reads_processed"]
        receipts = service.record(*(expired(60, symbol) for symbol in symbols))
        round_trips.append(redis.info("stats")["total_reads_processed"] - before)
        assert {event.type for receipt in receipts for event in receipt.events} == {"PatternExpired"}
        assert not service.rows() & {key(0, symbol) for symbol in symbols}
    # The symbols are in two logs instead of one, and have more events than one read returns.
    assert round_trips[1] <= 3 * round_trips[0]


def test_a_repeated_expiry_ends_no_second_detection(redis: Redis) -> None:
    service = Service(redis)
    service.record(detected(0), detected(10))
    message = expired(60)
    service.record(message)
    service.fold()
    [receipt] = service.record(message)
    assert [event.duplicate for event in receipt.events] == [True]
    assert service.rows() == {key(0)}


def test_a_detection_whose_end_has_passed_is_not_active(redis: Redis) -> None:
    service = Service(redis)
    service.record(detected(0, expires_at=NEVER), detected(10, expires_at=NOON + 20))
    service.fold()
    service.record(expired())
    log = log_of(symbol_stream("AAPL"), len(LOGS))
    service.fold()
    assert expire(redis, service.logs[log], ActivePatterns(), Segment("patterns", service.builds["patterns"], log)) == 1
    assert service.rows() == set()


def test_an_expiry_that_finds_no_detection_is_counted_for_its_producer(redis: Redis) -> None:
    service = Service(redis)
    service.record(detected(100), expired(50), expired(symbol="MSFT"), expired(symbol="MSFT", tier="1min"))
    assert service.rows() == {key(100)}
    assert service.rows("producers") == {"pl"}
    rows = [load_segment(redis, Producers(), log, service.builds["producers"]).rows.get("pl") for log in LOGS]
    assert sum(row["unmatched_expiries"] for row in rows if row) == 3


def test_two_recorders_end_as_many_detections_as_they_record_expiries(redis: Redis) -> None:
    service = Service(redis)
    service.record(*(detected(second) for second in range(40)))
    service.fold()

    def end_ten(recorder: Recorder) -> None:
        for _ in range(10):
            recorder.record([Message(PATTERNS, orjson.dumps(expired()), NOON + 900, "http")])

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(end_ten, [service.another_recorder(), service.another_recorder()]))
    assert service.rows() == {key(second) for second in range(20)}


def test_many_events_that_are_not_folded_yet_are_seen(redis: Redis) -> None:
    service = Service(redis)
    service.record(*(detected(second) for second in range(0, 1_200, 2)))
    service.fold(limit=10)
    service.record(expired(1_201), expired(31))
    assert service.rows() == {key(second) for second in range(0, 1_200, 2)} - {key(1_198), key(30)}


symbols = st.sampled_from(SYMBOLS)
tiers = st.sampled_from(("daily", "1min"))
seconds = st.integers(0, 40)
detections = st.builds(detected, seconds, symbols, tiers)
undated = st.builds(expired, st.none() | seconds, symbols, st.none() | tiers)
dated = st.builds(
    lambda expiry, second: {**expiry, "data": {**expiry["data"], "timestamp": NOON + second}}, undated, seconds
)
batches = st.lists(st.lists(detections | detections | undated | dated, max_size=8), max_size=6)


def expected_rows(messages: Sequence[dict[str, Any]]) -> set[str]:
    """Return the rows that remain if the messages are read one by one."""
    active: set[tuple[str, str, float]] = set()
    for message in messages:
        symbol, tier = message["data"]["symbol"], message["data"]["source"]
        if message["event_type"] == "pattern_detected":
            active.add((symbol, tier, message["data"]["timestamp"]))
            continue
        own = {row for row in active if row[0] == symbol and tier in (None, row[1])}
        ends = message["data"].get("timestamp")
        if ends is None:
            said = message.get("timestamp")
            times = sorted(row[2] for row in own if said is None or row[2] < said + 1)
            ends = said if said in times else (times or [None])[-1]
        active -= {row for row in own if row[2] == ends}
    return {pattern_id(symbol, "Doji", tier, time) for symbol, tier, time in active}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches, st.lists(st.integers(0, 5), max_size=6))
def test_the_rows_equal_the_oracle_whatever_is_folded_already(
    redis: Redis, batches: list[list[dict[str, Any]]], folds: list[int]
) -> None:
    service = Service(redis)
    unique = iter(count())
    sent = [[{**message, "event_id": f"u{next(unique)}"} for message in batch] for batch in batches]
    for number, batch in enumerate(sent):
        service.record(*batch)
        if limit := (folds[number : number + 1] or [0])[0]:
            service.fold(limit=limit)
    assert service.rows() == expected_rows([message for batch in sent for message in batch])
