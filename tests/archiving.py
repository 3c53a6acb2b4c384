"""What tests of the archive share: a log with an archive behind it, and an archiver that runs to the log's end."""

from redis import Redis

from infra.archive.archiver import ARCHIVE, FORMAT_VERSION, Archiver
from infra.archive.leases import PostgresLease, acquire_lease
from infra.archive.log_archive import PostgresArchive
from infra.log.event_log import EventLog
from infra.postgres.database import Database


def archived_log(client: Redis, database: Database, name: str = "market-0", keep: int = 1_000) -> EventLog:
    """A log behind which there is an archive; of a loss, ``keep`` events are put back."""
    archive = PostgresArchive(database, client, restore_limit=keep, partitions=4)
    return EventLog(client, name, archive=archive)


def acquire_archiver_lease(database: Database, log: str, owner: str = "archiver", seconds: float = 60) -> PostgresLease:
    """The lease on the archiving of a log."""
    with database.connection() as connection:
        lease = acquire_lease(connection, ARCHIVE, FORMAT_VERSION, log, owner, seconds)
    assert lease is not None
    return lease


def archive_to_end(database: Database, log: EventLog, batch_size: int = 100) -> int:
    """Archive the log to its end; returns how many events that were."""
    log.open()
    archiver = Archiver(database, log, acquire_archiver_lease(database, log.name), batch_size)
    archived = 0
    while entries := archiver.step(0):
        archived += len(entries)
    return archived
