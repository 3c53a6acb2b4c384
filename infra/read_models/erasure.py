"""Erasure of the row of one key from all builds of a read model, also from builds that no worker folds."""

import time

from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from infra.redis.connections import RedisClient
from infra.redis.functions import call
from projections.base import ALL_INDEX
from projections.decoding import STREAM_KEY_PREFIX
from projections.ports import Segment

POLL_SECONDS = 0.05
"""Seconds between two reads of the checkpoints."""


def erase_row(client: RedisClient, read_model: str, log: str, key: str, stream: str, position: int) -> int:
    """Erase a row and its parked events from every build, up to a position of the log. Later changes stay.

    The read model must have no index but the index of all rows, and no counts.

    Args:
        client: The server that has the read model.
        read_model: The name of the read model.
        log: The name of the log of the segment.
        key: The key of the row.
        stream: The stream of the events of the row.
        position: The position up to which data are erased.

    Returns:
        The number of builds that had the row.
    """
    erased = 0
    for names in map(SegmentKeys, _segments(client, read_model, log)):
        parked_keys = [key, STREAM_KEY_PREFIX + stream]
        keys = [names.rows, names.index(ALL_INDEX), names.parked, names.retry, *map(names.parked_events, parked_keys)]
        erased += call(client, "erase_row", keys, [position, key, *parked_keys])
    return erased


def wait_until_folded(client: RedisClient, read_model: str, log: str, position: int, seconds: float) -> bool:
    """Wait until every build on which a worker works has folded the log up to a position.

    Returns:
        Whether the live build has folded the log up to this position. True also if there is no build yet.
    """
    deadline = time.monotonic() + seconds
    while True:
        versions = read_versions(client, [read_model])[read_model]
        states = {build: _state(client, Segment(read_model, build, log)) for build in versions.maintained}
        is_behind = any(is_leased and checkpoint < position for checkpoint, is_leased in states.values())
        if not is_behind or time.monotonic() > deadline:
            return versions.live is None or states[versions.live][0] >= position
        time.sleep(POLL_SECONDS)


def _state(client: RedisClient, segment: Segment) -> tuple[int, bool]:
    """Return the checkpoint of a segment, and whether a worker has the lease on it."""
    checkpoint, leased_until = client.hmget(SegmentKeys(segment).state, ["checkpoint", "leased_until"])
    return int(checkpoint or 0), int(leased_until or 0) > time.time() * 1000


def _segments(client: RedisClient, read_model: str, log: str) -> list[Segment]:
    """Return the segments of all builds, also of those that are about to be removed."""
    versions = read_versions(client, [read_model])[read_model]
    return [Segment(read_model, build, log) for build in (*versions.maintained, *versions.dropping)]
