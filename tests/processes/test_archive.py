"""``tickview archive`` as real processes: killed, stalled, without PostgreSQL for a while, behind a wiped Redis."""

import random
import signal
from contextlib import ExitStack
from typing import Any

import orjson
import psycopg
import pytest
from redis import Redis

from infra.archive.log_archive import PostgresArchive
from infra.log.event_log import EventLog
from infra.log.maintenance import log_state
from infra.postgres.database import Database
from tests import servers
from tests.events import new_events
from tests.oracles.hash_chain import chain_hashes
from tests.processes.api_service import api, detection, post
from tests.processes.histories import LOGS, by_log, history_of
from tests.processes.roles import killed_role, running_role, tickview, wait_until
from tests.processes.test_workers import assert_folded

LEASE_SECONDS = 0.5


@pytest.fixture
def archive(redis: Redis, database: Database) -> PostgresArchive:
    """The archive, as readers have it."""
    return PostgresArchive(database, redis, restore_limit=1_000, partitions=4)


def logs_of(redis: Redis, archive: PostgresArchive) -> dict[str, EventLog]:
    return {name: EventLog(redis, name, archive=archive) for name in LOGS}


def append(logs: dict[str, EventLog], history: list[Any]) -> None:
    for name, events in by_log(history).items():
        for first in range(0, len(events), 50):
            logs[name].append(new_events(events[first : first + 50]))


