"""The connection to PostgreSQL: busy servers, time limits, the schema and the rights that TickView needs."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from infra.archive import leases
from infra.log.errors import ArchiveBusyError, ArchiveReadOnlyError
from infra.postgres.database import Database
from infra.postgres.schema import SCHEMA_LOCK, migrate, migrations
from infra.processes.errors import StartupError
from infra.serving.archive import BUSY, ArchiveGateway
from readapi.ports.errors import UnavailableError
from tests.archiving import acquire_archiver_lease
from tests.conftest import open_database


@contextmanager
def with_time_limits(database: Database, **limits: str) -> Iterator[Database]:
    """Open the database as a role for which PostgreSQL has these time limits."""
    options = " ".join(f"-c {name}={value}" for name, value in limits.items())
    with open_database(make_conninfo(database.dsn, options=options)) as other:
        yield other


def test_a_lock_that_is_not_released_in_time_is_reported(
    every_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LOCK_SECONDS", 1)
    lease = acquire_archiver_lease(every_database, "market-0")
    with every_database.connection() as holder:
        leases.release_lease(holder, lease)
        with pytest.raises(ArchiveBusyError) as busy, every_database.connection() as waiting:
            leases.record_error(waiting, "archive", 1, "market-0", "wrong")
    message = str(busy.value)
    assert "cannot be reached" not in message
    assert "\n" not in message
    seconds = re.match(
        r"Another session of PostgreSQL holds a lock. This session gave up waiting for the lock (\S+) s after .*"
        r'lock timeout .* in relation "segments"\). .*pg_stat_activity.*pg_terminate_backend\(pid\)$',
        message,
    )
    assert seconds, message
    assert float(seconds[1]) >= 1


def test_a_statement_that_exceeds_the_time_limit_is_reported(every_database: Database) -> None:
    with (
        with_time_limits(every_database, statement_timeout="300ms") as limited,
        pytest.raises(
            ArchiveBusyError, match=r"ended a statement \d+\.\d s .*statement timeout\).* ALTER ROLE"
        ) as busy,
        limited.connection() as connection,
    ):
        connection.execute("SELECT pg_sleep(30)")
    assert "cannot be reached" not in str(busy.value)


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
def test_waiting_for_the_migration_of_another_process_is_reported(database_url: str, limit: str) -> None:
    waiting = Database(make_conninfo(database_url, options=f"-c {limit}=100ms"))
    with psycopg.connect(database_url) as migrating:
        migrating.execute("SELECT pg_advisory_xact_lock(%s)", [SCHEMA_LOCK])
        with pytest.raises(
            StartupError, match=r"does not serve TickView: (Another session|PostgreSQL ended a statement)"
        ):
            waiting.check()
        with pytest.raises(ArchiveBusyError), waiting.connection():
            pass
    waiting.check()


def test_a_busy_archive_is_not_reported_as_unreachable(database: Database) -> None:
    def slow() -> None:
        with limited.connection() as connection:
            connection.execute("SELECT pg_sleep(30)")

    with with_time_limits(database, statement_timeout="100ms") as limited, capture_logs() as logs:
        archive = ArchiveGateway(limited)
        for _ in range(2):
            with pytest.raises(UnavailableError) as busy:
                asyncio.run(archive.run(slow, 30))
            assert str(busy.value) == BUSY
        assert asyncio.run(archive.run(lambda: "an answer", 30)) == "an answer"
    assert [log["event"] for log in logs] == ["archive busy"] * 2


def test_the_schema_is_created_once(database_url: str) -> None:
    with psycopg.connect(database_url) as first, psycopg.connect(database_url) as second:
        assert [migration.number for migration in migrate(first)] == [migration.number for migration in migrations()]
        first.commit()
        assert migrate(second) == []


def test_a_newer_schema_and_an_unreachable_server_are_reported_in_one_line(every_database: Database) -> None:
    with every_database.connection() as connection:
        connection.execute("INSERT INTO tickview.migrations (number, name) VALUES (9999, 'of the future')")
    with pytest.raises(StartupError, match="migration 9999"):
        Database(every_database.dsn).check()
    with pytest.raises(StartupError, match=r"PostgreSQL does not serve TickView.*TICKVIEW_POSTGRES_DSN") as refused:
        Database("postgresql://127.0.0.1:1/nothing").check()
    assert "\n" not in str(refused.value)
    with pytest.raises(StartupError, match='TICKVIEW_POSTGRES_DSN: invalid URI query parameter: "nonsense"'):
        Database("postgresql://127.0.0.1/x?nonsense=1")


def test_a_read_only_server_serves_readers_but_no_archiver(every_database: Database) -> None:
    with psycopg.connect(every_database.dsn, autocommit=True) as connection:
        [[name]] = connection.execute("SELECT current_database()")
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    reader = Database(every_database.dsn)
    reader.check()
    with pytest.raises(StartupError, match="perhaps because it is a standby"):
        reader.check(writable=True)


def test_a_server_that_became_read_only_is_reported_and_left(database: Database) -> None:
    with open_database(database.dsn) as other:
        with other.connection() as connection:
            first = connection.info.backend_pid
            connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        with (
            pytest.raises(ArchiveReadOnlyError, match=r"only allows reading, .*cannot execute DELETE"),
            other.connection() as connection,
        ):
            connection.execute("DELETE FROM tickview.losses")
        with other.connection() as connection:
            assert connection.info.backend_pid != first
            connection.execute("DELETE FROM tickview.losses")


def test_a_role_without_the_right_to_create_a_schema_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
        try:
            with pytest.raises(StartupError, match="permission denied for database"):
                Database(database_url.replace("postgres@", "guest@")).check()
        finally:
            connection.execute("DROP ROLE guest")
