"""Removal of the keys of dropped builds."""

import time
from collections.abc import Callable, Mapping, Sequence
from threading import Thread

import structlog

from infra.projecting.build_lifecycle import ModelBuild
from infra.read_models.keys import SegmentKeys, fingerprints_key
from infra.read_models.versions import change_versions
from infra.redis.connections import RedisClient
from infra.redis.scans import scan_keys
from projections.ports import Segment
from projections.versions import Build, Versions

logger = structlog.get_logger()

REMOVE_AFTER_SECONDS = 30.0
"""Seconds between the drop of a build and the removal of its keys. Queries of the build end within this time."""

UNLINK_BATCH = 1_000
"""Number of keys that one command removes."""


class DroppedBuilds:
    """The dropped builds that a worker has noticed. The worker removes each of them in a separate thread.

    Args:
        client: The client of the read models' server.
        logs_of: Returns the logs that a read model folds.
    """

    def __init__(self, client: RedisClient, logs_of: Callable[[str], Sequence[str]]) -> None:
        self._client = client
        self._logs_of = logs_of
        self._noticed_at: dict[ModelBuild, float] = {}

    def remove_due(self, versions: Mapping[str, Versions]) -> None:
        """Start the removal of every build that was dropped at least ``REMOVE_AFTER_SECONDS`` ago."""
        now = time.monotonic()
        self._noticed_at = {
            dropped: self._noticed_at.get(dropped, now)
            for dropped in (ModelBuild(name, build) for name in versions for build in versions[name].dropping)
        }
        for dropped, noticed_at in self._noticed_at.items():
            if now - noticed_at > REMOVE_AFTER_SECONDS:
                # A removal that fails is started again after the same time.
                self._noticed_at[dropped] = now
                arguments = (self._client, *dropped, self._logs_of(dropped.read_model))
                Thread(target=remove_build, args=arguments, daemon=True).start()


def remove_build(client: RedisClient, name: str, build: Build, logs: Sequence[str]) -> None:
    """Remove every key of a dropped build. Several workers may do this at the same time, and repeat it."""
    for log in logs:
        keys: list[bytes] = []
        for key in scan_keys(client, SegmentKeys(Segment(name, build, log)).prefix, UNLINK_BATCH):
            keys.append(key)
            if len(keys) == UNLINK_BATCH:
                client.unlink(*keys)
                keys.clear()
        if keys:
            client.unlink(*keys)
    after = change_versions(client, name, lambda versions: versions.dropped(build))
    if build.version not in {remaining.version for remaining in (*after.maintained, *after.dropping)}:
        client.hdel(fingerprints_key(name), str(build.version))
    logger.info("build removed", read_model=name, build=str(build))
