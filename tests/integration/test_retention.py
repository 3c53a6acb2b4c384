"""Trimming a log: never what somebody needs, and whoever reads history notices nothing of it."""

import os
import time
from collections.abc import Iterator
from itertools import repeat
from threading import Event as Signal
from threading import Thread
from uuid import UUID, uuid4

import pytest
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

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
from projections.patterns import ActivePatterns
from projections.ports import Segment
from projections.registry import READ_MODELS
from projections.versions import Build
from tests.archiving import archive_to_end, archived_log
from tests.events import new_events, opaque_event
from tests.oracles.read_models import expected_patterns
from tests.read_model import assert_same_content, load_segment
from tests.strategies import pattern_events

NOTHING = Retention(age=0, size=0)
"""Keeps nothing that is not needed."""

A_DAY = Retention(age=86_400, size=1_000_000)


def fold(redis: Redis, log: EventLog, build: Build, upto: int | None = None, batch: int = 100) -> None:
    """Fold every read model's build of this log, up to a position at most."""
    for name, projection in READ_MODELS.items():
        store = RedisStore(redis)
        [lease] = store.lease([Segment(name, build, log.name)], "worker", 60)
        assert lease is not None
        projector = Projector(projection, log, store, lease)
        while upto is None or lease.checkpoint < upto:
            size = batch if upto is None else min(batch, upto - lease.checkpoint)
            if not projector.step(size, 0)[1]:
                break


def begin_builds(redis: Redis) -> None:
    for name, projection in READ_MODELS.items():
        change_versions(redis, name, lambda versions, one=projection: versions.deployed(one.version))


def kept(redis: Redis, log: EventLog) -> list[int]:
    """The positions that are in Redis."""
    return [int(identity[:-2]) for identity, _ in redis.xrange(log.keys.log)]


