"""The archiver on real servers: every event is archived once, in order and chained, whatever crashes or stalls."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Any, LiteralString

import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection
from psycopg.sql import Composed
from redis import Redis

from domain.log import LogEntry
from infra.archive import leases
from infra.archive.archiver import COPY_EVENTS, COPY_HEADER, Archiver
from infra.archive.leases import LeaseLostError, PostgresLease
from infra.archive.log_archive import PostgresArchive
from infra.log.errors import ArchiveUnavailableError, LogDivergedError
from infra.log.event_log import EventLog
from infra.log.maintenance import trim
from infra.postgres.database import Database
from tests.archiving import acquire_archiver_lease, archive_to_end, archived_log
from tests.events import new_events, opaque_event
from tests.integration.archive_support import CrashingDatabase
from tests.integration.crashes import CrashError
from tests.oracles.hash_chain import chain_hashes
from tests.processes.roles import wait_until
from tests.row_history import PATTERNS, clear_archive
from tests.strategies import histories

on_servers = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def database(every_database: Database) -> Database:
    """Empty archive, once on each version of PostgreSQL."""
    return every_database


def archived_rows(database: Database, log: str = "market-0") -> list[tuple[Any, ...]]:
    """Return all columns of every archived event, by position."""
    with database.connection() as connection:
        return connection.execute("SELECT * FROM tickview.events WHERE log = %s ORDER BY position", [log]).fetchall()


def archive_through_crashes(database: CrashingDatabase, log: EventLog, size: int) -> None:
    """Archive the log to its end. After each crash another archiver takes over."""
    while True:
        try:
            archive_to_end(database, log, size)
        except CrashError:
            continue
        return


@on_servers
@given(
    history=histories,
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    crashes=st.lists(st.sampled_from(["none", "before", "after"]), max_size=30),
)
def test_the_archive_equals_the_log_despite_crashes_between_batches(
    redis: Redis, database: Database, history: list[Any], sizes: list[int], crashes: list[str]
) -> None:
    redis.flushall()
    clear_archive(database)
    log = archived_log(redis, database)
    crashing_database = CrashingDatabase(database.dsn, iter(crashes))
    appended = iter(history)
    for size in [*sizes, len(history)]:
        log.append(new_events(islice(appended, size), origin="http"))
        archive_through_crashes(crashing_database, log, size)
    crashing_database.close()
    entries = log.read(0, 1_000)
    assert len(entries) == len(history)
    rows = archived_rows(database)
    assert [row[1] for row in rows] == list(range(1, len(history) + 1))
    assert PostgresArchive(database, redis, restore_limit=1, partitions=4).read("market-0", 0, 1_000, 1_000) == entries
    assert [row[-1] for row in rows] == chain_hashes(rows)
    for row, event in zip(rows, history, strict=True):
        assert (row[6], row[7], row[8], row[9]) == (event.event_id, event.source, event.correlation_id, "http")


def test_a_state_that_is_not_json_is_archived_unchanged(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    states = [b"", b"\x00\xff\xfe", b"{not json", b"[1]", orjson.dumps({"source": 7, "correlation_id": None})]
    states.append(orjson.dumps({"source": "a\0b", "correlation_id": "\0"}))
    log.append([opaque_event(f"symbol-{number}")._replace(state=state) for number, state in enumerate(states)])
    archive_to_end(database, log)
    rows = archived_rows(database)
    assert [row[-2] for row in rows] == states
    assert {(row[7], row[8]) for row in rows} == {(None, None)}
    assert [row[-1] for row in rows] == chain_hashes(rows)


def test_the_commit_of_a_stalled_archiver_is_refused(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    log.append([opaque_event() for _ in range(10)])
    stalled = Archiver(database, log, acquire_archiver_lease(database, log.name, "stalled", seconds=0), 100)
    read_before = log.read(0, 5)
    acquire_archiver_lease(database, log.name, "other", seconds=0)
    with pytest.raises(LeaseLostError):  # the other owner has the lease, although it has archived nothing
        stalled.archive(read_before)
    archive_to_end(database, log)
    with pytest.raises(LeaseLostError):
        stalled.archive(read_before)
    log.append([opaque_event()])
    with pytest.raises(LeaseLostError):
        stalled.step(0)
    assert [row[1] for row in archived_rows(database)] == list(range(1, 11))
    archive_to_end(database, log)
    assert [row[1] for row in archived_rows(database)] == list(range(1, 12))


def test_an_owner_extends_its_lease_and_no_other_owner_gets_the_lease(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    log.append([opaque_event()])
    lease = acquire_archiver_lease(database, log.name, "first")
    assert acquire_archiver_lease(database, log.name, "first").epoch == lease.epoch
    with pytest.raises(AssertionError):
        acquire_archiver_lease(database, log.name, "second")


def entry(position: int, moment: datetime) -> LogEntry:
    return LogEntry(position, "symbol-A", position, "t:One", f"id-{position}", moment.timestamp(), b"{}")


def test_a_stalled_transaction_does_not_block_the_next_owner(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "STALLED_SECONDS", 1)

    def stall() -> None:
        with database.connection() as stalled:
            assert leases.acquire_lease(stalled, "archive", 1, "market-0", "stalled", 0)
            # Waits for the row lock until the server has ended the stalled transaction.
            with database.connection() as connection:
                assert leases.acquire_lease(connection, "archive", 1, "market-0", "other", 5)
            stalled.execute("SELECT 1")

    with pytest.raises(ArchiveUnavailableError, match="idle-in-transaction"):
        stall()
    with database.connection() as connection:
        assert leases.acquire_lease(connection, "archive", 1, "market-0", "stalled", 5) is None


@pytest.mark.parametrize(
    "action",
    [
        lambda connection, _: leases.acquire_lease(connection, "archive", 1, "market-0", "stalled", 5),
        lambda connection, lease: leases.release_lease(connection, lease),
        lambda connection, _: leases.record_error(connection, "archive", 1, "market-0", "wrong"),
    ],
    ids=["acquire a lease in vain", "release a lease", "record an error"],
)
def test_a_transaction_that_stalls_after_an_action_on_a_segment_does_not_block_the_owner(
    database: Database, monkeypatch: pytest.MonkeyPatch, action: Callable[[Connection, PostgresLease], object]
) -> None:
    monkeypatch.setattr(leases, "STALLED_SECONDS", 1)
    lease = acquire_archiver_lease(database, "market-0", "owner")

    def stall() -> None:
        with database.connection() as stalled:
            action(stalled, lease)
            # Waits for the row lock until the server has ended the stalled transaction.
            with database.connection() as connection:
                leases.advance_checkpoint(connection, lease, 1, 0.0)
            stalled.execute("SELECT 1")

    with pytest.raises(ArchiveUnavailableError, match="idle-in-transaction"):
        stall()


@pytest.mark.parametrize("statement", [COPY_EVENTS, PATTERNS.copy_states], ids=["events", "states"])
def test_a_stalled_copy_does_not_block_the_next_owner(
    database: Database, monkeypatch: pytest.MonkeyPatch, statement: LiteralString | Composed
) -> None:
    monkeypatch.setattr(leases, "COPY_SECONDS", 1)
    monkeypatch.setattr(leases, "LOCK_SECONDS", 1)
    clear_archive(database)
    lease = acquire_archiver_lease(database, "market-0", "stalled", 0)

    def acquire() -> leases.PostgresLease | None:
        with database.connection() as connection:
            return leases.acquire_lease(connection, "archive", 1, "market-0", "other", 60)

    def stall() -> None:
        with database.connection() as stalled:
            leases.advance_checkpoint(stalled, lease, 1, 0.0)
            with stalled.cursor().copy(statement) as copy:
                copy.write(COPY_HEADER)
                wait_until(acquire, "the server ends the COPY and another owner acquires the lease")

    with pytest.raises(ArchiveUnavailableError, match="terminating connection"):
        stall()
    assert acquire_archiver_lease(database, "market-0", "other").checkpoint == 0


def test_each_month_has_a_partition_that_can_be_detached(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    log.open()
    archiver = Archiver(database, log, acquire_archiver_lease(database, log.name), 100)
    months = [datetime(2025, 11, 30, 23, 59, 59, 999_000, UTC), datetime(2025, 12, 1, tzinfo=UTC)]
    months += [datetime(2026, 2, 28, tzinfo=UTC)]
    archiver.archive([entry(position, moment) for position, moment in enumerate(months, 1)])
    archiver.archive([entry(4, datetime(2026, 3, 1, tzinfo=UTC))])
    rows = archived_rows(database)
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
    assert [row[1] for row in archived_rows(database)] == [2, 3, 4]


def test_another_log_with_the_name_of_an_archived_log_is_refused(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    log.append([opaque_event()])
    archive_to_end(database, log)
    redis.flushall()
    other_log = EventLog(redis, "market-0")
    other_log.append([opaque_event()])
    with pytest.raises(LogDivergedError, match="is this the right Redis"):
        Archiver(database, other_log, acquire_archiver_lease(database, "market-0"), 10)


def test_a_full_server_gets_an_archive_and_is_trimmed(redis: Redis, database: Database) -> None:
    """Only this frees memory, so that it must not need any. A second archiver begins like the first one."""
    EventLog(redis, "market-0").append([opaque_event(f"stream-{number}") for number in range(4)])
    log = archived_log(redis, database)
    redis.config_set("maxmemory", 1)
    try:
        assert archive_to_end(database, log) == 4
        assert archive_to_end(database, log) == 0
        assert trim(log, upto=4, surplus=4, oldest=0) == 3
    finally:
        redis.config_set("maxmemory", 0)
