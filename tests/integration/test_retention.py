"""Trimming of a log on real servers: needed events stay, and readers of the history see no difference."""

import os
import time
from collections.abc import Iterator
from itertools import count
from threading import Event as Signal
from threading import Thread
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from domain.log import LogEntry
from infra.archive.retention import Retention, trim_log
from infra.archive.verification.verify import verify
from infra.eventlog import RedisApplicationRecorder
from infra.log.errors import HistoryGapError, LogDivergedError
from infra.log.event_log import EventLog
from infra.log.maintenance import log_state
from infra.postgres.database import Database
from infra.projecting.projector import Projector
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions
from infra.redis.connections import connect
from projections.patterns import ActivePatterns
from projections.ports import Segment
from projections.versions import Build
from tests.archiving import archive_to_end, archived_log
from tests.events import new_events, opaque_event
from tests.integration.build_support import begin_first_builds, fold_builds
from tests.oracles.read_models import expected_patterns
from tests.read_model import assert_same_content, load_segment
from tests.row_history import clear_archive
from tests.strategies import pattern_events

KEEP_NOTHING = Retention(age=0, size=0)
"""Retention that trims every event that the archive and all read models have passed."""

KEEP_A_DAY = Retention(age=86_400, size=1_000_000)


def positions_in_redis(redis: Redis, log: EventLog) -> list[int]:
    """Return the positions of the events that the log in Redis still has."""
    return [int(identity[:-2]) for identity, _ in redis.xrange(log.keys.log)]


