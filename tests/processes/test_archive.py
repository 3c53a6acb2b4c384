"""``tickview archive`` as real processes: killed, suspended, without PostgreSQL, and with a wiped Redis."""

import random
import signal
from contextlib import ExitStack
from typing import Any

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
from tests.processes.histories import LOGS, events_by_log, random_history
from tests.processes.roles import killed_role, running_role, tickview, tickview_json, wait_until
from tests.processes.test_workers import assert_folded

LEASE_SECONDS = 0.5


@pytest.fixture
def archive(redis: Redis, database: Database) -> PostgresArchive:
    return PostgresArchive(database, redis, restore_limit=1_000, partitions=4)


def logs_of(redis: Redis, archive: PostgresArchive) -> dict[str, EventLog]:
    return {name: EventLog(redis, name, archive=archive) for name in LOGS}


def append(logs: dict[str, EventLog], history: list[Any]) -> None:
    for name, events in events_by_log(history).items():
        for first in range(0, len(events), 50):
            logs[name].append(new_events(events[first : first + 50]))


def archived_rows(dsn: str, log: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT * FROM tickview.events WHERE log = %s ORDER BY position", [log]).fetchall()


def archived_positions(dsn: str) -> dict[str, int]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT log, position FROM tickview.segments WHERE name = 'archive'").fetchall()
    return dict(rows)


def wait_for_archive(dsn: str, logs: dict[str, EventLog]) -> None:
    """Wait until the archive has every event of the logs, to which an expirer may append."""

    def is_archived() -> bool:
        archived = archived_positions(dsn)
        return all(archived.get(name, 0) == log.head() for name, log in logs.items())

    wait_until(is_archived, "every event is archived")


def assert_archived(dsn: str, logs: dict[str, EventLog]) -> None:
    """Assert that the archive has every event of each log once, in order, and in a hash chain."""
    wait_for_archive(dsn, logs)
    for name, log in logs.items():
        rows = archived_rows(dsn, name)
        assert len(rows) > 0
        assert [row[1] for row in rows] == list(range(1, log.head() + 1))
        assert [row[6] for row in rows] == [entry.event_id for entry in log.read(0, 100_000)]
        assert [row[-1] for row in rows] == chain_hashes(rows)


def test_killed_and_suspended_archivers_archive_every_event_once(
    redis: Redis, redis_url: str, database: Database, archive: PostgresArchive
) -> None:
    history, chance = random_history(6_000, seed=3), random.Random(3)
    settings = {"postgres_dsn": database.dsn, "lease_seconds": LEASE_SECONDS, "archive_batch": 20}
    logs = logs_of(redis, archive)
    with ExitStack() as stack:
        stack.enter_context(running_role("archive", redis_url=redis_url, **settings))
        suspended = stack.enter_context(running_role("archive", redis_url=redis_url, **settings))
        append(logs, history[:1_000])
        wait_for_archive(database.dsn, logs)
        suspended.send_signal(signal.SIGSTOP)
        for part in range(1, 5):
            with killed_role("archive", redis_url=redis_url, **settings):
                # Before the append: the archivers may have archived most of it when the append returns.
                goal = sum(archived_positions(database.dsn).values()) + chance.randrange(50, 500)
                append(logs, history[part * 1_000 : (part + 1) * 1_000])
                wait_until(
                    lambda goal=goal: sum(archived_positions(database.dsn).values()) >= goal,
                    "the archivers make progress",
                )
        suspended.send_signal(signal.SIGCONT)
        append(logs, history[5_000:])
        assert_archived(database.dsn, logs)


def test_without_postgresql_events_are_recorded_and_served_and_archived_later(redis_url: str) -> None:
    with servers.world_readable_folder() as folder, ExitStack() as stack:
        with servers.postgres(data=folder) as dsn:
            settings = {"postgres_dsn": dsn, "lease_seconds": LEASE_SECONDS}
            for role in ("record", "project", "archive"):
                stack.enter_context(running_role(role, redis_url=redis_url, **settings))
            client = stack.enter_context(api(redis_url, **settings))
            post(client, [detection("AAPL"), detection("MSFT")])
            wait_until(lambda: sum(archived_positions(dsn).values()) == 2, "both events are archived")
        header = post(client, [detection(f"S{number}") for number in range(50)])
        response = client.get("/api/patterns/scan", params={"per_page": 100}, headers=header)
        assert (response.status_code, response.json()["pagination"]["total"]) == (200, 52)
        with servers.postgres(data=folder) as dsn:
            wait_until(lambda: sum(archived_positions(dsn).values()) == 52, "the archive has caught up")
            for name in LOGS:
                rows = archived_rows(dsn, name)
                assert [row[-1] for row in rows] == chain_hashes(rows)


def test_running_roles_recover_from_a_wiped_redis(
    redis: Redis, redis_url: str, database: Database, archive: PostgresArchive
) -> None:
    """The archiver restores the logs, and the workers build the read models again from the archive."""
    history = random_history(2_000, seed=4)
    settings = {"postgres_dsn": database.dsn, "lease_seconds": LEASE_SECONDS, "log_retention_size": 100}
    logs = logs_of(redis, archive)
    with (
        running_role("project", redis_url=redis_url, **settings),
        running_role("archive", redis_url=redis_url, **settings),
        api(redis_url, **settings) as client,
    ):
        append(logs, history[:1_500])
        # The heads are compared below, so the expirer must have appended its events first.
        assert_folded(redis, history[:1_500], logs)
        wait_for_archive(database.dsn, logs)
        wait_until(lambda: all((log_state(log).first or 0) > 1 for log in logs.values()), "the logs are trimmed")
        heads = {name: log.head() for name, log in logs.items()}
        redis.flushall()
        wait_until(lambda: all(log_state(log).opened for log in logs.values()), "the archiver has opened the logs")
        assert {name: log.head() for name, log in logs.items()} == heads
        append(logs, history[1_500:])
        assert_folded(redis, history, logs)
        assert_archived(database.dsn, logs)
        response = client.get("/api/patterns/scan", params={"confidence_min": 0, "per_page": 1})
        assert response.status_code == 200


def test_status_shows_why_a_log_cannot_be_archived(redis: Redis, redis_url: str, database: Database) -> None:
    """Another log with the same name is a conflict that the operator must resolve."""
    settings = {"postgres_dsn": database.dsn, "lease_seconds": LEASE_SECONDS}
    log = EventLog(redis, "market-1", archive=PostgresArchive(database, redis, restore_limit=10, partitions=4))
    log.append(new_events(events_by_log(random_history(200, seed=5))["market-1"]))
    with running_role("archive", redis_url=redis_url, **settings):
        wait_for_archive(database.dsn, {"market-1": log})
    redis.flushall()
    other_log = EventLog(redis, "market-1")
    other_log.append(new_events(events_by_log(random_history(200, seed=6))["market-1"]))
    with running_role("archive", redis_url=redis_url, **settings):

        def archive_error() -> Any:
            status = tickview_json("status", redis_url=redis_url, **settings)
            return next(log["error"] for log in status["archive"]["logs"] if log["log"] == "market-1")

        assert "is this the right Redis, and the right PostgreSQL?" in wait_until(
            archive_error, "status shows the error"
        )


def test_archiver_without_postgresql_exits_with_the_reason(redis_url: str) -> None:
    for dsn, reason in (
        (None, b"no PostgreSQL is configured: set TICKVIEW_POSTGRES_DSN"),
        ("postgresql://127.0.0.1:1/x", b"does not serve TickView"),
    ):
        settings: dict[str, Any] = {"postgres_dsn": dsn} if dsn else {}
        completed = tickview("archive", redis_url=redis_url, **settings)
        assert completed.returncode == 1
        assert reason in completed.stderr
        assert completed.stderr.count(b"\n") == 1
