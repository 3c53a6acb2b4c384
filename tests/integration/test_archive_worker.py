"""The archive worker on real servers: archiving, histories and trimming do not wait for one another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import time

import pytest
from redis import Redis

from infra.archive import worker
from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.leases import record_error
from infra.archive.retention import Retention
from infra.archive.row_history import folding
from infra.archive.row_history import worker as history_worker
from infra.archive.verification.histories import verify_histories
from infra.archive.worker import ArchiveOptions, ArchiveWorker
from infra.log.event_log import EventLog
from infra.postgres.database import Database
from projections.backtests import Backtests
from projections.patterns import ActivePatterns
from projections.queries import Query
from tests.archiving import archived_log
from tests.events import backtest_progressed, new_events
from tests.integration.archive_support import detections
from tests.integration.build_support import begin_first_builds, fold_builds
from tests.processes.roles import wait_until
from tests.row_history import PATTERNS, history_lease, query_history
from tests.threads import running_threads

LOG = "market-0"
HISTORIES = (ActivePatterns(), Backtests())
KEEP_A_DAY = Retention(age=86_400, size=100_000)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the worker wait for milliseconds instead of a second between its rounds."""
    monkeypatch.setattr(worker, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(worker, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(worker, "IDLE_TRIM_SECONDS", 0.05)
    monkeypatch.setattr(folding, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(folding, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(history_worker, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(history_worker, "MAINTENANCE_SECONDS", 0.05)
    monkeypatch.setattr(history_worker, "IDLE_MAINTENANCE_SECONDS", 0.05)


@contextmanager
def running_worker(
    database: Database, redis: Redis, log: EventLog, retention: Retention = KEEP_A_DAY
) -> Iterator[None]:
    """Run the archive worker of a log in a thread."""
    archive_worker = ArchiveWorker(database, redis, log, "worker", ArchiveOptions(5, 50, retention, HISTORIES))
    with running_threads([archive_worker.run]):
        yield


def segment_state(database: Database, name: str, log: str = LOG) -> tuple[int, str | None, bool]:
    """Return the checkpoint, the recorded error, and whether the lease is held."""
    statement = "SELECT position, error, leased_until > now() FROM tickview.segments WHERE name = %s AND log = %s"
    with database.connection() as connection:
        return connection.execute(statement, [name, log]).fetchone() or (0, None, False)


def checkpoint_reaches(database: Database, name: str, position: int) -> Callable[[], bool]:
    return lambda: segment_state(database, name)[0] == position


def test_the_worker_folds_the_histories_and_releases_their_leases(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOG)
    log.append(new_events(detections(60)))
    histories = ("pattern_history", "backtest_history")
    with running_worker(database, redis, log):
        for name in histories:
            wait_until(checkpoint_reaches(database, name, 120), f"all events are folded into {name}")
        log.append(
            new_events([*detections(1, "MSFT"), backtest_progressed(0.5), backtest_progressed(0.75, event_id="later")])
        )
        for name in histories:
            wait_until(checkpoint_reaches(database, name, 124), f"the later events are folded into {name}")
    for name in histories:
        assert segment_state(database, name) == (124, None, False)
    assert query_history(database, [LOG], Query(time() + 1)).page.total == 61
    [run] = query_history(database, [LOG], Query(time() + 1), projection=Backtests).page.rows
    assert (run.row.progress, run.position) == (0.75, 124)
    assert query_history(database, [LOG], Query(run.row.started_at - 1), projection=Backtests).page.total == 0


def test_events_that_were_too_many_to_keep_are_read_from_the_archive(
    redis: Redis, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "KEPT_EVENTS", 60)
    monkeypatch.setattr(folding, "GATHER_SECONDS", 0.3)
    log = archived_log(redis, database, LOG)
    log.append(new_events(detections(1)))
    with running_worker(database, redis, log):
        wait_until(checkpoint_reaches(database, "pattern_history", 2), "the first events are folded")
        log.append(new_events(detections(100, "MSFT")))
        wait_until(checkpoint_reaches(database, "pattern_history", 202), "all events are folded")
    assert query_history(database, [LOG], Query(time() + 1)).page.total == 101


def test_the_log_of_the_users_has_no_history(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, "users")
    log.append(new_events(detections(1)))
    with running_worker(database, redis, log):
        wait_until(lambda: segment_state(database, "archive", "users")[0] == 2, "the events are archived")
    with database.connection() as connection:
        assert connection.execute("SELECT FROM tickview.segments WHERE name LIKE '%_history'").rowcount == 0


def test_the_error_of_another_archiver_is_cleared_although_no_event_arrives(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOG)
    log.append(new_events(detections(1)))
    with running_worker(database, redis, log):
        wait_until(checkpoint_reaches(database, "archive", 2), "the events are archived")
        for reason in ("first", "second"):
            with database.connection() as connection:
                record_error(connection, ARCHIVE, FORMAT_VERSION, LOG, reason)
            wait_until(lambda: segment_state(database, "archive")[1] is None, "the error is cleared")


def test_events_that_a_promoted_standby_lacks_are_archived_again(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, "users")
    log.append(new_events(detections(1)))
    with running_worker(database, redis, log):
        wait_until(lambda: segment_state(database, "archive", "users")[0] == 2, "the first events are archived")
        with database.connection() as connection:
            [former_hash] = connection.execute("SELECT hash FROM tickview.logs WHERE log = 'users'").fetchone() or ()
        log.append(new_events(detections(1, "MSFT")))
        wait_until(lambda: segment_state(database, "archive", "users")[0] == 4, "the later events are archived")
        with database.connection() as connection:
            connection.execute("DELETE FROM tickview.events WHERE position > 2")
            connection.execute("UPDATE tickview.logs SET hash = %s", [former_hash])
            connection.execute("UPDATE tickview.segments SET position = 2 WHERE name = 'archive'")
        wait_until(lambda: segment_state(database, "archive", "users")[0] == 4, "the events are archived again")
    with database.connection() as connection:
        positions = connection.execute("SELECT position FROM tickview.events ORDER BY position").fetchall()
    assert positions == [(1,), (2,), (3,), (4,)]


def test_an_error_of_a_history_stops_neither_archiving_nor_trimming(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOG)
    log.append(new_events(detections(2)))
    with database.connection() as connection:
        PATTERNS.create(connection)
        connection.execute("ALTER TABLE tickview.pattern_history ADD CONSTRAINT broken CHECK (text_symbol <> 'AAPL')")
    with running_worker(database, redis, log, Retention(age=86_400, size=2)):
        wait_until(lambda: "broken" in (segment_state(database, "pattern_history")[1] or ""), "the error is recorded")
        log.append(new_events(detections(3, "MSFT")))
        wait_until(checkpoint_reaches(database, "archive", 10), "the later events are archived")
        wait_until(checkpoint_reaches(database, "backtest_history", 10), "the other history is folded")
        begin_first_builds(redis)
        fold_builds(redis, log, 1)
        wait_until(lambda: redis.xlen(log.keys.log) == 2, "the log is trimmed")
        assert segment_state(database, "pattern_history")[0] == 0
        with database.connection() as connection:
            connection.execute("ALTER TABLE tickview.pattern_history DROP CONSTRAINT broken")
        wait_until(checkpoint_reaches(database, "pattern_history", 10), "the history is folded after the repair")
        assert segment_state(database, "pattern_history")[1] is None
    assert query_history(database, [LOG], Query(time() + 1)).page.total == 5


def test_code_older_than_the_live_version_does_not_fold_the_history(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOG)
    log.append(new_events(detections(1)))
    with database.connection() as connection:
        connection.execute(
            "INSERT INTO tickview.live_versions VALUES ('pattern_history', %s)", [ActivePatterns.version + 1]
        )
    with running_worker(database, redis, log):
        wait_until(checkpoint_reaches(database, "archive", 2), "the events are archived")
        log.append(new_events(detections(1, "MSFT")))
        wait_until(checkpoint_reaches(database, "archive", 4), "the worker has made another round")
    assert segment_state(database, "pattern_history") == (0, None, False)


def test_the_former_version_is_removed_once_its_lease_has_ended(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOG)
    log.append(new_events(detections(1)))
    history_lease(database, LOG, version=0, seconds=0)
    with database.connection() as connection:
        connection.execute("INSERT INTO tickview.live_versions VALUES ('pattern_history', 0)")
        connection.execute("INSERT INTO tickview.patterns_events VALUES (0, 'a', 'market-0', 1, now())")

    def versions() -> set[int]:
        with database.connection() as connection:
            rows = connection.execute("SELECT version FROM tickview.segments WHERE name = 'pattern_history'")
            return {version for (version,) in rows}

    with running_worker(database, redis, log):
        wait_until(lambda: versions() == {ActivePatterns.version}, "the former version is removed")
    assert query_history(database, [LOG], Query(time() + 1)).version == ActivePatterns.version
    with database.connection() as connection:
        assert connection.execute("SELECT FROM tickview.patterns_events WHERE version = 0").rowcount == 0


FORMER_TABLES = """
CREATE TABLE tickview.pattern_history (
    version integer NOT NULL, timeline text NOT NULL, position bigint NOT NULL, span tstzrange NOT NULL,
    key text NOT NULL, log text NOT NULL, document bytea NOT NULL
) PARTITION BY LIST (timeline);
CREATE TABLE tickview.pattern_history_recorded PARTITION OF tickview.pattern_history FOR VALUES IN ('recorded');
CREATE TABLE tickview.pattern_history_valid PARTITION OF tickview.pattern_history FOR VALUES IN ('valid');
INSERT INTO tickview.pattern_history VALUES (2, 'recorded', 1, '[2020-01-01,)', 'a', 'market-0', '{}');
CREATE TABLE tickview.patterns_events (
    version integer NOT NULL, unit text NOT NULL, log text NOT NULL, position bigint NOT NULL,
    recorded_at timestamptz NOT NULL, PRIMARY KEY (version, unit, log, position)
);
INSERT INTO tickview.patterns_events VALUES (2, 'a', 'market-0', 1, now());
INSERT INTO tickview.live_versions VALUES ('pattern_history', 2);
INSERT INTO tickview.segments (name, version, log, position) VALUES ('pattern_history', 2, 'market-0', 1);
"""
"""The tables of a release that had a row for each timeline, with one event folded."""


def test_the_tables_of_a_former_release_are_replaced_and_folded_again(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOG)
    log.append(new_events(detections(5)))
    with database.connection() as connection:
        connection.execute(FORMER_TABLES)
    with running_worker(database, redis, log):
        wait_until(checkpoint_reaches(database, "pattern_history", 10), "the history is folded again")
    answer = query_history(database, [LOG], Query(time() + 1))
    assert (answer.version, answer.page.total) == (ActivePatterns.version, 5)
    [result] = verify_histories(database, [ActivePatterns()], lambda *_: None)
    assert (result.finding, result.events) == (None, 10)