def test_trimming_keeps_events_that_are_not_archived_or_not_folded(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    log.append([opaque_event(f"symbol-{number % 3}")._replace(topic="t:One") for number in range(1_200)])
    archive_to_end(database, log)
    everything = list(range(1, 1_201))

    assert trim_log(log, redis, archived=1_200, retention=KEEP_NOTHING) == 0  # no read model has a build
    begin_first_builds(redis)
    fold_builds(redis, log, 1, upto=700)
    assert trim_log(log, redis, archived=0, retention=KEEP_NOTHING) == 0
    assert positions_in_redis(redis, log) == everything
    assert trim_log(log, redis, archived=300, retention=KEEP_NOTHING) == 300
    assert positions_in_redis(redis, log) == everything[300:]
    assert trim_log(log, redis, archived=1_200, retention=KEEP_NOTHING) == 400
    assert positions_in_redis(redis, log) == everything[700:]

    fold_builds(redis, log, 1)
    change_versions(
        redis, "patterns", lambda versions: versions.replayed(ActivePatterns.version, held=True, throttle=0)
    )
    assert trim_log(log, redis, archived=1_200, retention=KEEP_NOTHING) == 0  # the build under way has folded no event
    change_versions(redis, "patterns", lambda versions: versions.switched(Build(ActivePatterns.version, 2)))
    fold_builds(redis, log, 2)
    assert trim_log(log, redis, archived=1_200, retention=KEEP_NOTHING) == 499
    assert positions_in_redis(redis, log) == [1_200]  # the last event stays under all settings


def test_trimming_keeps_events_within_the_configured_age_or_size(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, name="of-nobody")
    log.append([opaque_event() for _ in range(10)])
    recorded_at = log.read(9, 1)[0].recorded_at
    while log.append([opaque_event()]) and log.read(log.head() - 1, 1)[0].recorded_at == recorded_at:
        pass  # recording times are whole milliseconds
    head = log.head()
    assert trim_log(log, redis, archived=head, retention=KEEP_A_DAY) == 0
    assert trim_log(log, redis, archived=head, retention=Retention(age=86_400, size=head - 3)) == 3
    assert positions_in_redis(redis, log)[0] == 4
    age = time.time() - log.read(head - 1, 1)[0].recorded_at
    assert trim_log(log, redis, archived=head, retention=Retention(age=age, size=1_000)) >= 7
    assert positions_in_redis(redis, log)[0] >= 11


on_servers = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
bounds = st.none() | st.integers(-1, 9)


class TrimmedRead(NamedTuple):
    """The streams of the events of a log, how many events are archived and trimmed, and a read of the log."""

    streams: list[str]
    first_version: int
    """Version of the first event of stream ``a``."""
    archived: int
    trimmed: int
    stream: str
    gt: int | None
    lte: int | None
    desc: bool
    limit: int | None


@on_servers
@given(
    st.builds(
        TrimmedRead,
        streams=st.lists(st.sampled_from("abc"), min_size=1, max_size=20),
        first_version=st.sampled_from([0, 1]),
        archived=st.integers(0, 20),
        trimmed=st.integers(0, 20),
        stream=st.sampled_from("abcd"),
        gt=bounds,
        lte=bounds,
        desc=st.booleans(),
        limit=st.none() | st.integers(1, 5),
    )
)
def test_readers_get_the_same_events_before_and_after_trimming(
    redis: Redis, database: Database, case: TrimmedRead
) -> None:
    stream, gt, lte, limit = case.stream, case.gt, case.lte, case.limit
    redis.flushall()
    clear_archive(database)
    log = archived_log(redis, database, name="of-nobody")
    log.append([opaque_event("a", expected_version=case.first_version), *map(opaque_event, case.streams)])
    archive_to_end(database, log, batch_size=7)

    def read() -> list[object]:
        return [
            log.read_stream(stream, gt=gt, lte=lte, desc=case.desc, limit=limit),
            log.read(gt or 0, limit or 100),
            log.read(gt or 0, limit or 100, upto=lte),
            log.wait(gt or 0, limit or 100, 0),
            read_in_two_steps(log, gt or 0, limit or 100),
        ]

    before = read()
    trim_log(log, redis, archived=min(case.archived, case.trimmed), retention=KEEP_NOTHING)
    assert read() == before
    log.append([opaque_event(stream)])
    assert log.read_stream(stream)[-1].position == len(case.streams) + 2


def read_in_two_steps(log: EventLog, after: int, limit: int) -> list[LogEntry]:
    """Read a batch as the projector does: request it, receive it, and decode it later."""
    read = log.begin_read(after, limit)
    read.wait()
    return read.result()


def test_events_that_are_appended_during_a_read_of_the_head_are_not_missing(redis: Redis, redis_url: str) -> None:
    log = EventLog(redis, "market-0")
    log.append([opaque_event()])
    ended = Signal()

    def append() -> None:
        with connect(redis_url) as client:
            busy_log = EventLog(client, "market-0")
            while not ended.is_set():
                busy_log.append([opaque_event()])

    thread = Thread(target=append)
    thread.start()
    try:
        position = 0
        while position < 2_000:
            entries = log.read(position, 1_000, upto=1_000_000)
            assert [entry.position for entry in entries] == list(range(position + 1, position + len(entries) + 1))
            position += len(entries)
    finally:
        ended.set()
        thread.join()


def test_a_log_without_its_archive_names_the_missing_events(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, name="of-nobody")
    log.append([opaque_event() for _ in range(10)])
    archive_to_end(database, log)
    trim_log(log, redis, archived=6, retention=KEEP_NOTHING)
    without_archive = EventLog(redis, "of-nobody")
    for read in (
        lambda: without_archive.read(2, 3),
        lambda: without_archive.wait(0, 100, 0),
        lambda: read_in_two_steps(without_archive, 0, 100),
        lambda: without_archive.read(0, 5, upto=5),
    ):
        with pytest.raises(HistoryGapError, match=r"in the archive alone: set TICKVIEW_POSTGRES_DSN"):
            read()
    with pytest.raises(HistoryGapError, match="versions 0 to 6 of stream symbol-AAPL"):
        without_archive.read_stream("symbol-AAPL")
    assert [entry.position for entry in without_archive.read(6, 100)] == [7, 8, 9, 10]
    with database.connection() as connection:
        connection.execute("DELETE FROM tickview.events WHERE position = 4")
    with pytest.raises(
        HistoryGapError, match="positions 4 to 4 of log of-nobody are neither in the log nor in the archive"
    ):
        log.read(0, 100)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(pattern_events, min_size=40, max_size=60, unique_by=lambda event: event.event_id))
def test_a_replay_during_trimming_equals_the_oracle(redis: Redis, database: Database, history: list[object]) -> None:
    redis.flushall()
    clear_archive(database)
    begin_first_builds(redis)
    log = archived_log(redis, database)
    log.append(new_events(history))
    fold_builds(redis, log, 1)
    archive_to_end(database, log)
    done = Signal()

    def trim_step_by_step() -> None:
        for position in count(1):
            if done.is_set():
                return
            trim_log(log, redis, archived=min(position, len(history)), retention=KEEP_NOTHING)

    trimming = Thread(target=trim_step_by_step)
    trimming.start()
    try:
        store = RedisStore(redis)
        build = Build(ActivePatterns.version, 2)
        while True:
            [lease] = store.lease([Segment("patterns", build, log.name)], "replay", 60)
            assert lease is not None
            projector = Projector(ActivePatterns(), log, store, lease)
            while projector.step(3, 0)[1]:
                pass
            assert lease.checkpoint == len(history)
            assert_same_content(load_segment(redis, ActivePatterns(), log.name, build), expected_patterns(history))
            if positions_in_redis(redis, log) == [len(history)]:
                break
            redis.delete(*redis.scan_iter(f"tickview:{{patterns/{log.name}}}:{build}:*"))
    finally:
        done.set()
        trimming.join()