def archived(dsn: str, log: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT * FROM tickview.events WHERE log = %s ORDER BY position", [log]).fetchall()


def positions(dsn: str) -> dict[str, int]:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT log, position FROM tickview.segments WHERE name = 'archive'").fetchall()
    return dict(found)


def wait_for_archive(dsn: str, logs: dict[str, EventLog]) -> None:
    """Until the archive is where the logs are, to which an expirer may add."""

    def is_there() -> bool:
        archived = positions(dsn)
        return all(archived.get(name, 0) == log.head() for name, log in logs.items())

    wait_until(is_there, "all is archived")


def assert_archived(dsn: str, logs: dict[str, EventLog]) -> None:
    """Every event of each log is in the archive once, in order, and chained."""
    wait_for_archive(dsn, logs)
    for name, log in logs.items():
        rows = archived(dsn, name)
        assert len(rows) > 0
        assert [row[1] for row in rows] == list(range(1, log.head() + 1))
        assert [row[6] for row in rows] == [entry.event_id for entry in log.read(0, 100_000)]
        assert [row[-1] for row in rows] == chain_hashes(rows)


def test_archivers_that_are_killed_and_stalled(
    redis: Redis, redis_url: str, database: Database, archive: PostgresArchive
) -> None:
    history, chance = history_of(6_000, seed=3), random.Random(3)
    settings = {"postgres_dsn": database.dsn, "lease_seconds": LEASE_SECONDS, "archive_batch": 20}
    logs = logs_of(redis, archive)
    with ExitStack() as stack:
        stack.enter_context(running_role("archive", redis_url=redis_url, **settings))
        stalled = stack.enter_context(running_role("archive", redis_url=redis_url, **settings))
        append(logs, history[:1_000])
        wait_for_archive(database.dsn, logs)
        stalled.send_signal(signal.SIGSTOP)
        for part in range(1, 5):
            with killed_role("archive", redis_url=redis_url, **settings):
                append(logs, history[part * 1_000 : (part + 1) * 1_000])
                goal = sum(positions(database.dsn).values()) + chance.randrange(50, 500)
                wait_until(lambda goal=goal: sum(positions(database.dsn).values()) >= goal, "some progress")
        stalled.send_signal(signal.SIGCONT)
        append(logs, history[5_000:])
        assert_archived(database.dsn, logs)


def test_without_postgresql_the_archive_is_late_and_nothing_else(redis_url: str) -> None:
    with servers.world_readable_folder() as folder, ExitStack() as stack:
        with servers.postgres(data=folder) as dsn:
            settings = {"postgres_dsn": dsn, "lease_seconds": LEASE_SECONDS}
            for role in ("record", "project", "archive"):
                stack.enter_context(running_role(role, redis_url=redis_url, **settings))
            client = stack.enter_context(api(redis_url, **settings))
            post(client, [detection("AAPL"), detection("MSFT")])
            wait_until(lambda: sum(positions(dsn).values()) == 2, "both are archived")
        known = post(client, [detection(f"S{number}") for number in range(50)])
        answer = client.get("/api/patterns/scan", params={"per_page": 100}, headers=known)
        assert (answer.status_code, answer.json()["pagination"]["total"]) == (200, 52)
        with servers.postgres(data=folder) as dsn:
            wait_until(lambda: sum(positions(dsn).values()) == 52, "the archive has caught up by itself")
            for name in LOGS:
                rows = archived(dsn, name)
                assert [row[-1] for row in rows] == chain_hashes(rows)


def test_a_wiped_redis_under_running_roles(
    redis: Redis, redis_url: str, database: Database, archive: PostgresArchive
) -> None:
    """Everything goes on by itself; read models are built anew from the archive."""
    history = history_of(2_000, seed=4)
    settings = {"postgres_dsn": database.dsn, "lease_seconds": LEASE_SECONDS, "log_retention_size": 100}
    logs = logs_of(redis, archive)
    with (
        running_role("project", redis_url=redis_url, **settings),
        running_role("archive", redis_url=redis_url, **settings),
        api(redis_url, **settings) as client,
    ):
        append(logs, history[:1_500])
        wait_for_archive(database.dsn, logs)
        wait_until(lambda: all((log_state(log).first or 0) > 1 for log in logs.values()), "the logs are trimmed")
        heads = {name: log.head() for name, log in logs.items()}
        redis.flushall()
        wait_until(lambda: all(log_state(log).opened for log in logs.values()), "the archiver has opened the logs")
        assert {name: log.head() for name, log in logs.items()} == heads
        append(logs, history[1_500:])
        assert_folded(redis, history, logs)
        assert_archived(database.dsn, logs)
        answer = client.get("/api/patterns/scan", params={"confidence_min": 0, "per_page": 1})
        assert answer.status_code == 200


def test_what_cannot_be_archived_is_told_by_status(redis: Redis, redis_url: str, database: Database) -> None:
    """Another log of the same name: a person must decide, and is told what about."""
    settings = {"postgres_dsn": database.dsn, "lease_seconds": LEASE_SECONDS}
    log = EventLog(redis, "market-1", archive=PostgresArchive(database, redis, restore_limit=10, partitions=4))
    log.append(new_events(by_log(history_of(200, seed=5))["market-1"]))
    with running_role("archive", redis_url=redis_url, **settings):
        wait_for_archive(database.dsn, {"market-1": log})
    redis.flushall()
    stranger = EventLog(redis, "market-1")
    stranger.append(new_events(by_log(history_of(200, seed=6))["market-1"]))
    with running_role("archive", redis_url=redis_url, **settings):

        def held_up() -> Any:
            told = orjson.loads(tickview("status", "--json", redis_url=redis_url, **settings).stdout)
            return next(one["error"] for one in told["archive"]["logs"] if one["log"] == "market-1")

        assert "is this the right Redis, and the right PostgreSQL?" in wait_until(held_up, "the error is told")


def test_a_role_without_postgresql_says_so_in_one_line(redis_url: str) -> None:
    for dsn, expected in (
        (None, b"no PostgreSQL is configured: set TICKVIEW_POSTGRES_DSN"),
        ("postgresql://127.0.0.1:1/x", b"does not serve TickView"),
    ):
        settings: dict[str, Any] = {"postgres_dsn": dsn} if dsn else {}
        done = tickview("archive", redis_url=redis_url, **settings)
        assert done.returncode == 1
        assert expected in done.stderr
        assert done.stderr.count(b"\n") == 1
