"""The demo producer as a real process on Valkey: its announcements, its reconnection, its end, and its refusals."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
from tests.processes.roles import DEADLINE_SECONDS, running_role, start, stop, tickview

FAST = ("demo", "--speed", "20")

pytestmark = pytest.mark.timeout(120)


@contextmanager
def subscribed(client: Redis) -> Iterator[PubSub]:
    """Subscribe to every channel of the producer, and yield the confirmed subscription."""
    with client.pubsub() as subscription:
        subscription.subscribe(*wire.CHANNELS)
        for _ in wire.CHANNELS:
            confirmation = subscription.get_message(timeout=10)
            assert confirmation is not None
            assert confirmation["type"] == "subscribe"
        yield subscription


def receive_until(subscription: PubSub, condition: Callable[[list[Event]], Any]) -> list[Event]:
    """Receive messages until their events meet ``condition``. Return the events."""
    events: list[Event] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
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


def test_demo_announces_every_type_of_event(redis: Redis, redis_url: str) -> None:
    expected_types = {
        PatternDetected,
        PatternUpdated,
        PatternExpired,
        BacktestProgressed,
        BacktestCompleted,
        BacktestFailed,
        HealthReported,
    }
    started = time.time()
    with subscribed(redis) as subscription, running_role(*FAST, redis_url=redis_url):
        events = receive_until(subscription, lambda events: expected_types <= {type(event) for event in events})
    assert {event.source for event in events} == {"tickview_demo"}
    assert all(event.extra["demo"] is True for event in events)
    assert len({event.event_id for event in events}) == len(events)

    detections = {(event.symbol, event.pattern, event.detected_at): event for event in of_type(events, PatternDetected)}
    assert len({event.symbol for event in detections.values()}) > 20
    for event in detections.values():
        assert started <= event.detected_at <= time.time() < event.expires_at
    for event in of_type(events, PatternUpdated) + of_type(events, PatternExpired):
        assert (event.symbol, event.pattern, event.detected_at) in detections

    ends = of_type(events, BacktestCompleted) + of_type(events, BacktestFailed)
    for job_id in {event.job_id for event in ends}:
        progress = [event.progress for event in of_type(events, BacktestProgressed) if event.job_id == job_id]
        assert progress == sorted(set(progress))
        assert (progress[0], progress[-1]) == (0, 1)
    for report in of_type(events, HealthReported):
        assert report.status == "healthy"
        assert all(value >= 0 for value in report.metrics.values())


def test_demo_ends_soon_after_sigterm(redis: Redis, redis_url: str) -> None:
    with subscribed(redis) as subscription:
        # At this speed, the producer sleeps for seconds between two announcements.
        process = start("demo", "--speed", "0.01", redis_url=redis_url)
        receive_until(subscription, bool)
        assert stop(process) == 0


def test_demo_continues_after_a_restart_of_redis(tmp_path: Path) -> None:
    with servers.valkey(tmp_path) as server, running_role(*FAST, redis_url=server.connection_url) as process:
        with connect(server.connection_url) as client, subscribed(client) as subscription:
            receive_until(subscription, lambda events: of_type(events, PatternDetected))
        server.stop()
        server.start()
        with connect(server.connection_url) as client, subscribed(client) as subscription:
            receive_until(
                subscription, lambda events: of_type(events, PatternDetected) and of_type(events, BacktestProgressed)
            )
        assert process.poll() is None


def test_demo_without_redis_names_the_setting(tmp_path: Path) -> None:
    completed = tickview("demo", redis_url="", data=tmp_path)
    assert completed.returncode == 1
    assert len(completed.stderr.splitlines()) == 1
    assert b"TICKVIEW_REDIS_URL" in completed.stderr


@pytest.mark.parametrize("command", [("demo",), ("up", "--demo")], ids=" ".join)
@pytest.mark.parametrize("speed", ["0", "100.1"])
def test_a_speed_beyond_the_bounds_is_refused_before_anything_starts(
    redis_url: str, tmp_path: Path, command: Sequence[str], speed: str
) -> None:
    completed = tickview(*command, "--speed", speed, redis_url=redis_url, data=tmp_path / "data")
    assert completed.returncode == 2
    assert b"--speed" in completed.stderr
    assert not (tmp_path / "data").exists()
