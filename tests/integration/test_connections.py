"""The asynchronous client: who asks while all its connections are in use waits, and is not told that Redis is away."""

import asyncio

from redis import Redis

from infra.redis.connections import CONNECTIONS, connect_async


def test_more_questions_at_once_than_connections_are_all_answered(redis_url: str, redis: Redis) -> None:
    async def ask() -> list[int]:
        async with connect_async(redis_url) as client:
            return await asyncio.gather(*(client.incr("asked") for _ in range(5 * CONNECTIONS)))

    before = redis.info("stats")["total_connections_received"]
    assert sorted(asyncio.run(ask())) == list(range(1, 5 * CONNECTIONS + 1))
    assert redis.info("stats")["total_connections_received"] - before == CONNECTIONS
