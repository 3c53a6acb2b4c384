"""Sessions of PostgreSQL do not depend on the settings of the database, and survive the end of their connections."""

from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.archive.archiver import Archiver
from infra.postgres.database import Database
from infra.processes.errors import StartupError
from infra.redis.connections import connect
from infra.settings import Settings
from infra.settings.urls import without_password
from tests import servers
from tests.archiving import acquire_archiver_lease, archived_log
from tests.conftest import open_database
from tests.events import new_events, pattern_detected
from tests.processes.roles import wait_until


def set_for_database(dsn: str, **settings: str) -> None:
    """Make settings for all later sessions of a database."""
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    with psycopg.connect(dsn, autocommit=True) as connection:
        for setting, value in settings.items():
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} TO {}").format(name, sql.Identifier(setting), sql.Literal(value))
            )


def backends(dsn: str) -> list[int]:
    """Return the process ids of the other sessions of the database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in rows]


def idle_seconds(dsn: str, session: int) -> float:
    """Return the time for which a session has been idle. Fail if the session has ended."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM clock_timestamp() - state_change) FROM pg_stat_activity WHERE pid = %s",
            [session],
        ).fetchone()
    assert row is not None, "the session has ended"
    return float(row[0])


@pytest.mark.parametrize(
    "settings",
    [
        {"datestyle": "SQL, DMY"},
        {"standard_conforming_strings": "off"},
        {"default_transaction_isolation": "serializable"},
        {"timezone": "Asia/Kathmandu"},
        {"idle_session_timeout": "100ms"},
    ],
    ids=str,
)
def test_settings_of_the_database_change_no_result(database: Database, settings: dict[str, str]) -> None:
    set_for_database(database.dsn, **settings)
    with open_database(database.dsn) as other:
        with other.connection() as connection:
            session = connection.info.backend_pid
            now, text, isolation = (
                connection.execute("SELECT now(), 'a\\b', current_setting('transaction_isolation')").fetchone()
                or (None,) * 3
            )
        assert isinstance(now, datetime)
        assert abs((now - datetime.now(UTC)).total_seconds()) < 60
        assert (text, isolation) == ("a\\b", "read committed")
        wait_until(lambda: idle_seconds(other.dsn, session) > 0.3, "the session is idle for longer than the time-out")


def test_sessions_that_the_server_ended_are_replaced(database: Database) -> None:
    for _ in range(3):
        with database.connection() as connection:
            connection.execute("SELECT 1")
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        wait_until(lambda: not backends(database.dsn), "the sessions have ended")
    with database.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_database_with_another_encoding_is_refused_in_one_line(postgres_18_dsn: str) -> None:
    with psycopg.connect(postgres_18_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            database = Database(postgres_18_dsn.replace("/postgres?", "/latin?"))
            with pytest.raises(StartupError, match=r"has the encoding LATIN1.*ENCODING 'UTF8'"):
                database.check()
        finally:
            connection.execute("DROP DATABASE latin WITH (FORCE)")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:secret@one:5432,two:5433/tickview",
        "postgresql://user:secret@one,two/tickview?target_session_attrs=read-write",
        "postgresql://user:secret@[::1]:5432,[::2]/tickview",
        "host=one,two port=5432,5433 user=user password=secret dbname=tickview",
    ],
)
def test_several_hosts_are_accepted_with_and_without_ports(dsn: str) -> None:
    settings = Settings(redis_url="redis://localhost", postgres_dsn=dsn)
    assert settings.postgres_dsn == dsn
    assert "secret" not in without_password(dsn)
    Database(dsn)


def test_the_first_reachable_host_is_used(database: Database) -> None:
    parts = conninfo_to_dict(database.dsn)
    hosts = f"127.0.0.1,{parts['host']}"
    ports = f"{servers.free_port()},{parts.get('port', 5432)}"
    dsn = make_conninfo(database.dsn, host=hosts, port=ports)
    with open_database(dsn) as other, other.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_archive_works_through_pgbouncer_in_transaction_mode(redis_url: str, database: Database) -> None:
    with (
        servers.pgbouncer(database.dsn) as dsn,
        open_database(dsn) as pooled,
        connect(redis_url) as redis,
    ):
        log = archived_log(redis, pooled, "market-0")
        log.append(new_events(pattern_detected(symbol=f"S{number}") for number in range(50)))
        archiver = Archiver(pooled, log, acquire_archiver_lease(pooled, "market-0"), 10)
        for _ in range(5):
            assert len(archiver.step(0)) == 10
        for _ in range(20):
            with pooled.connection() as connection:
                rows = connection.execute(
                    "SELECT count(*), max(recorded_at) FROM tickview.events WHERE log = %s", ["market-0"]
                )
                [[count, newest]] = rows
        assert (count, isinstance(newest, datetime)) == (50, True)
