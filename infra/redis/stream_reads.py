"""Reads of many streams at once, which wait for the next entry of any of them.

A server waits for all streams with one command. In a cluster, a command reads the streams of one slot only: each stream
has a read of its own, which stays under way while the caller works with the entries of other streams.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from redis.asyncio import RedisCluster

from infra.redis.connections import AsyncRedisClient

CLUSTER_BLOCK_MILLISECONDS = 5_000
"""Milliseconds for which a read of a cluster waits. It is shorter than the time-out of a connection."""

Entries = list[tuple[bytes, dict[bytes, bytes]]]
"""Entries of a stream: their ids and their fields."""


class _Read(NamedTuple):
    """A read of one stream that is under way."""

    position: str
    task: asyncio.Task[Any]


class StreamReads:
    """The reads of one caller.

    Args:
        client: The client of the server or of the cluster. Each read that is under way occupies a connection.
    """

    def __init__(self, client: AsyncRedisClient) -> None:
        self._client = client
        self._reads: dict[bytes, _Read] = {}

    async def read(
        self, positions: Mapping[bytes, str], count: int, milliseconds: int | None
    ) -> list[tuple[bytes, Entries]]:
        """Read the next entries of the streams that have any.

        Args:
            positions: Stream -> id of the last entry that was read of it.
            count: Highest number of entries of one stream.
            milliseconds: Milliseconds to wait for an entry. None: read what is there.

        Raises:
            RedisError: A server cannot be reached. The next call returns the entries of other servers.
        """
        if not isinstance(self._client, RedisCluster):
            streams: dict[Any, Any] = dict(positions)
            return _parse(await self._client.xread(streams, count, milliseconds))
        if milliseconds is not None:
            return await self._wait(positions, count, milliseconds / 1_000)
        self.cancel()
        async with self._client.pipeline(transaction=False) as pipeline:
            for stream, position in positions.items():
                pipeline.xread({stream: position}, count)
            return [entries for reply in await pipeline.execute() for entries in _parse(reply)]

    async def _wait(self, positions: Mapping[bytes, str], count: int, seconds: float) -> list[tuple[bytes, Entries]]:
        for stream in [each for each, read in self._reads.items() if positions.get(each) != read.position]:
            self._reads.pop(stream).task.cancel()
        for stream, position in positions.items():
            if stream not in self._reads:
                reading = self._client.xread({stream: position}, count, CLUSTER_BLOCK_MILLISECONDS)
                self._reads[stream] = _Read(position, asyncio.ensure_future(reading))
        tasks = {read.task for read in self._reads.values()}
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        done = {stream: read.task for stream, read in self._reads.items() if read.task.done()}
        errors = {stream: error for stream, task in done.items() if (error := task.exception())}
        for stream in errors or done:
            del self._reads[stream]
        for error in errors.values():
            raise error
        return [entries for task in done.values() for entries in _parse(task.result())]

    def cancel(self) -> None:
        """End all reads that are under way."""
        for read in self._reads.values():
            read.task.cancel()
        self._reads.clear()


def _parse(reply: Any) -> list[tuple[bytes, Entries]]:
    """Return the streams and entries of a reply, which RESP2 describes by a list and RESP3 by a map."""
    return [(stream, entries) for stream, entries in (reply.items() if isinstance(reply, dict) else reply or ())]