class Account(Aggregate):
    """An aggregate of an application that uses TickView's event log."""

    @event("Opened")
    def __init__(self) -> None:
        self.entries: list[int] = []

    @event("Booked")
    def book(self, amount: int) -> None:
        self.entries.append(amount)


class Accounts(Application[UUID]):
    """An application of the ``eventsourcing`` library on TickView's event log."""

    name = "accounts"


@pytest.fixture
def accounts(redis_url: str, database: Database) -> Iterator[Accounts]:
    """Application whose log has an archive."""
    environment = {"PERSISTENCE_MODULE": "infra.eventlog", "TICKVIEW_REDIS_URL": redis_url}
    with Accounts({**os.environ, **environment, "TICKVIEW_POSTGRES_DSN": database.dsn}) as application:
        yield application


def test_aggregates_load_after_their_events_were_trimmed(accounts: Accounts, redis: Redis, database: Database) -> None:
    opened = []
    for number in range(20):
        account = Account()
        for amount in range(number):
            account.book(amount)
        accounts.save(account)
        opened.append(account)
    recorder = accounts.recorder
    assert isinstance(recorder, RedisApplicationRecorder)
    notifications = recorder.select_notifications(1, 1_000)
    archive_to_end(database, recorder.log)
    trim_log(recorder.log, redis, archived=recorder.log.head(), retention=KEEP_NOTHING)
    assert len(positions_in_redis(redis, recorder.log)) == 1
    assert redis.llen(recorder.log.keys.stream(str(opened[3].id))) == 0

    for number, account in enumerate(opened):
        loaded = accounts.repository.get(account.id)
        assert (loaded.entries, loaded.version) == (list(range(number)), number + 1)
    assert accounts.repository.get(opened[9].id, version=4).entries == [0, 1, 2]
    assert recorder.select_notifications(1, 1_000) == notifications
    with pytest.raises(AggregateNotFoundError):
        accounts.repository.get(uuid4())

    reloaded = accounts.repository.get(opened[9].id)
    reloaded.book(100)
    accounts.save(reloaded)
    assert accounts.repository.get(opened[9].id).entries == [*range(9), 100]
    stored_events = list(recorder.select_events(opened[9].id, desc=True, limit=3))
    assert [stored_event.originator_version for stored_event in stored_events] == [11, 10, 9]


def test_a_new_archive_begins_at_the_first_event_of_the_log_and_only_on_demand(
    redis: Redis, database: Database
) -> None:
    log = archived_log(redis, database)
    log.append([opaque_event()._replace(topic="t:One") for _ in range(10)])
    archive_to_end(database, log)
    begin_first_builds(redis)
    fold_builds(redis, log, 1)
    trim_log(log, redis, archived=6, retention=KEEP_NOTHING)
    with database.connection() as connection:  # as if the log got another PostgreSQL
        connection.execute("TRUNCATE tickview.events, tickview.logs, tickview.segments, tickview.anchors")
    with pytest.raises(LogDivergedError, match="how to begin a new archive where the former is lost"):
        archive_to_end(database, log)
    with database.connection() as connection:
        assert connection.execute("SELECT count(*) FROM tickview.logs").fetchone() == (0,)

    redis.hdel(log.keys.meta, "archived")
    assert archive_to_end(database, log) == 4
    [result] = verify(database).logs
    assert (result.first, result.last, result.finding) == (7, 10, None)
    assert [entry.position for entry in log.read(6, 10)] == [7, 8, 9, 10]
    with pytest.raises(HistoryGapError, match="positions 1 to 6 of log market-0 are neither"):
        log.read(0, 10)


def test_trimming_removes_the_stream_entries_of_trimmed_events(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, name="of-nobody")
    log.append([opaque_event(f"user-{number % 5}") for number in range(100)])
    archive_to_end(database, log)
    trim_log(log, redis, archived=100, retention=KEEP_NOTHING)
    assert [redis.llen(log.keys.stream(f"user-{number}")) for number in range(5)] == [0, 0, 0, 0, 1]
    assert log_state(log).first == 100
