"""The reader of the ingest stream: no entry stops it, whatever its id, its content or its fate."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import orjson
import pytest
from redis import Redis
from redis.exceptions import RedisError

from domain.announcements import Message, Receipt
from domain.default_expiry import EXPIRES_FROM
from domain.horizon import Horizon
from domain.wire import INGEST_STREAM, PATTERNS, Bounds
from infra.composition import Stores, open_dead_letters, open_market_logs, open_recorder
from infra.log.directory import LogDirectory
from infra.log.errors import NotDurableError
from infra.recording import ingest_reader
from infra.recording.dead_letters import DeadLetters
from infra.recording.ingest_reader import ATTEMPTS_KEY, GROUP, MAX_ATTEMPTS, IngestReader
from infra.recording.recorder import ReadMessages, Recorder
from infra.redis.functions import load
from infra.settings import Settings
from tests.processes.roles import wait_until


class Crash(BaseException):
    """The end of a recorder process in the middle of its work."""


class InterruptedRecorder(Recorder):
    """A recorder that calls ``interrupt`` with the messages before it reads them."""

    interrupt: Callable[[Sequence[Message]], None] = staticmethod(lambda _: None)

    def read(self, messages: Sequence[Message]) -> ReadMessages:
        self.interrupt(messages)
        return super().read(messages)


class StopWhen(Event):
    """An event that is set as soon as a condition holds."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        super().__init__()
        self._condition = condition

    def is_set(self) -> bool:
        return self._condition()


