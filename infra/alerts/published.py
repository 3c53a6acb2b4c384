"""The alerts for live connections: a Redis stream from which every API process reads."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import orjson

from infra.redis.connections import AsyncRedisClient

STREAM = "tickview:{@alerts}:published"
"""The key of the stream. Fields: ``user``, and ``alert`` as JSON."""

KEPT = 10_000
"""Approximate number of alerts in the stream. An API process that reads more slowly misses the older ones."""

READ_BATCH = 100
"""Highest number of alerts that one command reads."""

BLOCK_MILLISECONDS = 1_000
"""Milliseconds that a read waits for alerts."""


class PublishedAlert(NamedTuple):
    """An alert for the live connections of a user."""

    user: str
    content: dict[str, Any]


async def publish(client: AsyncRedisClient, user: str, content: dict[str, Any]) -> None:
    """Publish an alert to the live connections of a user. Raises RedisError."""
    await client.xadd(STREAM, {"user": user, "alert": orjson.dumps(content)}, maxlen=KEPT)


class PublishedAlerts:
    """Reads the alerts that are published from the first read on.

    Args:
        client: A client of which one connection waits for alerts.
    """

    def __init__(self, client: AsyncRedisClient) -> None:
        self._client = client
        self._last: bytes | None = None

    async def read(self) -> AsyncIterator[PublishedAlert]:
        """Yield the next alerts. Wait for a moment if there are none. Raises RedisError."""
        if self._last is None:
            latest: Any = await self._client.xrevrange(STREAM, count=1)
            self._last = latest[0][0] if latest else b"0-0"
        reply: Any = await self._client.xread({STREAM: self._last}, READ_BATCH, BLOCK_MILLISECONDS)
        streams = reply.items() if isinstance(reply, dict) else reply or ()
        for _, entries in streams:
            for entry_id, fields in entries:
                self._last = entry_id
                yield PublishedAlert(fields[b"user"].decode(), orjson.loads(fields[b"alert"]))
