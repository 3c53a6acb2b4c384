"""The demo producer as a real process on a real Valkey: what it announces, that it endures, and that it ends."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.client import PubSub

from domain import wire
from domain.events import (
    BacktestCompleted,
    BacktestFailed,
    BacktestProgressed,
    Event,
    HealthReported,
    PatternDetected,
    PatternExpired,
    PatternUpdated,
)
from infra.redis.connections import connect
from tests import servers
from tests.processes import roles

FAST = ("demo", "--speed", "20")

pytestmark = pytest.mark.timeout(120)


@contextmanager
def listening(client: Redis) -> Iterator[PubSub]:
    """A subscription to every channel of the producer, in force."""
    with client.pubsub() as subscription:
        subscription.subscribe(*wire.CHANNELS)
        for _ in wire.CHANNELS:
            confirmation = subscription.get_message(timeout=10)
            assert confirmation is not None
            assert confirmation["type"] == "subscribe"
        yield subscription


def heard_until(subscription: PubSub, condition: Callable[[list[Event]], Any]) -> list[Event]:
    """What was announced until ``condition`` held, read as the recorder reads it."""
    events: list[Event] = []
    deadline = time.monotonic() + roles.DEADLINE_SECONDS
    while not condition(events):
        assert time.monotonic() < deadline, Counter(type(event).__name__ for event in events)
        message = subscription.get_message(timeout=1)
        if message is not None:
            reading = wire.read(message["channel"].decode(), message["data"], time.time())
            assert reading.refusals == (), message
            events += reading.events
    return events


def of_type(events: list[Event], event_type: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, event_type)]


def test_it_announces_everything_that_a_producer_announces(redis: Redis, redis_url: str) -> None:
    wanted = {
        PatternDetected,
        PatternUpdated,
        PatternExpired,
        BacktestProgressed,
        BacktestCompleted,
        BacktestFailed,
        HealthReported,
    }
    started = time.time()
    with listening(redis) as subscription, roles.running(*FAST, redis_url=redis_url):
        events = heard_until(subscription, lambda events: wanted <= {type(event) for event in events})
    assert {event.source for event in events} == {"tickview_demo"}
    assert all(event.extra["demo"] is True for event in events)
    assert len({event.event_id for event in events}) == len(events)

    detections = {(event.symbol, event.pattern, event.detected_at): event for event in of_type(events, PatternDetected)}
    assert len({event.symbol for event in detections.values()}) > 20
    for event in detections.values():
        assert started <= event.detected_at <= time.time() < event.expires_at
    for event in of_type(events, PatternUpdated) + of_type(events, PatternExpired):
        assert (event.symbol, event.pattern, event.detected_at) in detections

    ended = {event.job_id: event for event in of_type(events, BacktestCompleted) + of_type(events, BacktestFailed)}
    for job_id in ended:
        progress = [event.progress for event in of_type(events, BacktestProgressed) if event.job_id == job_id]
        assert progress == sorted(set(progress))
        assert (progress[0], progress[-1]) == (0, 1)
    for report in of_type(events, HealthReported):
        assert report.status == "healthy"
        assert all(value >= 0 for value in report.metrics.values())


def test_it_ends_at_once_when_told_to(redis: Redis, redis_url: str) -> None:
    with listening(redis) as subscription:
        process = roles.start("demo", "--speed", "0.01", redis_url=redis_url)
        heard_until(subscription, lambda events: of_type(events, PatternDetected))
        assert roles.stop(process) == 0


def test_it_goes_on_when_redis_has_come_back(tmp_path: Path) -> None:
    with servers.valkey(tmp_path) as server, roles.running(*FAST, redis_url=server.connection_url) as process:
        with connect(server.connection_url) as client, listening(client) as subscription:
            heard_until(subscription, lambda events: of_type(events, PatternDetected))
        server.stop()
        server.start()
        with connect(server.connection_url) as client, listening(client) as subscription:
            heard_until(
                subscription, lambda events: of_type(events, PatternDetected) and of_type(events, BacktestProgressed)
            )
        assert process.poll() is None


def test_without_redis_it_says_what_to_do(tmp_path: Path) -> None:
    ended = roles.tickview("demo", redis_url="", data=tmp_path)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert b"TICKVIEW_REDIS_URL" in ended.stderr


def test_a_speed_that_makes_no_sense_is_refused(redis_url: str) -> None:
    ended = roles.tickview("demo", "--speed", "0", redis_url=redis_url)
    assert ended.returncode == 2
    assert b"--speed" in ended.stderr
