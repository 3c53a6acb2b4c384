"""How the archive stands: how far it has come with each log, what holds it up, what the logs have lost."""

import time
from collections.abc import Iterable
from typing import Any, cast

from redis import Redis

from domain.streams import USERS_LOG
from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.verification.verify import last_verification
from infra.log.keys import LogKeys
from infra.log.partitions import log_names
from infra.postgres.database import Database
from readapi.ports.archive import ArchivedLog, ArchiveStatus, LogLoss, Verification

LOSSES_TOLD = 10

_SEGMENTS = """
SELECT log, position, CASE WHEN leased_until > now() THEN owner END, error FROM tickview.segments
WHERE name = %s AND version = %s
"""

_LOSSES = """
SELECT log, extract(epoch FROM noticed_at)::float8, epoch, found, restored, seen, string_to_array(rebuilt, ' ')
FROM tickview.losses ORDER BY noticed_at DESC, id DESC LIMIT %s
"""


def read_archive_status(database: Database, client: Redis) -> ArchiveStatus:
    """How the archive stands; ``client`` is of the server that has the logs, in two round trips.

    Raises ArchiveUnavailableError, and what redis-py raises.
    """
    with database.connection() as connection:
        segments = {log: found for log, *found in connection.execute(_SEGMENTS, [ARCHIVE, FORMAT_VERSION])}
        losses = [LogLoss(*told) for told in connection.execute(_LOSSES, [LOSSES_TOLD])]
    names = sorted({*log_names(client), USERS_LOG, *segments})
    positions = {log: segments[log][0] if log in segments else 0 for log in names}
    logs = [
        _archived_log(log, *segments.get(log, (0, None, None)), *found)
        for log, found in zip(names, _logs(client, positions.items()), strict=True)
    ]
    return ArchiveStatus(logs, losses, cast("Verification | None", last_verification(database)))


def _logs(client: Redis, positions: Iterable[tuple[str, int]]) -> list[list[Any]]:
    """Of each log, with a position: its meta data, its first entry, and the first behind the position."""
    with client.pipeline(transaction=False) as pipeline:
        for log, position in positions:
            keys = LogKeys(log)
            pipeline.hmget(keys.meta, ["id", "epoch", "position"])
            pipeline.xrange(keys.log, count=1)
            pipeline.xrange(keys.log, f"({position}-0", count=1)
        replies = pipeline.execute()
    return [replies[at : at + 3] for at in range(0, len(replies), 3)]


def _archived_log(
    log: str, position: int, owner: str | None, error: str | None, meta: list[Any], first: Any, behind: Any
) -> ArchivedLog:
    identity, epoch, head = meta
    age = time.time() - int(behind[0][1][b"recorded_at"]) / 1000 if behind else 0.0
    return ArchivedLog(
        log=log,
        id=identity.decode() if identity else None,
        epoch=int(epoch or 0),
        position=position,
        head=int(head or 0),
        first=int(first[0][0][:-2]) if first else None,
        lag_events=max(0, int(head or 0) - position),
        lag_seconds=round(max(0.0, age), 3),
        owner=owner,
        error=error,
    )
