"""The intake: batches, the limit of the backlog, and an outage of Redis."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest
from redis import Redis
from redis.exceptions import RedisError

from domain.announcements import Message, Receipt
from domain.wire import CHANNELS, HEALTH, KINDS, PATTERNS
from infra.composition import Stores, open_dead_letters, open_market_logs, open_recorder
from infra.recording import pubsub_listener
from infra.recording.intake import BacklogFullError, Intake
from infra.recording.pubsub_listener import PubsubListener
from infra.recording.recorder import Recorder
from infra.redis.connections import connect
from infra.redis.functions import load
from infra.settings import Settings
from tests import servers
from tests.processes.roles import wait_until


def message(number: int) -> Message:
    payload = b'{"event_type": "pattern_detected", "data": {"symbol": "S%d", "pattern": "Doji", "confidence": 0.5}}'
    return Message("tickstock.events.patterns", payload % number, time.time(), "http")


def open_market_recorder(client: Redis, url: str) -> Recorder:
    stores = Stores(Settings(redis_url=url), client, None)
    return open_recorder(stores, open_market_logs(stores), open_dead_letters(stores))


@contextmanager
def running_intake(intake: Intake) -> Iterator[Intake]:
    intake.start()
    try:
        yield intake
    finally:
        intake.close()


def test_messages_are_recorded_in_batches(redis: Redis, redis_url: str) -> None:
    load(redis)
    recorder = open_market_recorder(redis, redis_url)
    sizes: list[int] = []

    def record(messages: list[Message]) -> list[Receipt]:
        sizes.append(len(messages))
        return recorder.record(messages)

    with running_intake(Intake(record, backlog=1_000, batch_size=100, batch_seconds=0.2)) as intake:
        futures = [intake.submit(message(number)) for number in range(250)]
        receipts = [future.result(timeout=10) for future in futures]
        assert intake.submit(message(0)).result(timeout=10).events[0].duplicate
    assert [len(receipt.events) for receipt in receipts] == [1] * 250
    assert max(sizes) == 100
    assert intake.counts["recorded"] == 250
    assert intake.counts["duplicates"] == 1


class BlockedRecorder:
    """A ``record`` function that blocks until the test releases it."""

    def __init__(self) -> None:
        self.entered = Event()
        self.released = Event()

    def record(self, messages: list[Message]) -> list[Receipt]:
        self.entered.set()
        self.released.wait(30)
        return [Receipt((), (), None) for _ in messages]


def fill(intake: Intake) -> None:
    for number in range(10):
        intake.submit(message(number))


def test_a_message_to_a_full_backlog_is_refused_at_once() -> None:
    recorder = BlockedRecorder()
    with running_intake(Intake(recorder.record, backlog=3, batch_size=1, batch_seconds=0)) as intake:
        intake.submit(message(0))
        assert recorder.entered.wait(10)
        with pytest.raises(BacklogFullError, match="wait to be recorded"):
            fill(intake)
        with pytest.raises(BacklogFullError):
            intake.put(message(0), timeout=0.01)
        recorder.released.set()


def test_a_message_on_a_further_channel_is_heard_once(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis delivers a message for each subscription and pattern that matches its channel, and canaries to patterns."""
    monkeypatch.setattr(pubsub_listener, "CANARY_SECONDS", 0.05)
    for name, kind in {"tickstock.*": "patterns", "tickstock.h?alth.*": "health", "own": "results"}.items():
        monkeypatch.setitem(CHANNELS, name, KINDS[kind])
    heard, stop = list[Message](), Event()

    def record(messages: list[Message]) -> list[Receipt]:
        heard.extend(messages)
        return [Receipt((), (), None) for _ in messages]

    with running_intake(Intake(record, backlog=100, batch_size=10, batch_seconds=0)) as intake:
        listener = PubsubListener(redis, redis, intake, "recorder", lambda: None)
        thread = Thread(target=listener.run, args=(stop,))
        thread.start()
        wait_until(lambda: redis.publish("tickstock.daily", b"first"), "the listener has subscribed")
        wait_until(lambda: heard, "the listener hears a pattern")
        for channel in (PATTERNS, HEALTH, "tickstock.health.more", "own", "other.daily", "tickstock.last"):
            redis.publish(channel, channel)
        wait_until(lambda: heard[-1].payload == b"tickstock.last", "the last message is heard")
        stop.set()
        thread.join()
    assert [message.payload.decode() for message in heard if message.payload != b"first"] == [
        *(PATTERNS, HEALTH, "tickstock.health.more", "own", "tickstock.last")
    ]


def test_a_full_backlog_delays_pubsub_messages_then_drops_and_counts_them(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pubsub_listener, "BACKLOG_WAIT_SECONDS", 0.2)
    recorder, stop = BlockedRecorder(), Event()
    with running_intake(Intake(recorder.record, backlog=2, batch_size=1, batch_seconds=0)) as intake:
        listener = Thread(target=PubsubListener(redis, redis, intake, "recorder", lambda: None).run, args=(stop,))
        listener.start()
        wait_until(lambda: redis.publish(PATTERNS, b"{}"), "the listener has subscribed")
        assert recorder.entered.wait(10)
        for _ in range(3):
            redis.publish(PATTERNS, b"{}")
        wait_until(lambda: intake.counts["dropped"], "a message is dropped")
        stop.set()
        listener.join()
        recorder.released.set()
    assert intake.counts["dropped"] == 1


def test_a_close_records_the_backlog(redis: Redis, redis_url: str) -> None:
    load(redis)
    recorder = open_market_recorder(redis, redis_url)
    with running_intake(Intake(recorder.record, backlog=1_000, batch_size=10, batch_seconds=0.01)) as intake:
        for number in range(200):
            intake.put(message(number), timeout=1)
    assert intake.counts["recorded"] == 200


def test_an_outage_of_redis_fails_submitted_messages_and_keeps_pubsub_messages() -> None:
    with servers.valkey() as server, connect(server.connection_url) as client:
        load(client)
        recorder = open_market_recorder(client, server.connection_url)
        with running_intake(Intake(recorder.record, backlog=1_000, batch_size=10, batch_seconds=0.01)) as intake:
            assert intake.submit(message(0)).result(timeout=10).events
            server.stop()
            with pytest.raises(RedisError):
                intake.submit(message(1)).result(timeout=30)
            intake.put(message(2), timeout=1)
            server.start()
            wait_until(lambda: intake.counts["recorded"] >= 2, "the message of the outage is recorded")
            assert intake.submit(message(2)).result(timeout=10).events[0].duplicate


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_by_a_defect_is_noticed() -> None:
    """The recorder calls ``check_thread`` every second, so that the defect ends the process."""

    def record(_: list[Message]) -> list[Receipt]:
        raise ZeroDivisionError

    intake = Intake(record, backlog=1, batch_size=1, batch_seconds=0)
    intake.start()
    intake.check_thread()
    intake.put(message(0), 0)
    intake.close()
    with pytest.raises(RuntimeError, match="The thread of the intake ended before a stop was requested"):
        intake.check_thread()
