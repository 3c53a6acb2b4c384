"""Erasure of the row of one key from all builds of a read model, also from builds that no worker folds."""

import time
from collections.abc import Iterable

from redis import Redis

from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from infra.redis.functions import call
from projections.base import ALL_INDEX
from projections.fold import STREAM_KEY_PREFIX
from projections.ports import Segment
from projections.versions import Versions

POLL_SECONDS = 0.05
"""Seconds between two reads of the checkpoints."""


def erase_row(client: Redis, read_model: str, log: str, key: str, stream: str, position: int) -> int:
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


def wait_until_folded(client: Redis, read_model: str, log: str, position: int, seconds: float) -> bool:
    """Wait until every build on which a worker works has folded the log up to a position.

    Returns:
        Whether this was reached in time. False also if no worker works on a build.
    """
    deadline = time.monotonic() + seconds
    while True:
        states = [_state(client, segment) for segment in _segments(client, read_model, log, dropping=False)]
        behind = [is_leased for checkpoint, is_leased in states if checkpoint < position]
        if not behind or not any(behind) or time.monotonic() > deadline:
            return not behind
        time.sleep(POLL_SECONDS)


def _state(client: Redis, segment: Segment) -> tuple[int, bool]:
    """Return the checkpoint of a segment, and whether a worker has the lease on it."""
    checkpoint, leased_until = client.hmget(SegmentKeys(segment).state, ["checkpoint", "leased_until"])
    return int(checkpoint or 0), int(leased_until or 0) > time.time() * 1000


def _segments(client: Redis, read_model: str, log: str, *, dropping: bool = True) -> Iterable[Segment]:
    versions: Versions = read_versions(client, [read_model])[read_model]
    builds = (*versions.maintained, *(versions.dropping if dropping else ()))
    return [Segment(read_model, build, log) for build in builds]
