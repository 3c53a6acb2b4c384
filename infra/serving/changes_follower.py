"""The follower of an API process: it keeps all live read models current.

It waits for commits on the ``changes`` streams of all read models. While commits arrive, the follower reads
ten times a second which builds are live; otherwise twice a second. It applies the commits one after the other:
they move the positions in the answers, update the replicas, and go to the listeners.
"""

import asyncio
import time
from collections.abc import Collection
from itertools import islice
from math import inf
from typing import Any

import structlog
from redis.exceptions import RedisError

from domain.streams import MARKET_LOG
from infra.heartbeats.progress import Progress
from infra.log.bounds import entries_within
from infra.log.partitions import LOGS_KEY, parse_partitions
from infra.read_models.keys import versions_key
from infra.read_models.versions import parse_versions
from infra.redis.connections import AsyncRedisClient
from infra.redis.stream_reads import StreamReads
from infra.serving.changes import ChangesCursor, CommitMissingError
from infra.serving.freshness import RedisFreshness
from infra.serving.live_read_model import LiveReadModel

logger = structlog.get_logger()

BLOCK_MILLISECONDS = 500
"""Milliseconds that a read waits for commits, and so the longest time for which a switch goes unnoticed."""

VERSIONS_SECONDS = 0.1
"""Seconds between two reads of the live builds while commits arrive. Each costs about as much as applying a commit."""

GATHER_SECONDS = 0.005
"""Seconds between two reads. Commits that arrive in between are read together, so that a busy log costs little."""

ENTRIES_AT_ONCE = 100
"""Highest number of entries of one stream that one command reads."""

READ_BYTES = 32 * 1024 * 1024
"""Approximate number of bytes of the entries of one stream that one command reads."""

ROWS_AT_ONCE = 200
"""Approximate number of rows after which the event loop gets a turn for requests."""

RETRY_SECONDS = 0.5
"""Seconds between two attempts while Redis is unavailable."""


class ChangesFollower:
    """Moves all live read models of a process from commit to commit and from build to build.

    Args:
        client: A client of which one connection waits for commits, or one per stream in a cluster.
        read_models: All read models of the process. Their listeners are registered already.
        freshness: Records every answer and every failure of Redis.
    """

    def __init__(
        self, client: AsyncRedisClient, read_models: Collection[LiveReadModel], freshness: RedisFreshness
    ) -> None:
        self._client = client
        self._reads = StreamReads(client)
        self._read_models = read_models
        self._freshness = freshness
        self._versions_read_at = -inf
        self._count = ENTRIES_AT_ONCE
        self.progress = Progress()

    def begin(self) -> None:
        """Start the measurement of progress and freshness in the process that is going to run this follower."""
        self.progress.begin()
        self._freshness.begin()

    async def load(self) -> None:
        """Read which builds are live, and start to follow new builds and partitions. One round trip if there are none.

        A restarted server may have fewer commits than were read from it. Such a build is started again, too.

        Raises:
            RedisError: Redis cannot be reached.
        """
        followed = [(read_model, cursor) for read_model in self._read_models for cursor in read_model.cursors]
        async with self._client.pipeline(transaction=False) as pipeline:
            for read_model in self._read_models:
                pipeline.get(versions_key(read_model.name))
            for _, cursor in followed:
                for keys in cursor.keys.values():
                    pipeline.hget(keys.state, "checkpoint")
            pipeline.hget(LOGS_KEY, MARKET_LOG)
            *received, partitions = await pipeline.execute()
        replies = iter(received)
        self._freshness.answered()
        self._versions_read_at = time.monotonic()
        stored = list(islice(replies, len(self._read_models)))
        for read_model, cursor in followed:
            try:
                cursor.check_checkpoints(list(islice(replies, len(cursor.keys))))
            except CommitMissingError as error:
                self._discard(read_model, cursor, error)
        if known := parse_partitions(partitions):
            for read_model in self._read_models:
                read_model.add_logs(known.names)
        for read_model, versions in zip(self._read_models, stored, strict=True):
            live = parse_versions(versions or b"").live
            if live:
                await read_model.follow_build(self._client, live)
            else:
                read_model.note_missing_build()

    async def run(self) -> None:
        """Follow the read models until cancelled. While Redis is unavailable, they stay unchanged."""
        try:
            while True:
                await self._run_round()
        finally:
            self._reads.cancel()

    async def _run_round(self) -> None:
        try:
            if time.monotonic() > self._versions_read_at + VERSIONS_SECONDS:
                await self.load()
            await self._read()
            self.progress.made()
        except RedisError as error:
            self.progress.failed(error)
            self._freshness.failed(error)
            self._versions_read_at = -inf
            await asyncio.sleep(RETRY_SECONDS)

    async def _read(self) -> None:
        """Read and apply the next commits. Wait for a moment if there are none."""
        cursors = {
            stream: (read_model, cursor)
            for read_model in self._read_models
            for cursor in read_model.cursors
            for stream in cursor.streams()
        }
        positions = {
            stream: entry_id for _, cursor in cursors.values() for stream, entry_id in cursor.streams().items()
        }
        loading = any(read_model.is_loading for read_model in self._read_models)
        if not positions:
            await asyncio.sleep(BLOCK_MILLISECONDS / 1_000)
            return
        count = self._count
        streams = await self._reads.read(positions, count, None if loading else BLOCK_MILLISECONDS)
        self._freshness.answered()
        if received := [entry for _, entries in streams for entry in entries]:
            self._count = min(ENTRIES_AT_ONCE, entries_within(READ_BYTES, received))
        for stream, entries in streams:
            await self._apply(*cursors[stream], stream, entries)
        all_read = all(len(entries) < count for _, entries in streams)
        for read_model in self._read_models:
            await read_model.end_round(self._client, all_read=all_read)
        await asyncio.sleep(0 if loading else GATHER_SECONDS)

    async def _apply(self, read_model: LiveReadModel, cursor: ChangesCursor, stream: bytes, entries: Any) -> None:
        try:
            rows = 0
            for log, entry in cursor.advance(stream, entries):
                read_model.apply(cursor, log, entry)
                rows += len(entry.rows)
                if rows > ROWS_AT_ONCE:
                    rows = 0
                    await asyncio.sleep(0)
        except CommitMissingError as error:
            self._discard(read_model, cursor, error)

    def _discard(self, read_model: LiveReadModel, cursor: ChangesCursor, error: CommitMissingError) -> None:
        logger.warning(
            "commit missing, build is loaded again",
            read_model=read_model.name,
            build=str(cursor.build),
            reason=str(error),
        )
        read_model.discard(cursor)