class Intake:
    """The ingest stream of one server, with all that receives its messages."""

    def __init__(self, redis: Redis, url: str) -> None:
        load(redis)
        stores = Stores(Settings(redis_url=url), redis, None)
        self.redis = redis
        self.logs: LogDirectory = open_market_logs(stores)
        self.dead_letters: DeadLetters = open_dead_letters(stores)
        self.recorder = InterruptedRecorder(self.logs, self.dead_letters, Bounds())
        redis.xgroup_create(INGEST_STREAM, GROUP, id="0", mkstream=True)

    def add(self, symbol: str, identity: str = "*") -> bytes:
        """Add the announcement of a pattern that names no time. Return its payload."""
        data = {"symbol": symbol, "pattern": "Doji", "confidence": 0.5}
        payload = orjson.dumps({"event_type": "pattern_detected", "data": data})
        self.redis.xadd(INGEST_STREAM, {"channel": PATTERNS, "payload": payload}, id=identity)
        return payload

    def recorded_symbols(self) -> list[str]:
        """Return the symbols of all recorded detections."""
        entries = [entry for log in self.logs.values() for entry in log.read(0, 100)]
        return sorted(orjson.loads(entry.state)["symbol"] for entry in entries)

    def keeps_order(self) -> bool:
        """Return whether each log has the detections in the order of their symbols."""
        symbols = [[orjson.loads(entry.state)["symbol"] for entry in log.read(0, 100)] for log in self.logs.values()]
        return symbols == [sorted(own) for own in symbols]

    def is_empty(self) -> bool:
        """Return whether no entry waits, pending or not."""
        pending = self.redis.xpending(INGEST_STREAM, GROUP)["pending"]
        return not pending and not self.redis.xlen(INGEST_STREAM)

    def reader(self, consumer: str) -> IngestReader:
        return IngestReader(self.redis, self.recorder, consumer, 10)

    @contextmanager
    def reading(self, consumer: str) -> Iterator[IngestReader]:
        """Run a reader in a thread. At the end, the thread must still be alive."""
        reader, stop = self.reader(consumer), Event()
        thread = Thread(target=reader.run, args=(stop,))
        thread.start()
        try:
            yield reader
            assert thread.is_alive()
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def intake(redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Intake:
    monkeypatch.setattr(ingest_reader, "CLAIM_AFTER_SECONDS", 0.02)
    return Intake(redis, redis_url)


@pytest.mark.parametrize("identity", ["5-1", "1795934642196000-0", "9223372036854775807-0", "18446744073709551614-0"])
def test_an_entry_whose_id_is_no_time_is_received_now(intake: Intake, identity: str) -> None:
    before = time.time()
    intake.add("AAPL", identity)
    with intake.reading("reader"):
        wait_until(intake.recorded_symbols, "the entry is recorded")
        wait_until(intake.is_empty, "the entry is acknowledged")
    [entry] = [entry for log in intake.logs.values() for entry in log.read(0, 100)]
    assert before <= orjson.loads(entry.state)["occurred_at"] <= time.time()


def test_consumers_that_ended_are_removed_when_they_have_no_entries(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_reader, "DEAD_AFTER_SECONDS", 1.0)
    monkeypatch.setattr(ingest_reader, "CLAIM_AFTER_SECONDS", 0.2)
    intake.add("AAPL")
    assert len(intake.redis.xreadgroup(GROUP, "dead with an entry", {INGEST_STREAM: ">"})[0][1]) == 1
    intake.redis.xgroup_createconsumer(INGEST_STREAM, GROUP, "dead")

    def consumers() -> set[bytes]:
        return {consumer["name"] for consumer in intake.redis.xinfo_consumers(INGEST_STREAM, GROUP)}

    with intake.reading("reader"):
        wait_until(lambda: consumers() == {b"reader"}, "the dead consumers are removed")
    assert intake.recorded_symbols() == ["AAPL"]


def test_entries_of_a_dead_reader_that_were_trimmed_are_counted(intake: Intake) -> None:
    for symbol in ("AAPL", "MSFT"):
        intake.add(symbol)
    assert len(intake.redis.xreadgroup(GROUP, "dead", {INGEST_STREAM: ">"})[0][1]) == 2
    intake.redis.xtrim(INGEST_STREAM, maxlen=0, approximate=False)
    intake.add("TSLA")
    with intake.reading("reader") as reader:
        wait_until(lambda: reader.counts["trimmed"] == 2, "the trimmed entries are counted")
        wait_until(lambda: intake.recorded_symbols() == ["TSLA"], "the next entry is recorded")
        wait_until(intake.is_empty, "all entries are acknowledged")


def test_own_entries_that_were_trimmed_during_an_outage_are_counted(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_reader, "CLAIM_AFTER_SECONDS", 60)

    def trim_and_fail_once(_: Sequence[Message]) -> None:
        intake.recorder.interrupt = lambda _: None
        intake.redis.xtrim(INGEST_STREAM, maxlen=1, approximate=False)
        raise RedisError("Redis was away for a moment.")

    for symbol in ("AAPL", "MSFT"):
        intake.add(symbol)
    intake.recorder.interrupt = trim_and_fail_once
    with intake.reading("reader") as reader:
        wait_until(lambda: reader.counts["trimmed"] == 1, "the trimmed entry is counted")
        wait_until(intake.is_empty, "all entries are acknowledged")
    assert intake.recorded_symbols() == ["MSFT"]


def test_the_next_entries_are_read_while_the_log_appends_those_before(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is stopped in between records both. The events keep the order of the entries."""
    monkeypatch.setattr(ingest_reader, "CLAIM_AFTER_SECONDS", 60)
    symbols = [f"S{number:02d}" for number in range(20)]
    for symbol in symbols:
        intake.add(symbol)
    pending: list[int] = []
    stop = Event()

    def note_pending(_: Sequence[Message]) -> None:
        pending.append(intake.redis.xpending(INGEST_STREAM, GROUP)["pending"])
        if len(pending) == 2:
            stop.set()

    intake.recorder.interrupt = note_pending
    intake.reader("reader").run(stop)
    assert pending == [10, 20]
    assert intake.is_empty()
    assert intake.recorded_symbols() == symbols
    assert intake.keeps_order()


def test_entries_are_recorded_in_order_after_a_failure_behind_entries_that_were_sent(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_reader, "CLAIM_AFTER_SECONDS", 60)
    monkeypatch.setattr(ingest_reader, "RETRY_SECONDS", 0)
    symbols = [f"S{number:02d}" for number in range(25)]
    for symbol in symbols:
        intake.add(symbol)
    for log in intake.logs.market.values():
        log.open()
    batches = 0

    def fail_second(_: Sequence[Message]) -> None:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise RedisError("Redis was away for a moment.")

    intake.recorder.interrupt = fail_second
    with intake.reading("reader") as reader:
        wait_until(intake.is_empty, "all entries are acknowledged")
    assert intake.recorded_symbols() == symbols
    assert intake.keeps_order()
    assert reader.counts["duplicates"] == 10, "the entries that were sent before the failure are sent again"


def test_an_entry_that_ends_its_readers_becomes_a_dead_letter(intake: Intake) -> None:
    """The other entries of its batch are recorded once. The dead letter has the payload and the reason."""
    intake.add("AAPL")
    fatal = intake.add("FATAL")
    intake.add("MSFT")

    def end_the_process(messages: Sequence[Message]) -> None:
        if any(message.payload == fatal for message in messages):
            raise Crash

    intake.recorder.interrupt = end_the_process
    crashes = 0
    while not intake.is_empty():
        try:
            intake.reader(f"reader {crashes}").run(StopWhen(intake.is_empty))
        except Crash:
            crashes += 1
    assert crashes == MAX_ATTEMPTS + 1
    assert intake.recorded_symbols() == ["AAPL", "MSFT"]
    [listed] = intake.dead_letters.page(None, 10)
    letter = intake.dead_letters.get(listed.id)
    assert letter is not None
    assert (letter.payload, letter.code, letter.via) == (fatal, "reader-failed", "stream")
    assert f"{crashes} recorders took the message and stopped" in letter.reason
    assert not intake.redis.exists(ATTEMPTS_KEY)


def test_no_entry_becomes_a_dead_letter_while_a_log_refuses_events(intake: Intake) -> None:
    """In a cluster, a log can be away for long while the ingest stream is there."""
    intake.add("AAPL")
    attempts = 0

    def fail(_: Sequence[Message]) -> None:
        nonlocal attempts
        attempts += 1
        raise NotDurableError("The events are recorded, but not known to be durable.")

    intake.recorder.interrupt = fail
    with intake.reading("reader"):
        wait_until(lambda: attempts > 3 * MAX_ATTEMPTS, "the entry was tried often")
        intake.recorder.interrupt = lambda _: None
        wait_until(intake.is_empty, "the entry is acknowledged")
    assert intake.recorded_symbols() == ["AAPL"]
    assert intake.dead_letters.page(None, 10) == []
    assert not intake.redis.exists(ATTEMPTS_KEY)


def test_a_refused_time_from_the_future_is_recorded_by_a_retry_with_a_farther_horizon(intake: Intake) -> None:
    data = {"symbol": "AAPL", "pattern": "Doji", "confidence": 0.5, "timestamp": time.time() + 3_600}
    payload = orjson.dumps({"event_type": "pattern_detected", "data": data})
    [receipt] = intake.recorder.record([Message(PATTERNS, payload, time.time(), "http")])
    assert [refusal.code for refusal in receipt.refusals] == ["in-the-future"]
    letter = intake.dead_letters.get(receipt.dead_letter or "")
    assert letter is not None
    assert intake.recorder.retry(letter).refusals != ()
    Recorder(intake.logs, intake.dead_letters, Bounds(horizon=Horizon(seconds=3_601))).retry(letter)
    assert intake.recorded_symbols() == ["AAPL"]
    assert intake.dead_letters.get(letter.id) is None


def test_a_retry_of_a_batch_records_no_item_again_that_was_recorded(intake: Intake) -> None:
    """The ids of the recorded items are forgotten after the dedupe window. An operator may take longer."""

    def item(symbol: str, ahead: float) -> dict[str, Any]:
        return {"symbol": symbol, "pattern": "Doji", "confidence": 0.5, "timestamp": time.time() + ahead}

    items = [item("MSFT", 7_200), item("AAPL", 0), item("NVDA", 3_600), item("AMZN", 0)]
    payload = orjson.dumps({"event_type": "patterns_batch", "data": {"patterns": items}})
    [receipt] = intake.recorder.record([Message(PATTERNS, payload, time.time(), "http")])
    assert len(receipt.events) == len(receipt.refusals) == 2
    for horizon, recorded in ((3_601, ["NVDA"]), (7_201, ["MSFT"])):
        intake.redis.delete(*intake.redis.keys("tickview:*:ids:*"))
        letter = intake.dead_letters.get(receipt.dead_letter or "")
        assert letter is not None
        before = intake.recorded_symbols()
        Recorder(intake.logs, intake.dead_letters, Bounds(horizon=Horizon(seconds=horizon))).retry(letter)
        assert intake.recorded_symbols() == sorted(before + recorded)
    assert intake.dead_letters.get(letter.id) is None


def test_the_settings_say_what_happens_to_times_from_the_future(intake: Intake, redis: Redis, redis_url: str) -> None:
    data = {"symbol": "AAPL", "pattern": "Doji", "confidence": 0.5, "timestamp": time.time() + 3_600}
    message = Message(PATTERNS, orjson.dumps({"event_type": "pattern_detected", "data": data}), time.time(), "http")

    def record(**settings: Any) -> Receipt:
        stores = Stores(Settings(redis_url=redis_url, **settings), redis, None)
        [receipt] = open_recorder(stores, intake.logs, intake.dead_letters).record([message])
        return receipt

    assert [refusal.code for refusal in record().refusals] == ["in-the-future"]
    before = time.time()
    assert record(beyond_horizon="clamp").refusals == ()
    [entry] = [entry for log in intake.logs.values() for entry in log.read(0, 100)]
    state = orjson.loads(entry.state)
    assert before <= state["detected_at"] == state["occurred_at"] <= time.time()
    assert state["extra"]["tickview:claimed"]["detected_at"] == data["timestamp"]
    assert [event.duplicate for event in record(time_horizon=3_601).events] == [True], (
        "the id does not depend on the time"
    )


def test_a_recorder_with_a_default_expiry_records_the_end_of_a_detection(
    intake: Intake, redis: Redis, redis_url: str
) -> None:
    now = time.time()
    data = {"symbol": "AAPL", "pattern": "Doji", "confidence": 0.5, "timestamp": now, "source": "Daily"}
    message = Message(PATTERNS, orjson.dumps({"event_type": "pattern_detected", "data": data}), now, "http")

    def record(default_expiry: str) -> bool:
        stores = Stores(
            Settings.model_validate({"redis_url": redis_url, "default_expiry": default_expiry}), redis, None
        )
        [receipt] = open_recorder(stores, intake.logs, intake.dead_letters).record([message])
        [event] = receipt.events
        return event.duplicate

    assert record("daily=60,3600") is False
    [entry] = [entry for log in intake.logs.values() for entry in log.read(0, 100)]
    state = orjson.loads(entry.state)
    assert (state["expires_at"], state["extra"]) == (now + 60, {EXPIRES_FROM: "default"})
    assert record("") is True, "the id does not depend on the setting"
