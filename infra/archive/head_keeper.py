"""The head of the archive in Redis, where a writer to PostgreSQL cannot change it."""

import structlog
from redis.exceptions import OutOfMemoryError

from infra.log.event_log import EventLog
from infra.log.maintenance import ArchivedHead, keep_archived_head, kept_archived_head
from infra.postgres.database import Database
from infra.postgres.statements import load_statements

logger = structlog.get_logger()

_SELECT_ARCHIVED_HASH = load_statements(__package__)["select_archived_hash"]


class HeadKeeper:
    """Keeps the last archived head of one log in Redis, under the lease of its archiver.

    The head in Redis moves on only if the archive extends it. Otherwise it stays, so that verification can name the
    change.
    """

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log
        self._kept: ArchivedHead | None = None
        """The last head that this process has written."""
        self._has_warned = False

    def keep(self, head: ArchivedHead) -> None:
        """Keep a head in Redis if the archive extends the head that Redis keeps.

        Raises:
            ArchiveUnavailableError: PostgreSQL cannot be reached.
            RedisError: Redis cannot be reached.
        """
        if head == self._kept or head.position == 0:
            return
        former = kept_archived_head(self._log)
        if former is not None and former != self._kept:
            if former.position > head.position:
                return  # The archive lost its end, and is catching up.
            if not self._is_archived(former):
                self._warn(former)
                return
        try:
            keep_archived_head(self._log, head)
        except OutOfMemoryError:  # Health names the full Redis. The archiver goes on, and its trim frees memory.
            return
        self._kept = head

    def _is_archived(self, head: ArchivedHead) -> bool:
        values = {"log": self._log.name, "position": head.position}
        with self._database.connection() as connection:
            row = connection.execute(_SELECT_ARCHIVED_HASH, values).fetchone()
        return row is not None and bytes(row[0]) == head.hash

    def _warn(self, head: ArchivedHead) -> None:
        if not self._has_warned:
            logger.error("the archive does not extend the head in Redis", log=self._log.name, position=head.position)
        self._has_warned = True
