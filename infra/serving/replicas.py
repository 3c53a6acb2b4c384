"""Replicas: read models whose rows an API process keeps in memory, loaded from Redis and kept current by the follower.

A replica is loaded page by page, and commits are applied between the pages. A later read returns newer data, so after
the last page and the commits behind it the replica equals the rows in Redis. Until then, and where there are more rows
than the bound allows, other queries answer. After a switch, the replica of the previous build stays current and answers
until the replica of the new build is complete.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import structlog

from infra.redis.connections import AsyncRedisClient
from infra.redis.scans import ScanInterruptedError, read_hash_pages
from infra.serving.changes import ChangesCursor, Entry, commit
from infra.serving.live_read_model import LiveReadModel, OpenQueries
from projections.base import Projection
from projections.versions import Build
from readapi.ports.commits import Commit
from readapi.replica.replica import Replica

logger = structlog.get_logger()

PAGE_ROWS = 250
"""Approximate number of rows of one log that one HSCAN command returns."""

RETRY_SECONDS = 30.0
"""Seconds until a read model with too many rows for a replica is checked again."""


class _Loading:
    """A replica that is being loaded."""

    def __init__(self, cursor: ChangesCursor, replica: Replica) -> None:
        self.cursor = cursor
        self.replica = replica
        self._scan_cursors: dict[str, int] = dict.fromkeys(cursor.keys, 0)
        self._processes: dict[str, str] = {}
        """Log -> id of the server process that has given out the cursor of its scan."""

    @property
    def has_all_pages(self) -> bool:
        """Whether all pages are loaded, so that only commits are missing."""
        return not self._scan_cursors

    async def load_pages(self, client: AsyncRedisClient) -> bool:
        """Load the next page of each log. Return False if the server was replaced, so that rows would be missing."""
        cursors = {self.cursor.keys[log].rows: scan_cursor for log, scan_cursor in self._scan_cursors.items()}
        try:
            pages = await read_hash_pages(client, cursors, PAGE_ROWS)
        except ScanInterruptedError:
            return False
        for log, page in zip(list(self._scan_cursors), pages.values(), strict=True):
            if self._processes.setdefault(log, page.process) != page.process:
                return False
            self.replica.put(log, [(key.decode(), document) for key, document in page.fields.items()])
            if page.cursor == 0:
                del self._scan_cursors[log]
            else:
                self._scan_cursors[log] = page.cursor
            await asyncio.sleep(0)
        return True


class ReplicatedReadModel(LiveReadModel):
    """The live build of a read model, answered from a replica.

    While the replica answers, commits carry the old documents of the rows. If the projection merges rows of several
    logs, commits carry merged documents, and listeners receive no commits while there is no replica to merge them.

    Args:
        projection: The projection of the read model.
        logs: The logs that the read model folds.
        open_queries: Creates the queries to a build that answer while there is no replica.
        max_rows: Highest number of rows of a replica. 0 means that there is no replica.
    """

    def __init__(
        self,
        projection: Projection[Any, Any],
        logs: Sequence[str],
        open_queries: OpenQueries,
        max_rows: int,
    ) -> None:
        super().__init__(projection, logs, open_queries)
        self._projection = projection
        self._max_rows = max_rows
        self._replica: Replica | None = None
        self._loading: _Loading | None = None
        self._retry_at = 0.0

    @property
    def replica(self) -> Replica | None:
        """The replica that answers queries, or None if there is none."""
        return self._replica

    @property
    def cursors(self) -> Sequence[ChangesCursor]:
        """The cursors whose streams the follower must read: of the live build, and of the replica being loaded."""
        loading = [self._loading.cursor] if self._loading else []
        return [cursor for cursor in super().cursors if cursor not in loading] + loading

    @property
    def is_loading(self) -> bool:
        """Whether a replica is being loaded."""
        return self._loading is not None

    @property
    def _tells_commits(self) -> bool:
        return self._replica is not None or not self._projection.merges()

    def note_missing_build(self) -> None:
        """Let an empty replica answer: while no build is live on the server, there are no rows."""
        current = self.current
        if current.build.number == 0 and self._max_rows > 0 and not isinstance(current.queries, Replica):
            self.move_to(current.build, current.positions, Replica(self._projection))

    async def follow_build(self, client: AsyncRedisClient, build: Build) -> None:
        """Follow ``build``, which is live on the server, and load its replica."""
        if self._loading and self._loading.cursor.build != build:
            self._loading = None
        if self._replica is None or self._cursor is None:
            await super().follow_build(client, build)
        if self._loading is None and self._needs_replica(build) and await self._fits(client, build):
            await self._start_loading(client, build)

    def _needs_replica(self, build: Build) -> bool:
        exists = self._replica is not None and self._cursor is not None and self._cursor.build == build
        return not exists and self._max_rows > 0 and time.monotonic() >= self._retry_at

    async def _start_loading(self, client: AsyncRedisClient, build: Build) -> None:
        cursor = self._cursor
        if cursor is None or cursor.build != build:
            cursor = ChangesCursor(self.name, build, self.logs)
            await cursor.start(client)
        self._loading = _Loading(cursor, Replica(self._projection))

    async def _fits(self, client: AsyncRedisClient, build: Build) -> bool:
        async with client.pipeline(transaction=False) as pipeline:
            for keys in ChangesCursor(self.name, build, self.logs).keys.values():
                pipeline.hlen(keys.rows)
            rows: int = sum(await pipeline.execute())
        if rows > self._max_rows:
            self._drop_replica(rows)
        return rows <= self._max_rows

    def _drop_replica(self, rows: int) -> None:
        """Free the replica, which has too many rows, and let the other queries answer."""
        logger.warning("too many rows for a replica", read_model=self.name, rows=rows, max_rows=self._max_rows)
        self._loading, self._replica = None, None
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if self._cursor:
            self.move_to(self._cursor.build, self._cursor.positions, self._open_queries(self._cursor.build, self.logs))

    def apply(self, cursor: ChangesCursor, log: str, entry: Entry) -> None:
        """Apply the next entry that ``cursor`` has read."""
        # The listeners come first: they need the documents from before the commit.
        super().apply(cursor, log, entry)
        if cursor is self._cursor and self._replica is not None:
            self._replica.put(log, entry.rows)
        if self._loading and cursor is self._loading.cursor:
            self._loading.replica.put(log, entry.rows)

    def _commit(self, build: Build, log: str, entry: Entry) -> Commit:
        return commit(build, log, entry, None if self._replica is None else self._replica.changes(log, entry.rows))

    def discard(self, cursor: ChangesCursor) -> None:
        """Stop reading with ``cursor``, which misses a commit, and drop its replica."""
        if self._loading and cursor is self._loading.cursor:
            self._loading = None
        if cursor is self._cursor:
            self._cursor, self._replica = None, None

    async def end_round(self, client: AsyncRedisClient, *, all_read: bool) -> None:
        """Finish one round of reading: load the next pages, or let the loaded replica answer."""
        loading = self._loading
        if loading and not loading.has_all_pages:
            if await loading.load_pages(client):
                self._check_bound(loading.replica)
            else:
                logger.info("Redis replaced, replica is loaded again", read_model=self.name)
                self._loading = None
        elif loading and all_read:
            await self._answer_from(loading)
        if self._replica is not None:
            self._check_bound(self._replica)
        await super().end_round(client, all_read=all_read)

    async def _answer_from(self, loading: _Loading) -> None:
        started = time.monotonic()
        await asyncio.to_thread(loading.replica.prepare, time.time())
        cursor = loading.cursor
        if cursor is not self._cursor or not self._tells_commits:
            for listener in self._commit_listeners:
                listener.start_build(cursor.build, dict(cursor.last_commits))
        self._cursor, self._replica, self._loading = cursor, loading.replica, None
        self.move_to(cursor.build, cursor.positions, loading.replica)
        logger.info(
            "replica answers",
            read_model=self.name,
            build=str(cursor.build),
            rows=len(loading.replica),
            prepared_in=round(time.monotonic() - started, 3),
        )

    def _check_bound(self, replica: Replica) -> None:
        if len(replica) > self._max_rows:
            self._drop_replica(len(replica))
