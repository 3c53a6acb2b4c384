"""A PostgreSQL that is there and keeps us waiting: that is told as what it is, with how long and what to do."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from infra.archive import leases
from infra.log.errors import ArchiveBusyError
from infra.postgres.database import Database
from infra.postgres.schema import SCHEMA_LOCK
from infra.processes.errors import StartupError
from infra.serving.archive import BUSY, ArchiveGateway
from readapi.ports.errors import UnavailableError
from tests.archiving import acquire_archiver_lease
from tests.conftest import open_database


@contextmanager
def impatient(database: Database, **limits: str) -> Iterator[Database]:
    """The database as it is for a role with such limits of time."""
    options = " ".join(f"-c {name}={value}" for name, value in limits.items())
    with open_database(make_conninfo(database.dsn, options=options)) as other:
        yield other


def test_a_lock_that_is_waited_for_in_vain_is_told(every_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LOCK_SECONDS", 1)
    lease = acquire_archiver_lease(every_database, "market-0")
    with every_database.connection() as holder:
        leases.release_lease(holder, lease)
        with pytest.raises(ArchiveBusyError) as told, every_database.connection() as waiting:
            leases.record_error(waiting, "archive", 1, "market-0", "wrong")
    said = str(told.value)
    assert "cannot be reached" not in said
    assert "\n" not in said
    seconds = re.match(
        r"Another session of PostgreSQL holds a lock. This session gave up waiting for the lock (\S+) s after .*"
        r'lock timeout .* in relation "segments"\). .*pg_stat_activity.*pg_terminate_backend\(pid\)$',
        said,
    )
    assert seconds, said
    assert float(seconds[1]) >= 1


def test_a_statement_that_may_not_last_so_long_is_told(every_database: Database) -> None:
    with (
        impatient(every_database, statement_timeout="300ms") as limited,
        pytest.raises(
            ArchiveBusyError, match=r"ended a statement \d+\.\d s .*statement timeout\).* ALTER ROLE"
        ) as told,
        limited.connection() as connection,
    ):
        connection.execute("SELECT pg_sleep(30)")
    assert "cannot be reached" not in str(told.value)


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
def test_who_waits_for_a_migration_that_another_makes_is_told(database_url: str, limit: str) -> None:
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


def test_an_archive_that_is_busy_is_not_away(database: Database) -> None:
    def slow() -> None:
        with limited.connection() as connection:
            connection.execute("SELECT pg_sleep(30)")

    with impatient(database, statement_timeout="100ms") as limited, capture_logs() as logs:
        archive = ArchiveGateway(limited)
        for _ in range(2):
            with pytest.raises(UnavailableError) as busy:
                asyncio.run(archive.run(slow, 30))
            assert str(busy.value) == BUSY
        assert asyncio.run(archive.run(lambda: "an answer", 30)) == "an answer"
    assert [log["event"] for log in logs] == ["archive busy"] * 2
