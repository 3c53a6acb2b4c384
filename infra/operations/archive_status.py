"""The status of the archive: its progress and errors by log, the losses of logs, and the last verification."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.verification.verify import last_verification
from infra.log.keys import LogKeys
from infra.log.lag import compute_lag
from infra.log.partitions import all_log_names
from infra.postgres.database import Database
from infra.postgres.statements import load_statements
from infra.redis.connections import RedisClient
from readapi.ports.archive import ArchivedLog, ArchiveStatus, LogLoss, Verification

LOSS_LIMIT = 10
"""Highest number of losses that a status lists."""

_statements = load_statements(__package__)
_SELECT_ARCHIVE_SEGMENTS = _statements["select_archive_segments"]
_SELECT_LOSSES = _statements["select_losses"]


class _Segment(NamedTuple):
    """The archive's work on one log."""

    position: int = 0
    owner: str | None = None
    error: str | None = None


def read_archive_status(database: Database, client: RedisClient) -> ArchiveStatus:
    """Read the status of the archive.

    Args:
        database: The archive.
        client: The Redis server that holds the logs. The reads take two round trips.

    Raises:
        ArchiveUnavailableError: The archive cannot be reached.
        RedisError: Redis cannot be reached.
    """
    with database.connection() as connection:
        rows = connection.execute(_SELECT_ARCHIVE_SEGMENTS, [ARCHIVE, FORMAT_VERSION])
        segments = {log: _Segment(*columns) for log, *columns in rows}
        losses = [LogLoss(*row) for row in connection.execute(_SELECT_LOSSES, [LOSS_LIMIT])]
    names = sorted({*all_log_names(client), *segments})
    logs = _archived_logs(client, {log: segments.get(log, _Segment()) for log in names})
    return ArchiveStatus(logs, losses, cast("Verification | None", last_verification(database)))


def _archived_logs(client: RedisClient, segments: Mapping[str, _Segment]) -> list[ArchivedLog]:
    with client.pipeline(transaction=False) as pipeline:
        for log, segment in segments.items():
            keys = LogKeys(log)
            pipeline.hmget(keys.meta, ["id", "epoch", "position"])
            pipeline.xrange(keys.log, count=1)
            pipeline.xrange(keys.log, f"({segment.position}-0", count=1)
        replies = pipeline.execute()
    return [
        _archived_log(log, segment, replies[start : start + 3])
        for (log, segment), start in zip(segments.items(), range(0, len(replies), 3), strict=True)
    ]


def _archived_log(log: str, segment: _Segment, replies: list[Any]) -> ArchivedLog:
    """Return the status of a log from its meta data, its first entry, and its first entry that is not archived."""
    (log_id, epoch, position), first_entries, next_entries = replies
    head = int(position or 0)
    lag = compute_lag(head, segment.position, next_entries)
    return ArchivedLog(
        log=log,
        id=log_id.decode() if log_id else None,
        epoch=int(epoch or 0),
        position=segment.position,
        head=head,
        first=int(first_entries[0][0][:-2]) if first_entries else None,
        lag_events=lag.events,
        lag_seconds=lag.seconds,
        owner=segment.owner,
        error=segment.error,
    )
