"""Helpers for tests of the archive: a log with an archive, the lease of an archiver, archiving to the end of a log."""

from redis import Redis

from infra.archive.archiver import ARCHIVE, FORMAT_VERSION, Archiver
from infra.archive.leases import PostgresLease, acquire_lease
from infra.archive.log_archive import PostgresArchive
from infra.log.event_log import EventLog
from infra.postgres.database import Database


def archived_log(client: Redis, database: Database, name: str = "market-0", restore_limit: int = 1_000) -> EventLog:
    """Build a log with an archive. A restore puts back at most ``restore_limit`` events."""
    archive = PostgresArchive(database, client, restore_limit=restore_limit, partitions=4)
    return EventLog(client, name, archive=archive)


def acquire_archiver_lease(database: Database, log: str, owner: str = "archiver", seconds: float = 60) -> PostgresLease:
    """Acquire the lease of the archiver of a log."""
    with database.connection() as connection:
        lease = acquire_lease(connection, ARCHIVE, FORMAT_VERSION, log, owner, seconds)
    assert lease is not None
    return lease


def archive_to_end(database: Database, log: EventLog, batch_size: int = 100) -> int:
    """Archive a log to its end. Return the number of events archived."""
    log.open()
    archiver = Archiver(database, log, acquire_archiver_lease(database, log.name), batch_size)
    archived = 0
    while entries := archiver.step(0):
        archived += len(entries)
    return archived
