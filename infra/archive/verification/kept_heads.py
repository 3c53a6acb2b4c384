"""Heads that are kept outside of the archive, with which verification compares the chains.

Whoever can write to PostgreSQL can cut off the newest events, or compute all hashes again, so that the chain fits. The
heads in Redis, and those that a schedule writes to a file, are out of this writer's reach.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from infra.log.event_log import EventLog
from infra.log.maintenance import kept_archived_head
from infra.log.partitions import all_log_names
from infra.redis.connections import RedisClient


class KeptHead(NamedTuple):
    """The end of the chain of one log at an earlier time."""

    log: str
    position: int
    hash: bytes


class HeadSource(NamedTuple):
    """A place that keeps heads, and the heads that it keeps."""

    origin: str
    heads: Sequence[KeptHead] = ()
    finding: str | None = None
    """Why the place proves that something was changed, such as a forged signature; None if it does not."""
    note: str | None = None
    """Why the place has no heads; None if it has some."""

    def document(self) -> dict[str, Any]:
        """Return the source as it is recorded and printed."""
        return {"origin": self.origin, "heads": len(self.heads), "misfit": self.finding, "note": self.note}


def read_heads_in_redis(client: RedisClient) -> HeadSource:
    """Read the heads that archivers keep in Redis. While Redis is unavailable, the result has no heads and a note."""
    try:
        heads = [
            KeptHead(name, *head)
            for name in all_log_names(client)
            if (head := kept_archived_head(EventLog(client, name)))
        ]
    except RedisError as error:
        return HeadSource("redis", note=f"Redis cannot be read: {' '.join(str(error).split())}")
    return HeadSource("redis", heads, note=None if heads else "no archiver has kept heads yet")
