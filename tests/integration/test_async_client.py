"""The asynchronous Redis client: a command waits for a free connection."""

import asyncio

from redis import Redis

from infra.redis.connections import CONNECTIONS, connect_async


def test_more_concurrent_commands_than_connections_all_succeed(redis_url: str, redis: Redis) -> None:
    async def increment() -> list[int]:
        async with connect_async(redis_url) as client:
            return await asyncio.gather(*(client.incr("number") for _ in range(5 * CONNECTIONS)))

    before = redis.info("stats")["total_connections_received"]
    assert sorted(asyncio.run(increment())) == list(range(1, 5 * CONNECTIONS + 1))
    assert redis.info("stats")["total_connections_received"] - before == CONNECTIONS
