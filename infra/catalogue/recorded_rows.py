"""The recorded catalogue: the rows of its read models, after workers have folded all events of the log."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from infra.catalogue.errors import CatalogueError
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from infra.redis.connections import RedisClient
from infra.redis.scans import scan_hash
from projections.base import Projection, read_row
from projections.ports import Segment
from projections.queries import Positions
from projections.versions import Build

SCAN_BATCH = 500
"""Number of rows that one command reads, approximately."""

POLL_SECONDS = 0.05
"""Seconds between two checks of the checkpoints."""

Row = TypeVar("Row")


class RecordedRows:
    """Reads the rows of read models that have folded the log up to given positions.

    Args:
        client: The client of the read models' server.
        heads: The positions, by log.
        wait_seconds: Longest wait for the read models, in seconds.
        pause: Waits for a number of seconds. It may raise an exception to end the synchronization.
    """

    def __init__(
        self, client: RedisClient, heads: Positions, wait_seconds: float, pause: Callable[[float], object]
    ) -> None:
        self._client = client
        self._heads = heads
        self._wait_seconds = wait_seconds
        self._pause = pause

    def read(self, projection: Projection[Row, Any]) -> Mapping[str, Row]:
        """Wait for a read model, then read its rows by key.

        Raises:
            CatalogueError: The read model is still behind after the wait.
        """
        build = self._wait_for_build(projection.name)
        if build is None:
            return {}
        return {
            key.decode(): read_row(projection.row, document).row
            for log in self._heads
            for key, document in scan_hash(
                self._client, SegmentKeys(Segment(projection.name, build, log)).rows, SCAN_BATCH
            )
        }

    def _wait_for_build(self, name: str) -> Build | None:
        """Return the live build once it has folded the logs, or None if the logs are empty."""
        deadline = time.monotonic() + self._wait_seconds
        while any(self._heads.values()):
            build = read_versions(self._client, [name])[name].live
            behind = list(self._heads) if build is None else self._logs_behind(name, build)
            if not behind:
                return build
            if time.monotonic() > deadline:
                raise CatalogueError(
                    f"After {self._wait_seconds:g} seconds, the read model {name} is still behind the log in "
                    f"{', '.join(behind)}. Check that workers run (`tickview project`), then try again."
                )
            self._pause(POLL_SECONDS)
        return None

    def _logs_behind(self, name: str, build: Build) -> list[str]:
        with self._client.pipeline(transaction=False) as pipeline:
            for log in self._heads:
                pipeline.hget(SegmentKeys(Segment(name, build, log)).state, "checkpoint")
            checkpoints = pipeline.execute()
        return [
            log
            for (log, head), checkpoint in zip(self._heads.items(), checkpoints, strict=True)
            if int(checkpoint or 0) < head
        ]
