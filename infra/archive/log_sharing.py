"""Sharing of the logs among archivers: which logs an archiver should archive, by the heartbeats of all archivers."""

from collections.abc import Iterable

from infra.heartbeats.heartbeats import read_liveness
from infra.redis.connections import RedisClient

ROLE = "archive"
"""Name of the heartbeats of archivers."""

HEARD_SECONDS = 3.0
"""Shortest time after its last heartbeat for which an archiver counts, in seconds. It writes one per second."""


def has_share_in(client: RedisClient, log: str, logs: Iterable[str], owner: str, lease_seconds: float) -> bool:
    """Return whether an archiver should archive a log. The shares of the archivers differ by one log at most.

    Archivers may disagree for a moment after one of them has started or ended. Their leases decide then.

    Args:
        client: The client of the server that holds the heartbeats.
        log: The name of the log.
        logs: The names of all logs, in the same order for every archiver.
        owner: The name of the archiver.
        lease_seconds: Duration of a lease. An archiver without a heartbeat for this time does not count.

    Raises:
        RedisError: Redis cannot be reached.
    """
    ages = read_liveness(client, [ROLE])[ROLE].ages
    seconds = max(lease_seconds, HEARD_SECONDS)
    archivers = sorted({owner, *(archiver for archiver, age in ages.items() if age < seconds)})
    return list(logs).index(log) % len(archivers) == archivers.index(owner)
