"""The scheduled verification: one archiver at a time verifies, in a child process, so that archiving does not wait."""

from collections.abc import Callable
from threading import Event

import psycopg
import structlog
from eventsourcing.persistence import PersistenceError

from infra.archive.verification.verify import last_verification
from infra.postgres.database import Database
from infra.postgres.statements import load_statements
from infra.processes.background import start_in_background
from infra.processes.outage import OutageLog

logger = structlog.get_logger()

CHECK_SECONDS = 5.0
"""Highest number of seconds between two checks whether a verification is due."""

_LOCK = int.from_bytes(b"tkvverif")
"""Number of the advisory lock under which one process verifies."""

_statements = load_statements(__package__)
_IS_VERIFICATION_DUE = _statements["is_verification_due"]
_TRY_VERIFICATION_LOCK = _statements["try_verification_lock"]


def verify_regularly(database: Database, interval: float, stop: Event, verification: Callable[[], None]) -> None:
    """Verify the archive on a schedule until ``stop`` is set. The schedule waits for a server that is away.

    Args:
        database: The archive.
        interval: Seconds between the beginnings of two verifications.
        stop: The event that ends the schedule.
        verification: A function of a module that verifies the archive and records the result. It runs in a new process.
    """
    outage = OutageLog("verification waits", "verification resumed")
    while not stop.wait(min(CHECK_SECONDS, interval)):
        try:
            if _is_due(database, interval):
                _verify_exclusively(database, interval, stop, verification)
            outage.recovered()
        except (PersistenceError, psycopg.Error) as error:
            outage.failed(error)


def _is_due(database: Database, interval: float) -> bool:
    with database.connection() as connection:
        [[is_due]] = connection.execute(_IS_VERIFICATION_DUE, [interval])
    return bool(is_due)


def _verify_exclusively(database: Database, interval: float, stop: Event, verification: Callable[[], None]) -> None:
    with database.open_session() as connection:
        [[is_locked]] = connection.execute(_TRY_VERIFICATION_LOCK, [_LOCK])
        # Another process may have verified between the check and the lock.
        if not is_locked or not _is_due(database, interval):
            return
        if _verify_in_child_process(verification, stop):
            _log_result(database)


def _verify_in_child_process(verification: Callable[[], None], stop: Event) -> bool:
    """Return whether the verification was completed. ``stop`` ends the child process."""
    process = start_in_background(verification)
    while process.is_alive() and not stop.is_set():
        process.join(0.2)
    if process.is_alive():
        process.terminate()
        process.join()
        return False
    if process.exitcode:
        logger.warning("verification failed", exit_code=process.exitcode)
    return process.exitcode == 0


def _log_result(database: Database) -> None:
    verification = last_verification(database)
    if verification is None:
        return
    for log in verification["logs"]:
        if log["misfit"]:
            logger.error("the archive does not fit its hashes", log=log["log"], **log["misfit"])
    for history in verification["histories"]:
        if history["misfit"]:
            logger.error(
                "the history does not follow from the events",
                history=history["history"],
                log=history["log"],
                remedy=f"tickview audit rebuild {history['history']}",
                **history["misfit"],
            )
    for source in verification["heads"]:
        if source["misfit"]:
            logger.error("the kept heads are not valid", origin=source["origin"], reason=source["misfit"])
        elif source["note"]:
            logger.warning("no kept heads were compared", origin=source["origin"], reason=source["note"])
    if verification["ok"]:
        logger.info("archive verified", events=verification["events"], rate=verification["events_per_second"])
