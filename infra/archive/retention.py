"""Retention of a log: events that the archive and every read model have passed are trimmed by age and by number."""

import time
from dataclasses import dataclass

from infra.log.event_log import EventLog
from infra.log.maintenance import TRIM_BATCH, trim
from infra.read_models.checkpoints import read_checkpoints
from infra.redis.connections import RedisClient


@dataclass(frozen=True)
class Retention:
    """The events that a log keeps although no reader needs them any more."""

    age: float
    """Highest age of an event, in seconds."""
    size: int
    """Highest number of events."""


def trim_log(log: EventLog, client: RedisClient, archived: int, retention: Retention) -> int:
    """Trim a log.

    Args:
        log: The log.
        client: The Redis server that holds the read models.
        archived: The position up to which the log is archived. Later events stay.
        retention: The events to keep.

    Returns:
        The number of events that were removed from the log.
    """
    passed = min([archived, *(checkpoint.position for checkpoint in read_checkpoints(client, log.name))])
    surplus = log.head() - retention.size
    total = 0
    while True:
        removed = trim(log, upto=passed, surplus=surplus, oldest=time.time() - retention.age)
        total += removed
        if removed < TRIM_BATCH:
            return total
