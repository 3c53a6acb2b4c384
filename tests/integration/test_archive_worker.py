"""``tickview archive`` keeps the history beside the archive: neither waits for what is wrong with the other."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import time

from redis import Redis

from infra.archive.retention import Retention
from infra.archive.worker import ArchiveOptions, ArchiveWorker
from infra.log.event_log import EventLog
from infra.postgres.database import Database
from projections.queries import PatternQuery
from projections.versions import Build
from tests.archiving import archived_log
from tests.events import new_events
from tests.integration.test_pattern_history_projector import detections
from tests.integration.test_retention import begin_builds, fold
from tests.pattern_history import history_lease, scan_history
from tests.processes.roles import wait_until

LOG = "market-0"
KEEP = Retention(age=86_400, size=100_000)


@contextmanager
def kept(database: Database, redis: Redis, log: EventLog, retention: Retention = KEEP) -> Iterator[None]:
    """The log's keeper, in a thread."""
    stop = Event()
    keeper = ArchiveWorker(database, redis, log, "keeper", ArchiveOptions(5, 50, retention))
    thread = Thread(target=keeper.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def segment(database: Database, name: str, log: str = LOG) -> tuple[int, str | None, bool]:
    """Checkpoint, what holds it up, whether it is leased."""
    statement = "SELECT position, error, leased_until > now() FROM tickview.segments WHERE name = %s AND log = %s"
    with database.connection() as connection:
        return connection.execute(statement, [name, log]).fetchone() or (0, None, False)


def reaches(database: Database, name: str, position: int) -> Callable[[], bool]:
    return lambda: segment(database, name)[0] == position


def test_the_history_is_kept_beside_the_archive_and_its_lease_given_back(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOG)
    log.append(new_events(detections(60)))
    with kept(database, redis, log):
        wait_until(reaches(database, "pattern_history", 120), "all is folded")
        log.append(new_events(detections(1, "MSFT")))
        wait_until(reaches(database, "pattern_history", 122), "what came later too")
    assert segment(database, "pattern_history") == (122, None, False)
    assert scan_history(database, [LOG], PatternQuery(time() + 1)).page.total == 61


def test_the_log_of_the_users_has_no_history(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, "users")
    log.append(new_events(detections(1)))
    with kept(database, redis, log):
        wait_until(lambda: segment(database, "archive", "users")[0] == 2, "it is archived")
    with database.connection() as connection:
        assert connection.execute("SELECT FROM tickview.segments WHERE name = 'pattern_history'").rowcount == 0


def test_what_is_wrong_with_the_history_holds_up_neither_archiving_nor_trimming(
    redis: Redis, database: Database
) -> None:
    log = archived_log(redis, database, LOG)
    log.append(new_events(detections(2)))
    with database.connection() as connection:
        connection.execute("ALTER TABLE tickview.pattern_history ADD CONSTRAINT broken CHECK (symbol <> 'AAPL')")
    with kept(database, redis, log, Retention(age=86_400, size=2)):
        wait_until(lambda: "broken" in (segment(database, "pattern_history")[1] or ""), "the error is noted")
        log.append(new_events(detections(3, "MSFT")))
        wait_until(reaches(database, "archive", 10), "what came later is archived")
        begin_builds(redis)
        fold(redis, log, Build(1, 1))
        wait_until(lambda: redis.xlen(log.keys.log) == 2, "the log is trimmed")
        assert segment(database, "pattern_history")[0] == 0
        with database.connection() as connection:
            connection.execute("ALTER TABLE tickview.pattern_history DROP CONSTRAINT broken")
        wait_until(reaches(database, "pattern_history", 10), "it is tried again")
        assert segment(database, "pattern_history")[1] is None
    assert scan_history(database, [LOG], PatternQuery(time() + 1)).page.total == 5


def test_code_that_is_older_than_what_answers_leaves_the_history_alone(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOG)
    log.append(new_events(detections(1)))
    with database.connection() as connection:
        connection.execute("INSERT INTO tickview.live_versions VALUES ('pattern_history', 2)")
    with kept(database, redis, log):
        wait_until(reaches(database, "archive", 2), "it is archived")
        log.append(new_events(detections(1, "MSFT")))
        wait_until(reaches(database, "archive", 4), "a round later")
    assert segment(database, "pattern_history") == (0, None, False)


def test_the_former_version_is_removed_once_nobody_works_on_it(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOG)
    log.append(new_events(detections(1)))
    history_lease(database, LOG, version=0, seconds=0)
    with database.connection() as connection:
        connection.execute("INSERT INTO tickview.live_versions VALUES ('pattern_history', 0)")
        connection.execute("INSERT INTO tickview.pattern_events VALUES (0, 'a', 'market-0', 1, now())")

    def versions() -> set[int]:
        with database.connection() as connection:
            found = connection.execute("SELECT version FROM tickview.segments WHERE name = 'pattern_history'")
            return {version for (version,) in found}

    with kept(database, redis, log):
        wait_until(lambda: versions() == {1}, "the former is removed")
    assert scan_history(database, [LOG], PatternQuery(time() + 1)).version == 1
    with database.connection() as connection:
        assert connection.execute("SELECT FROM tickview.pattern_events WHERE version = 0").rowcount == 0
