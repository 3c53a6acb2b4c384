"""URLs of Redis as people write them: IPv6 addresses, and options that must not change the types of replies."""

import asyncio

import pytest
from redis import Redis

from infra.redis.connections import connect, connect_async
from infra.settings import Settings
from infra.settings.urls import without_password

OPTIONS = "?protocol=3&decode_responses=true&socket_timeout=0.001"


def test_options_of_the_url_do_not_change_the_replies(redis_url: str, redis: Redis) -> None:
    redis.set("key", "value")
    with connect(redis_url + OPTIONS) as client:
        assert client.get("key") == b"value"
        client.xadd("stream", {"field": "value"})
        [[name, _]] = client.xread({"stream": 0}, block=5)
        assert name == b"stream"
        # A blocking read that is longer than the time-out of the URL ends without an error.
        assert not client.xread({"stream": "$"}, block=50)

    async def get() -> object:
        async with connect_async(redis_url + OPTIONS) as client:
            return await client.get("key")

    assert asyncio.run(get()) == b"value"


@pytest.mark.parametrize("url", ["redis://[::1]:6379/0", "redis://user:secret@[::1]:6379", "rediss://[2001:db8::1]"])
def test_addresses_of_ipv6_are_accepted(url: str) -> None:
    settings = Settings(redis_url=url)
    assert settings.redis_url == url
    assert "secret" not in without_password(url)
    host = connect(url).connection_pool.connection_kwargs["host"]
    assert f"[{host}]" in url


def test_each_segment_of_a_worker_has_a_connection(redis_url: str) -> None:
    """A worker with 64 partitions waits in 385 threads. redis-py refuses the 101st connection unless told otherwise."""
    with connect(redis_url) as client:
        waiting = [client.connection_pool.get_connection() for _ in range(385)]
        assert client.info("clients")["connected_clients"] > len(waiting)
        for connection in waiting:
            client.connection_pool.release(connection)
