"""The appending to several logs at the same time: all are sent before the first reply, and one of them may fail."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import ConnectionPool, Redis
from redis.exceptions import RedisError

from domain.announcements import RecordedEvent
from domain.codec import decode
from domain.events import Event
from domain.streams import log_of
from infra.log.event_log import EventLog
from infra.log.keys import LogKeys
from infra.recording.event_appender import EventAppender
from infra.redis.functions import load
from tests.events import new_events, opaque_event, pattern_detected
from tests.logs import open_directory
from tests.processes.roles import wait_until

PARTITIONS = 12

Append = Callable[[list[Event]], list[RecordedEvent | None]]


def appender(client: Redis) -> Append:
    load(client)
    to_logs = EventAppender(open_directory(client, PARTITIONS))
    return lambda events: to_logs.append(events, new_events(events, "test"))


def detections(count: int) -> list[Event]:
    return [pattern_detected(symbol=f"S{number % 40}", event_id=f"event-{number}") for number in range(count)]


def streams_of(client: Redis) -> dict[str, list[str]]:
    """Return the ids of the events of each stream, in the order of their versions."""
    logs = open_directory(client, PARTITIONS)
    entries = [entry for log in logs.values() for entry in log.read(0, 1_000)]
    streams: dict[str, list[str]] = {}
    for entry in entries:
        streams.setdefault(entry.stream, []).append(decode(entry.topic, entry.event_id, entry.state).event_id)
        assert entry.version == len(streams[entry.stream])
    return streams


def in_order(events: list[Event]) -> dict[str, list[str]]:
    streams: dict[str, list[str]] = {}
    for event in events:
        streams.setdefault(event.stream, []).append(event.event_id)
    return streams


def waiting_calls(client: Redis) -> int:
    return sum(1 for other in client.client_list() if other["cmd"] == "fcall" and "b" in other["flags"])


def test_the_appends_to_the_logs_of_a_batch_are_sent_before_the_first_reply(redis: Redis) -> None:
    append, events = appender(redis), detections(200)
    append(events[:40])
    with ThreadPoolExecutor() as threads:
        redis.client_pause(30_000, all=False)
        try:
            recorded = threads.submit(append, events[40:])
            wait_until(lambda: waiting_calls(redis) == 8, "as many appends wait as may be under way")
        finally:
            redis.client_unpause()
        assert [place and place.event_id for place in recorded.result(30)] == [event.event_id for event in events[40:]]
    assert streams_of(redis) == in_order(events)


def test_a_batch_of_which_one_log_fails_can_be_repeated(redis: Redis) -> None:
    append, events = appender(redis), detections(120)
    for log in open_directory(redis, PARTITIONS).values():
        log.open()
    log_names = list(dict.fromkeys(log_of(event.stream, PARTITIONS) for event in events))
    failing = log_names.index("market-3")
    sent = {*log_names[: failing + 8]} - {"market-3"}
    versions = LogKeys("market-3").versions
    redis.set(versions, "of another program")
    with pytest.raises(RedisError, match="WRONGTYPE"):
        append(events)
    assert {log_of(stream, PARTITIONS) for stream in streams_of(redis)} == sent
    redis.delete(versions)
    assert [place and place.event_id for place in append(events)] == [event.event_id for event in events]
    assert streams_of(redis) == in_order(events)


def test_an_append_that_is_given_up_leaves_no_connection_behind(redis: Redis) -> None:
    load(redis)
    EventLog(redis, "other").append([opaque_event()])
    pool = ConnectionPool(**{**redis.connection_pool.connection_kwargs, "max_connections": 1})
    with Redis(connection_pool=pool) as client:
        log = EventLog(client, "other")
        log.begin_append([opaque_event(event_id="given up")])
        assert client.ping() is True
        wait_until(lambda: log.head() == 2, "the server has run the append")
        [place] = log.append([opaque_event(event_id="given up")])
    assert (place.position, place.duplicate) == (2, True)