def test_nothing_goes_that_the_archive_or_a_read_model_has_not_passed(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    log.append([opaque_event(f"symbol-{number % 3}")._replace(topic="t:One") for number in range(1_200)])
    archive_to_end(database, log)
    everything = list(range(1, 1_201))

    assert trim_log(log, redis, archived=1_200, retention=NOTHING) == 0  # no read model was ever begun
    begin_builds(redis)
    fold(redis, log, Build(1, 1), upto=700)
    assert trim_log(log, redis, archived=0, retention=NOTHING) == 0
    assert kept(redis, log) == everything
    assert trim_log(log, redis, archived=300, retention=NOTHING) == 300
    assert kept(redis, log) == everything[300:]
    assert trim_log(log, redis, archived=1_200, retention=NOTHING) == 400
    assert kept(redis, log) == everything[700:]

    fold(redis, log, Build(1, 1))
    change_versions(redis, "patterns", lambda versions: versions.replayed(1, held=True, throttle=0))
    assert trim_log(log, redis, archived=1_200, retention=NOTHING) == 0  # the build under way has everything to read
    change_versions(redis, "patterns", lambda versions: versions.switched(Build(1, 2)))
    fold(redis, log, Build(1, 2))
    assert trim_log(log, redis, archived=1_200, retention=NOTHING) == 499
    assert kept(redis, log) == [1_200]  # the last stays, whatever the settings


def test_age_and_size_say_what_else_is_kept(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, name="of-nobody")
    log.append([opaque_event() for _ in range(10)])
    recorded_at = log.read(9, 1)[0].recorded_at
    while log.append([opaque_event()]) and log.read(log.head() - 1, 1)[0].recorded_at == recorded_at:
        pass  # the server's clock counts in milliseconds
    head = log.head()
    assert trim_log(log, redis, archived=head, retention=A_DAY) == 0
    assert trim_log(log, redis, archived=head, retention=Retention(age=86_400, size=head - 3)) == 3
    assert kept(redis, log)[0] == 4
    age = time.time() - log.read(head - 1, 1)[0].recorded_at
    assert trim_log(log, redis, archived=head, retention=Retention(age=age, size=1_000)) >= 7
    assert kept(redis, log)[0] >= 11


on_servers = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
bounds = st.none() | st.integers(-1, 9)


@on_servers
@given(
    streams=st.lists(st.sampled_from("abc"), min_size=1, max_size=20),
    archived=st.integers(0, 20),
    trimmed=st.integers(0, 20),
    stream=st.sampled_from("abcd"),
    gt=bounds,
    lte=bounds,
    desc=st.booleans(),
    limit=st.none() | st.integers(1, 5),
    first_version=st.sampled_from([0, 1]),
)
def test_trimming_changes_nothing_for_readers(
    redis: Redis,
    database: Database,
    streams: list[str],
    archived: int,
    trimmed: int,
    stream: str,
    gt: int | None,
    lte: int | None,
    desc: bool,
    limit: int | None,
    first_version: int,
) -> None:
    redis.flushall()
    with database.connection() as connection:
        connection.execute("TRUNCATE tickview.events, tickview.logs, tickview.segments, tickview.anchors")
    log = archived_log(redis, database, name="of-nobody")
    log.append([opaque_event("a", expected_version=first_version), *map(opaque_event, streams)])
    archive_to_end(database, log, batch_size=7)

    def read() -> list[object]:
        return [
            log.read_stream(stream, gt=gt, lte=lte, desc=desc, limit=limit),
            log.read(gt or 0, limit or 100),
            log.read(gt or 0, limit or 100, upto=lte),
            log.wait(gt or 0, limit or 100, 0),
        ]

    before = read()
    trim_log(log, redis, archived=min(archived, trimmed), retention=NOTHING)
    assert read() == before
    log.append([opaque_event(stream)])
    assert log.read_stream(stream)[-1].position == len(streams) + 2


def test_a_log_without_its_archive_says_what_it_lacks(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, name="of-nobody")
    log.append([opaque_event() for _ in range(10)])
    archive_to_end(database, log)
    trim_log(log, redis, archived=6, retention=NOTHING)
    alone = EventLog(redis, "of-nobody")
    for read in (lambda: alone.read(2, 3), lambda: alone.wait(0, 100, 0), lambda: alone.read(0, 5, upto=5)):
        with pytest.raises(HistoryGapError, match=r"in the archive alone: set TICKVIEW_POSTGRES_DSN"):
            read()
    with pytest.raises(HistoryGapError, match="versions 0 to 6 of stream symbol-AAPL"):
        alone.read_stream("symbol-AAPL")
    assert [entry.position for entry in alone.read(6, 100)] == [7, 8, 9, 10]
    with database.connection() as connection:
        connection.execute("DELETE FROM tickview.events WHERE position = 4")
    with pytest.raises(
        HistoryGapError, match="positions 4 to 4 of log of-nobody are neither in the log nor in the archive"
    ):
        log.read(0, 100)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(pattern_events, min_size=40, max_size=60, unique_by=lambda one: one.event_id))
def test_a_replay_during_trimming_equals_the_oracle(redis: Redis, database: Database, history: list[object]) -> None:
    redis.flushall()
    with database.connection() as connection:
        connection.execute("TRUNCATE tickview.events, tickview.logs, tickview.segments, tickview.anchors")
    begin_builds(redis)
    log = archived_log(redis, database)
    log.append(new_events(history))
    fold(redis, log, Build(1, 1))
    archive_to_end(database, log)
    position = [0]
    done = Signal()

    def trim_step_by_step() -> None:
        while not done.is_set():
            position[0] += 1
            trim_log(log, redis, archived=min(position[0], len(history)), retention=NOTHING)

    trimming = Thread(target=trim_step_by_step)
    trimming.start()
    try:
        store = RedisStore(redis)
        for number in repeat(2):
            build = Build(1, number)
            [lease] = store.lease([Segment("patterns", build, log.name)], "replay", 60)
            assert lease is not None
            projector = Projector(ActivePatterns(), log, store, lease)
            while projector.step(3, 0)[1]:
                pass
            assert lease.checkpoint == len(history)
            assert_same_content(load_segment(redis, ActivePatterns(), log.name, build), expected_patterns(history))
            if kept(redis, log) == [len(history)]:
                break
            redis.delete(*redis.scan_iter(f"tickview:{{patterns/{log.name}}}:{build}:*"))
    finally:
        done.set()
        trimming.join()


