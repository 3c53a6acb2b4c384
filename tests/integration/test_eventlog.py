"""The event log on Valkey 9 and Redis 7.0: an oracle, concurrent writers, lost replies and deduplication."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple
from uuid import uuid4

import pytest
from eventsourcing.persistence import StoredEvent, Tracking
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from domain.log import LogEntry
from infra.eventlog import RedisAggregateRecorder, RedisTrackingRecorder
from infra.log.append import Appended, NewEvent
from infra.log.errors import VersionConflictError
from infra.log.event_log import EventLog
from infra.log.handle import LogOptions
from infra.redis.connections import connect
from tests.events import opaque_event
from tests.integration.losing_proxy import LosingProxy
from tests.processes.roles import wait_until

_numbers = count()


@pytest.fixture(scope="module", params=["valkey_url", "redis_7_0_url"])
def client(request: pytest.FixtureRequest) -> Iterator[Redis]:
    with connect(request.getfixturevalue(request.param)) as client:
        yield client


@pytest.fixture
def log(client: Redis) -> EventLog:
    return new_log(client)


def new_log(client: Redis, dedupe_window: int = 86_400) -> EventLog:
    """Return an empty log with a name of its own."""
    return EventLog(client, f"log-{next(_numbers)}-{uuid4()}", LogOptions(dedupe_window=dedupe_window))


@dataclass
class Oracle:
    """A naive event log in memory that defines the expected behaviour."""

    entries: list[LogEntry] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)

    def append(self, events: list[NewEvent]) -> list[Appended]:
        entries, contents = list(self.entries), list(self.contents)
        results = []
        for event in events:
            originals = [entry for entry in entries if event.event_id and entry.event_id == event.event_id]
            if originals:
                content = contents[originals[0].position - 1]
                differs = "" not in (content, event.content) and content != event.content
                results.append(Appended(originals[0].position, originals[0].version, duplicate=True, differs=differs))
                continue
            versions = [entry.version for entry in entries if entry.stream == event.stream]
            allowed = [max(versions) + 1] if versions else [1, 0]
            version = allowed[0] if event.expected_version is None else event.expected_version
            if version not in allowed:
                raise VersionConflictError
            position = len(entries) + 1
            entries.append(
                LogEntry(position, event.stream, version, event.topic, event.event_id, 0.0, event.state, event.origin)
            )
            contents.append(event.content)
            results.append(Appended(position, version, duplicate=False))
        self.entries, self.contents = entries, contents
        return results


streams = st.sampled_from(["a", "b{c}", "ü-3"])
new_events = st.builds(
    NewEvent,
    stream=streams,
    topic=st.sampled_from(["t:One", "t:Two"]),
    state=st.binary(max_size=20),
    event_id=st.sampled_from(["", *"pqrstuvw"]),
    expected_version=st.none() | st.integers(-1, 6),
    origin=st.sampled_from(["", "http"]),
    content=st.sampled_from(["", "0f", "f0"]),
)
version_bounds = st.none() | st.integers(-1, 6)


class StreamRead(NamedTuple):
    """The options of ``read_stream``."""

    gt: int | None
    lte: int | None
    desc: bool
    limit: int | None


stream_reads = st.builds(StreamRead, version_bounds, version_bounds, st.booleans(), limit=st.none() | st.integers(1, 5))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(new_events, max_size=6), max_size=8), streams, stream_reads)
def test_log_equals_the_oracle(client: Redis, batches: list[list[NewEvent]], stream: str, read: StreamRead) -> None:
    log, oracle = new_log(client), Oracle()
    for batch in batches:
        try:
            expected = oracle.append(batch)
        except VersionConflictError:
            with pytest.raises(VersionConflictError):
                log.append(batch)
        else:
            assert log.append(batch) == expected

    entries = log.read(0, 1_000)
    assert comparable(entries) == comparable(oracle.entries)
    assert log.head() == len(oracle.entries)
    times = [entry.recorded_at for entry in entries]
    assert times == sorted(times)

    low, high = -1 if read.gt is None else read.gt, 1_000 if read.lte is None else read.lte
    in_stream = [entry for entry in oracle.entries if entry.stream == stream and low < entry.version <= high]
    expected_entries = sorted(in_stream, key=lambda entry: entry.version, reverse=read.desc)[: read.limit]
    assert comparable(log.read_stream(stream, **read._asdict())) == comparable(expected_entries)


def comparable(entries: list[LogEntry]) -> list[LogEntry]:
    """Remove the values that the server chooses: the time, and the id of an event without an id."""
    return [
        entry._replace(recorded_at=0.0, event_id=entry.event_id if len(entry.event_id) == 1 else "")
        for entry in entries
    ]


def test_a_large_batch_and_a_long_stream_are_read_completely(log: EventLog) -> None:
    batch = [opaque_event(f"symbol-{number % 2_500}") for number in range(6_000)]
    assert [appended.position for appended in log.append(batch)] == list(range(1, 6_001))
    log.append([opaque_event("long") for _ in range(2_300)])

    assert [entry.version for entry in log.read_stream("long")] == list(range(1, 2_301))
    assert [entry.version for entry in log.read_stream("long", desc=True)] == list(range(2_300, 0, -1))
    assert [entry.version for entry in log.read_stream("long", gt=700, limit=1_000)] == list(range(701, 1_701))


def test_reads_are_bounded_by_position_and_limit(log: EventLog) -> None:
    log.append([opaque_event() for _ in range(10)])

    assert [entry.position for entry in log.read(3, 4)] == [4, 5, 6, 7]
    assert [entry.position for entry in log.read(3, 100, upto=5)] == [4, 5]
    assert log.read(3, 100, upto=3) == []
    assert [entry.position for entry in log.read(-5, 1)] == [1]
    assert log.read(10, 100) == []


def test_concurrent_writers_leave_no_gap_in_the_positions(log: EventLog) -> None:
    writers, batches, size = 8, 25, 7

    def write(writer: int) -> list[int]:
        events = [opaque_event(f"symbol-{writer % 3}") for _ in range(size)]
        return [appended.position for _ in range(batches) for appended in log.append(events)]

    with ThreadPoolExecutor(writers) as threads:
        positions_returned = [position for positions in threads.map(write, range(writers)) for position in positions]

    total = writers * batches * size
    assert sorted(positions_returned) == list(range(1, total + 1))
    entries = log.read(0, total + 1)
    assert [entry.position for entry in entries] == list(range(1, total + 1))
    for stream in {entry.stream for entry in entries}:
        versions = [entry.version for entry in entries if entry.stream == stream]
        assert versions == list(range(1, len(versions) + 1))


def test_only_one_concurrent_writer_gets_a_version(log: EventLog) -> None:
    def write(_: int) -> bool:
        try:
            log.append([opaque_event(expected_version=1)])
        except VersionConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(write, range(8))) == 1
    assert log.head() == 1


def test_a_version_conflict_reports_the_version_of_the_stream(log: EventLog) -> None:
    log.append([opaque_event(), opaque_event()])

    with pytest.raises(VersionConflictError, match=r"stream symbol-AAPL .* is at version 2: .* version 7"):
        log.append([opaque_event("other"), opaque_event(expected_version=7)])
    with pytest.raises(VersionConflictError, match=r"stream new .* is empty: .* version 7"):
        log.append([opaque_event("new", expected_version=7)])


def test_the_id_and_the_epoch_of_a_log_never_change(client: Redis, log: EventLog) -> None:
    log.append([opaque_event()])
    first = client.hgetall(f"tickview:{{{log.name}}}:meta")
    log.append([opaque_event(event_id="once"), opaque_event(event_id="once")])
    second = client.hgetall(f"tickview:{{{log.name}}}:meta")

    assert first[b"id"]
    assert first[b"epoch"] == b"1"
    assert (second[b"id"], second[b"epoch"]) == (first[b"id"], b"1")
    assert (second[b"position"], second[b"duplicates"]) == (b"2", b"1")


def test_functions_that_the_server_lost_are_loaded_again(client: Redis, log: EventLog) -> None:
    log.append([opaque_event()])
    client.execute_command("FUNCTION", "FLUSH")

    assert log.append([opaque_event()])[0].position == 2
    client.execute_command("FUNCTION", "FLUSH")
    assert [entry.version for entry in log.read_stream("symbol-AAPL")] == [1, 2]


def test_an_event_id_is_forgotten_after_the_deduplication_window(client: Redis) -> None:
    log = new_log(client, dedupe_window=1)
    event = opaque_event(event_id="once")
    assert log.append([event]) == [Appended(1, 1, duplicate=False)]
    assert log.append([event]) == [Appended(1, 1, duplicate=True)]

    windows = client.keys(f"tickview:{{{log.name}}}:ids:*")
    assert len(windows) == 1
    wait_until(lambda: not client.exists(*windows), "the deduplication window has expired")

    assert log.append([event]) == [Appended(2, 2, duplicate=False)]


@contextmanager
def losing_a_reply(client: Redis, function: bytes) -> Iterator[Redis]:
    """A client that loses its connection once, after the server executed the function and before the reply."""
    address = client.connection_pool.connection_kwargs
    with LosingProxy(address["host"], address["port"], function) as proxy:
        with connect(f"redis://127.0.0.1:{proxy.port}") as through_proxy:
            yield through_proxy
        assert proxy.lost_replies == 1


@pytest.mark.parametrize("fields", [{}, {"expected_version": 1}, {"event_id": "once"}], ids=["plain", "version", "id"])
def test_an_append_with_a_lost_reply_records_its_event_once(client: Redis, fields: dict[str, object]) -> None:
    with losing_a_reply(client, b"tickview_append") as through_proxy:
        log = new_log(through_proxy)
        appended = log.append([opaque_event(**fields)])

    assert [(result.position, result.version) for result in appended] == [(1, 1)]
    assert [entry.position for entry in EventLog(client, log.name).read(0, 10)] == [1]


def test_an_append_with_tracking_and_a_lost_reply_records_both_once(client: Redis) -> None:
    with losing_a_reply(client, b"tickview_append") as through_proxy:
        log = new_log(through_proxy)
        log.append([opaque_event()], tracking=Tracking("upstream", 5))

    assert EventLog(client, log.name).head() == 1
    assert RedisTrackingRecorder(client, log.name).max_tracking_id("upstream") == 5


def test_a_tracking_with_a_lost_reply_counts_once(client: Redis) -> None:
    name = new_log(client).name
    with losing_a_reply(client, b"tickview_track") as through_proxy:
        RedisTrackingRecorder(through_proxy, name).insert_tracking(Tracking("upstream", 5), {"created": 1})

    recorder = RedisTrackingRecorder(client, name)
    assert (recorder.max_tracking_id("upstream"), recorder.count("created")) == (5, 1)


def test_a_snapshot_with_a_lost_reply_is_stored_once(client: Redis) -> None:
    snapshot = StoredEvent("user-1", 3, "topic", b"state\nwith lines")

    def recorder_of(recorder_client: Redis) -> RedisAggregateRecorder:
        return RedisAggregateRecorder(
            recorder_client, name, "snapshots", durability="written", replicas=0, originator_id=str
        )

    name = new_log(client).name
    with losing_a_reply(client, b"tickview_insert_versions") as through_proxy:
        recorder_of(through_proxy).insert_events([snapshot])

    assert recorder_of(client).select_events("user-1") == [snapshot]


@pytest.mark.parametrize("field", ["stream", "topic", "event_id", "origin"])
def test_a_name_with_a_nul_character_is_refused(log: EventLog, field: str) -> None:
    with pytest.raises(ValueError, match="NUL"):
        log.append([opaque_event(), opaque_event()._replace(**{field: "a\0b"})])
    assert log.head() == 0
