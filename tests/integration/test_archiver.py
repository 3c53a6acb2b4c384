"""The archive of a log: all of it, each event once, chained, whoever dies, stalls or works beside."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, LiteralString

import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection
from redis import Redis

from domain.log import LogEntry
from infra.archive import leases
from infra.archive.archiver import COPY_EVENTS, COPY_HEADER, Archiver
from infra.archive.leases import LeaseLostError, PostgresLease
from infra.archive.log_archive import PostgresArchive
from infra.archive.pattern_history.projector import COPY_STATES
from infra.log.errors import ArchiveUnavailableError, LogDivergedError
from infra.log.event_log import EventLog
from infra.postgres.database import Database
from infra.postgres.schema import migrate, migrations
from infra.processes.errors import StartupError
from tests.archiving import acquire_archiver_lease, archive_to_end, archived_log
from tests.events import new_events, opaque_event
from tests.oracles.hash_chain import chain_hashes
from tests.processes.roles import wait_until
from tests.strategies import histories

on_servers = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def database(every_database: Database) -> Database:
    """On each PostgreSQL there is."""
    return every_database


def archived(database: Database, log: str = "market-0") -> list[tuple[Any, ...]]:
    """Every column of every archived event, by position."""
    with database.connection() as connection:
        return connection.execute("SELECT * FROM tickview.events WHERE log = %s ORDER BY position", [log]).fetchall()


class CrashError(Exception):
    """The archiver is gone."""


class CrashingDatabase(Database):
    """The real database, whose client dies just before or just after some of its commits."""

    def __init__(self, dsn: str, crashes: Iterator[str]) -> None:
        super().__init__(dsn)
        self._crashes = crashes

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        crash = next(self._crashes, "none")
        with super().connection() as connection:
            yield connection
            if crash == "before":
                raise CrashError
        if crash == "after":
            raise CrashError


def archive_through(crashing: Database, log: EventLog, size: int) -> None:
    """Archive the log to its end; after each crash another archiver takes over."""
    while True:
        try:
            archive_to_end(crashing, log, size)
        except CrashError:
            continue
        return


@on_servers
@given(
    history=histories,
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    crashes=st.lists(st.sampled_from(["none", "before", "after"]), max_size=30),
)
def test_whatever_the_batches_and_crashes_the_archive_has_the_log(
    redis: Redis, database: Database, history: list[Any], sizes: list[int], crashes: list[str]
) -> None:
    redis.flushall()
    with database.connection() as connection:
        connection.execute("TRUNCATE tickview.events, tickview.logs, tickview.segments, tickview.anchors")
    log = archived_log(redis, database)
    crashing = CrashingDatabase(database.dsn, iter(crashes))
    appended = iter(history)
    for size in [*sizes, len(history)]:
        log.append(new_events(islice(appended, size), origin="http"))
        archive_through(crashing, log, size)
    crashing.close()
    entries = log.read(0, 1_000)
    assert len(entries) == len(history)
    rows = archived(database)
    assert [row[1] for row in rows] == list(range(1, len(history) + 1))
    assert PostgresArchive(database, redis, restore_limit=1, partitions=4).read("market-0", 0, 1_000, 1_000) == entries
    assert [row[-1] for row in rows] == chain_hashes(rows)
    for row, event in zip(rows, history, strict=True):
        assert (row[6], row[7], row[8], row[9]) == (event.event_id, event.source, event.correlation_id, "http")


def test_a_state_that_is_not_json_is_archived_as_it_is(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    states = [b"", b"\x00\xff\xfe", b"{not json", b"[1]", orjson.dumps({"source": 7, "correlation_id": None})]
    states.append(orjson.dumps({"source": "a\0b", "correlation_id": "\0"}))
    log.append([opaque_event(f"symbol-{number}")._replace(state=state) for number, state in enumerate(states)])
    archive_to_end(database, log)
    rows = archived(database)
    assert [row[-2] for row in rows] == states
    assert {(row[7], row[8]) for row in rows} == {(None, None)}
    assert [row[-1] for row in rows] == chain_hashes(rows)


def test_a_stalled_archiver_that_wakes_up_is_refused(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    log.append([opaque_event() for _ in range(10)])
    stalled = Archiver(database, log, acquire_archiver_lease(database, log.name, "stalled", seconds=0), 100)
    read_before = log.read(0, 5)
    acquire_archiver_lease(database, log.name, "other", seconds=0)
    with pytest.raises(LeaseLostError):  # nothing has been archived meanwhile, and yet it is no longer its turn
        stalled.archive(read_before)
    archive_to_end(database, log)
    with pytest.raises(LeaseLostError):
        stalled.archive(read_before)
    log.append([opaque_event()])
    with pytest.raises(LeaseLostError):
        stalled.step(0)
    assert [row[1] for row in archived(database)] == list(range(1, 11))
    archive_to_end(database, log)
    assert [row[1] for row in archived(database)] == list(range(1, 12))


def test_a_lease_is_kept_by_its_owner_and_given_to_nobody_else(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    log.append([opaque_event()])
    lease = acquire_archiver_lease(database, log.name, "first")
    assert acquire_archiver_lease(database, log.name, "first").epoch == lease.epoch
    with pytest.raises(AssertionError):
        acquire_archiver_lease(database, log.name, "second")


def entry(position: int, moment: datetime) -> LogEntry:
    return LogEntry(position, "symbol-A", position, "t:One", f"id-{position}", moment.timestamp(), b"{}")


def test_who_stalls_in_a_transaction_holds_up_nobody(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "STALLED_SECONDS", 1)

    def stall() -> None:
        with database.connection() as stalled:
            assert leases.acquire_lease(stalled, "archive", 1, "market-0", "stalled", 0)
            # Waits for the row until the server has ended the other's transaction.
            with database.connection() as connection:
                assert leases.acquire_lease(connection, "archive", 1, "market-0", "other", 5)
            stalled.execute("SELECT 1")

    with pytest.raises(ArchiveUnavailableError, match="idle-in-transaction"):
        stall()
    with database.connection() as connection:
        assert leases.acquire_lease(connection, "archive", 1, "market-0", "stalled", 5) is None


@pytest.mark.parametrize(
    "does",
    [
        lambda connection, _: leases.acquire_lease(connection, "archive", 1, "market-0", "stalled", 5),
        lambda connection, lease: leases.release_lease(connection, lease),
        lambda connection, _: leases.record_error(connection, "archive", 1, "market-0", "wrong"),
    ],
    ids=["finds it leased", "releases", "notes"],
)
def test_who_stalls_behind_whatever_it_does_to_a_segment_holds_up_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch, does: Callable[[Connection, PostgresLease], object]
) -> None:
    monkeypatch.setattr(leases, "STALLED_SECONDS", 1)
    lease = acquire_archiver_lease(database, "market-0", "owner")

    def stall() -> None:
        with database.connection() as stalled:
            does(stalled, lease)
            # Waits for the row until the server has ended the other's transaction.
            with database.connection() as connection:
                leases.advance_checkpoint(connection, lease, 1, 0.0)
            stalled.execute("SELECT 1")

    with pytest.raises(ArchiveUnavailableError, match="idle-in-transaction"):
        stall()


@pytest.mark.parametrize("statement", [COPY_EVENTS, COPY_STATES])
def test_who_stalls_in_a_copy_holds_up_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch, statement: LiteralString
) -> None:
    monkeypatch.setattr(leases, "COPY_SECONDS", 1)
    monkeypatch.setattr(leases, "LOCK_SECONDS", 1)
    lease = acquire_archiver_lease(database, "market-0", "stalled", 0)

    def taken() -> leases.PostgresLease | None:
        with database.connection() as connection:
            return leases.acquire_lease(connection, "archive", 1, "market-0", "other", 60)

    def stall() -> None:
        with database.connection() as stalled:
            leases.advance_checkpoint(stalled, lease, 1, 0.0)
            with stalled.cursor().copy(statement) as copy:
                copy.write(COPY_HEADER)
                wait_until(taken, "the server has ended the COPY, and the segment is another's")

    with pytest.raises(ArchiveUnavailableError, match="terminating connection"):
        stall()
    assert acquire_archiver_lease(database, "market-0", "other").checkpoint == 0


def test_each_month_has_a_partition_which_can_be_detached(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    log.open()
    archiver = Archiver(database, log, acquire_archiver_lease(database, log.name), 100)
    months = [datetime(2025, 11, 30, 23, 59, 59, 999_000, UTC), datetime(2025, 12, 1, tzinfo=UTC)]
    months += [datetime(2026, 2, 28, tzinfo=UTC)]
    archiver.archive([entry(position, moment) for position, moment in enumerate(months, 1)])
    archiver.archive([entry(4, datetime(2026, 3, 1, tzinfo=UTC))])
    rows = archived(database)
    with database.connection() as connection:
        tables = connection.execute(
            "SELECT DISTINCT tableoid::regclass::text FROM tickview.events ORDER BY 1"
        ).fetchall()
        anchors = connection.execute("SELECT position, hash FROM tickview.anchors ORDER BY position").fetchall()
    assert [name for (name,) in tables] == [
        f"tickview.events_{month}" for month in ("2025_11", "2025_12", "2026_02", "2026_03")
    ]
    assert anchors == [(0, bytes(32)), *((row[1], row[-1]) for row in rows[:3])]
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE tickview.events DETACH PARTITION tickview.events_2025_11 CONCURRENTLY")
    assert [row[1] for row in archived(database)] == [2, 3, 4]


def test_another_log_of_the_same_name_is_refused(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    log.append([opaque_event()])
    archive_to_end(database, log)
    redis.flushall()
    stranger = EventLog(redis, "market-0")
    stranger.append([opaque_event()])
    with pytest.raises(LogDivergedError, match="is this the right Redis"):
        Archiver(database, stranger, acquire_archiver_lease(database, "market-0"), 10)


def test_the_schema_is_made_once_however_many_come(database_url: str) -> None:
    with psycopg.connect(database_url) as first, psycopg.connect(database_url) as second:
        assert [migration.number for migration in migrate(first)] == [migration.number for migration in migrations()]
        first.commit()
        assert migrate(second) == []


def test_a_newer_schema_and_an_unreachable_server_are_one_line(database: Database) -> None:
    with database.connection() as connection:
        connection.execute("INSERT INTO tickview.migrations (number, name) VALUES (9999, 'of the future')")
    with pytest.raises(StartupError, match="migration 9999"):
        Database(database.dsn).check()
    with pytest.raises(StartupError, match=r"PostgreSQL does not serve TickView.*TICKVIEW_POSTGRES_DSN") as refused:
        Database("postgresql://127.0.0.1:1/nothing").check()
    assert "\n" not in str(refused.value)
    with pytest.raises(StartupError, match='TICKVIEW_POSTGRES_DSN: invalid URI query parameter: "nonsense"'):
        Database("postgresql://127.0.0.1/x?nonsense=1")


def test_a_server_that_lets_us_read_alone_serves_readers_and_no_archiver(database: Database) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        [[name]] = connection.execute("SELECT current_database()")
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    reader = Database(database.dsn)
    reader.check()
    with pytest.raises(StartupError, match="perhaps because it is a standby"):
        reader.check(writable=True)


def test_a_role_that_may_make_no_schema_is_told_so(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
        try:
            with pytest.raises(StartupError, match="permission denied for database"):
                Database(database_url.replace("postgres@", "guest@")).check()
        finally:
            connection.execute("DROP ROLE guest")