class Account(Aggregate):
    """What anybody's application may have."""

    @event("Opened")
    def __init__(self) -> None:
        self.entries: list[int] = []

    @event("Booked")
    def book(self, amount: int) -> None:
        self.entries.append(amount)


class Accounts(Application[UUID]):
    """An application of the ``eventsourcing`` library, on our log."""

    name = "accounts"


@pytest.fixture
def accounts(redis_url: str, database: Database) -> Iterator[Accounts]:
    """The application, with an archive behind its log."""
    environment = {"PERSISTENCE_MODULE": "infra.eventlog", "TICKVIEW_REDIS_URL": redis_url}
    with Accounts({**os.environ, **environment, "TICKVIEW_POSTGRES_DSN": database.dsn}) as application:
        yield application


def test_aggregates_load_after_their_events_have_left_redis(
    accounts: Accounts, redis: Redis, database: Database
) -> None:
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
    trim_log(recorder.log, redis, archived=recorder.log.head(), retention=NOTHING)
    assert len(kept(redis, recorder.log)) == 1
    assert redis.llen(recorder.log.keys.stream(str(opened[3].id))) == 0

    for number, account in enumerate(opened):
        loaded = accounts.repository.get(account.id)
        assert (loaded.entries, loaded.version) == (list(range(number)), number + 1)
    assert accounts.repository.get(opened[9].id, version=4).entries == [0, 1, 2]
    assert recorder.select_notifications(1, 1_000) == notifications
    with pytest.raises(AggregateNotFoundError):
        accounts.repository.get(uuid4())

    changed = accounts.repository.get(opened[9].id)
    changed.book(100)
    accounts.save(changed)
    assert accounts.repository.get(opened[9].id).entries == [*range(9), 100]
    stored_events = list(recorder.select_events(opened[9].id, desc=True, limit=3))
    assert [stored_event.originator_version for stored_event in stored_events] == [11, 10, 9]


def test_a_new_archive_begins_where_the_log_begins_and_only_when_told_to(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    log.append([opaque_event()._replace(topic="t:One") for _ in range(10)])
    archive_to_end(database, log)
    begin_builds(redis)
    fold(redis, log, Build(1, 1))
    trim_log(log, redis, archived=6, retention=NOTHING)
    with database.connection() as connection:  # another PostgreSQL, as far as the log is concerned
        connection.execute("TRUNCATE tickview.events, tickview.logs, tickview.segments, tickview.anchors")
    with pytest.raises(LogDivergedError, match="how to begin a new archive where the former is lost"):
        archive_to_end(database, log)
    with database.connection() as connection:
        assert connection.execute("SELECT count(*) FROM tickview.logs").fetchone() == (0,)

    redis.hdel(log.keys.meta, "archived")
    assert archive_to_end(database, log) == 4
    [found] = verify(database).logs
    assert (found.first, found.last, found.finding) == (7, 10, None)
    assert [entry.position for entry in log.read(6, 10)] == [7, 8, 9, 10]
    with pytest.raises(HistoryGapError, match="positions 1 to 6 of log market-0 are neither"):
        log.read(0, 10)


def test_what_follows_from_the_events_goes_with_them(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, name="of-nobody")
    log.append([opaque_event(f"user-{number % 5}") for number in range(100)])
    archive_to_end(database, log)
    trim_log(log, redis, archived=100, retention=NOTHING)
    assert [redis.llen(log.keys.stream(f"user-{number}")) for number in range(5)] == [0, 0, 0, 0, 1]
    assert log_state(log).first == 100
