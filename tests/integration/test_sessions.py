"""Sessions of PostgreSQL do not depend on the settings of the database, and survive the end of their connections."""

import socket
from datetime import UTC, datetime
from io import BytesIO
from time import time

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.archive.archiver import Archiver
from infra.archive.event_history import EventHistory
from infra.archive.export import export
from infra.archive.ranges import WHOLE_ARCHIVE
from infra.operations.verification import record_if_whole, verify_everything
from infra.postgres.database import Database
from infra.postgres.sessions import complete_dsn, count_attempts, with_first_host
from infra.processes.errors import StartupError
from infra.redis.connections import connect
from infra.settings import Settings
from infra.settings.urls import without_password
from projections.queries import Query
from readapi.ports.archive import EventFilter
from tests import servers
from tests.archiving import acquire_archiver_lease, archived_log
from tests.conftest import open_database
from tests.events import new_events, pattern_detected
from tests.processes.roles import wait_until
from tests.row_history import fold_history, query_history
from tests.tcp_ports import free_port


def set_for_database(dsn: str, **settings: str) -> None:
    """Make settings for all later sessions of a database."""
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    with psycopg.connect(dsn, autocommit=True) as connection:
        for setting, value in settings.items():
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} TO {}").format(name, sql.Identifier(setting), sql.Literal(value))
            )


def end_sessions(dsn: str) -> list[int]:
    """End the other sessions of the database. Return their process ids."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [pid for pid, _ in rows]


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
        # The pool may replace an ended session by two, the second of which connects later.
        wait_until(lambda: not end_sessions(database.dsn), "the sessions have ended")
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
    ports = f"{free_port()},{parts.get('port', 5432)}"
    dsn = make_conninfo(database.dsn, host=hosts, port=ports)
    with open_database(dsn) as other, other.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("hosts", "ports", "expected"),
    [
        ("a,b,c", "1,2,3", ("b,a,c", "2,1,3")),
        ("a,b", "2", ("b,a", "2,2")),
        ("b,b", "1,2", ("b,b", "2,1")),
        ("a,c", "1,2", ("a,c", "1,2")),
    ],
)
def test_the_host_that_answered_last_comes_first(hosts: str, ports: str, expected: tuple[str, str]) -> None:
    parts = conninfo_to_dict(with_first_host(f"host={hosts} port={ports} dbname=tickview", "b", 2))
    assert (parts["host"], parts["port"], parts["dbname"]) == (*expected, "tickview")


def test_a_dsn_without_ports_has_the_default_port() -> None:
    assert conninfo_to_dict(with_first_host("host=a,b", "b", 5432))["host"] == "b,a"
    assert with_first_host("host=a", "b", 5432) == "host=a"


@pytest.mark.parametrize(
    ("dsn", "target", "attempts"),
    [
        ("host=a", None, 1),
        ("host=a,b", "read-write", 2),
        ("host=a,b,c target_session_attrs=any", "any", 3),
        ("host=a,b target_session_attrs=prefer-standby", "prefer-standby", 4),
    ],
)
def test_several_hosts_are_asked_for_the_one_that_can_be_written(dsn: str, target: str | None, attempts: int) -> None:
    completed = complete_dsn(dsn, "read-write")
    assert conninfo_to_dict(completed).get("target_session_attrs") == target
    assert count_attempts(completed) == attempts


def test_only_the_first_connection_waits_for_a_host_that_is_gone(database: Database) -> None:
    server = conninfo_to_dict(database.dsn)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        dsn = make_conninfo(
            database.dsn,
            host=f"127.0.0.1,{server['host']}",
            port=f"{gone.getsockname()[1]},{server.get('port', 5432)}",
            connect_timeout=2,
        )
        with open_database(dsn) as other, other.connection() as one, other.connection() as two:
            assert one.info.backend_pid != two.info.backend_pid
        gone.settimeout(0.1)
        gone.accept()[0].close()
        with pytest.raises(TimeoutError):
            gone.accept()


def test_the_archive_works_through_pgbouncer_in_transaction_mode(redis_url: str, database_url: str) -> None:
    with (
        servers.pgbouncer(database_url) as dsn,
        open_database(f"{dsn}?target_session_attrs=read-write") as pooled,
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
        assert fold_history(pooled, "market-0", 10) == 50
        answer = query_history(pooled, ["market-0"], Query(time(), limit=100))
        assert (answer.page.total, answer.positions) == (50, {"market-0": 50})
        history = EventHistory(pooled, {"market-0": log})
        assert len(history.events(EventFilter(), {}, 100).events) == 50
        settings = Settings(redis_url=redis_url, postgres_dsn=dsn)
        verification = verify_everything(settings, pooled)
        assert verification.ok
        assert record_if_whole(pooled, verification, None, WHOLE_ARCHIVE)
        exported = BytesIO()
        assert export(pooled, exported, "jsonl") == 50
