"""Event logs for tests."""

from redis import Redis

from domain.partitions import Partitions
from infra.log.directory import LogDirectory
from infra.log.event_log import EventLog


def open_directory(client: Redis, partitions: int, *others: str) -> LogDirectory:
    """Open the partitions of a market log and other logs, without an archive."""
    return LogDirectory(client, lambda name: EventLog(client, name), Partitions.of(partitions), others)
