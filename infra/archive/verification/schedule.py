"""Verification on a schedule: by one archiver at a time, in a process of its own so that archiving need not wait."""

import multiprocessing
import os
import signal
from threading import Event

import psycopg
import structlog
from eventsourcing.persistence import PersistenceError

from infra.archive.verification.verify import last_verification, record_verification, verify
from infra.postgres.database import CONNECT_SECONDS, Database
from infra.processes.outage import OutageLog

logger = structlog.get_logger()

LOOK_SECONDS = 5.0
"""Between two looks at whether a verification is due; at least, where they are due more often."""

NICENESS = 10
"""Of the process that verifies: archiving goes first."""

_LOCK = int.from_bytes(b"tkvverif")
"""Of the advisory lock."""

_DUE = """
SELECT NOT EXISTS (
    SELECT FROM tickview.verifications WHERE started_at > now() - %s * interval '1 second'
)
"""


def verify_regularly(database: Database, every: float, stop: Event) -> None:
    """Verify the archive ``every`` so many seconds, until ``stop`` is set; a server that is away is waited for."""
    outage = OutageLog("verification waits", "verification goes on")
    while not stop.wait(min(LOOK_SECONDS, every)):
        try:
            if _is_due(database, every):
                _verify_if_nobody_does(database, every, stop)
            outage.recovered()
        except (PersistenceError, psycopg.Error) as error:
            outage.failed(error)


def _is_due(database: Database, every: float) -> bool:
    with database.connection() as connection:
        [[due]] = connection.execute(_DUE, [every])
    return bool(due)


def _verify_if_nobody_does(database: Database, every: float, stop: Event) -> None:
    with psycopg.connect(database.dsn, autocommit=True, connect_timeout=CONNECT_SECONDS) as lock:
        [[locked]] = lock.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        # Somebody may have finished between the look and the lock.
        if not locked or not _is_due(database, every):
            return
        if _verify_in_a_process(database.dsn, stop):
            _tell(database)


def _verify_in_a_process(dsn: str, stop: Event) -> bool:
    """Whether it was done; given up when ``stop`` is set."""
    process = multiprocessing.get_context("spawn").Process(target=_verify_and_record, args=(dsn,), daemon=True)
    process.start()
    while process.is_alive() and not stop.is_set():
        process.join(0.2)
    if process.is_alive():
        process.terminate()
        process.join()
        return False
    if process.exitcode:
        logger.warning("the verification could not be done", exit_code=process.exitcode)
    return process.exitcode == 0


def _verify_and_record(dsn: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the role that began it ends it
    os.nice(NICENESS)
    database = Database(dsn)
    try:
        record_verification(database, verify(database))
    finally:
        database.close()


def _tell(database: Database) -> None:
    verification = last_verification(database)
    if verification is None:
        return
    for log in verification["logs"]:
        if log["misfit"]:
            logger.error("the archive does not fit its hashes", log=log["log"], **log["misfit"])
    if verification["ok"]:
        logger.info("archive verified", events=verification["events"], rate=verification["events_per_second"])
