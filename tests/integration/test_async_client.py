"""The asynchronous Redis client: a command waits for a free connection, and fails with errors of redis-py only."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import uvloop
from redis import Redis

from infra.redis.connections import CONNECTION_ERRORS, CONNECTIONS, connect, connect_async

FAILURES = 200
"""Number of failed commands after which the error of uvloop has occurred several times."""


def test_more_concurrent_commands_than_connections_all_succeed(redis_url: str, redis: Redis) -> None:
    async def increment() -> list[int]:
        async with connect_async(redis_url) as client:
            return await asyncio.gather(*(client.incr("number") for _ in range(5 * CONNECTIONS)))

    before = redis.info("stats")["total_connections_received"]
    assert sorted(asyncio.run(increment())) == list(range(1, 5 * CONNECTIONS + 1))
    assert redis.info("stats")["total_connections_received"] - before == CONNECTIONS


@contextmanager
def breaking_connections(redis_url: str) -> Iterator[None]:
    """Let the server close all connections again and again."""
    stop = Event()

    def close() -> None:
        with connect(redis_url) as client:
            while not stop.wait(0.005):
                client.client_kill_filter(_type="normal", skipme=True)

    thread = Thread(target=close)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_broken_connections_raise_connection_errors_under_uvloop(redis_url: str) -> None:
    async def fail() -> int:
        failures = 0

        async def read() -> None:
            nonlocal failures
            while failures < FAILURES:
                try:
                    await client.get("x" * 5_000)
                except CONNECTION_ERRORS:
                    failures += 1

        async with connect_async(redis_url) as client:
            await asyncio.gather(*(read() for _ in range(40)))
        return failures

    with breaking_connections(redis_url):
        assert uvloop.run(fail()) >= FAILURES
