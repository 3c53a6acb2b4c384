"""How far the read models are, as an API process knows it, against a real Valkey."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from redis import Redis

from infra.api_ports import RedisFreshness
from infra.connections import connect_async
from infra.read_models.keys import SegmentKeys
from projections.ports import Segment

SEGMENTS = [Segment(name, 1, log) for name in ("patterns", "backtests") for log in ("market-0", "market-1")]


def commit(redis: Redis, segment: Segment, position: int) -> None:
    """What a commit leaves behind."""
    keys = SegmentKeys(segment)
    with redis.pipeline() as pipeline:
        pipeline.hset(keys.state, "checkpoint", position)
        pipeline.xadd(keys.changes, {"rows": "[]"}, id=f"{position}-*")
        pipeline.execute()


@asynccontextmanager
async def following(url: str) -> AsyncIterator[RedisFreshness]:
    async with connect_async(url) as client:
        freshness = RedisFreshness(client, SEGMENTS)
        await freshness.load()
        task = asyncio.create_task(freshness.follow())
        try:
            yield freshness
        finally:
            task.cancel()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_nothing_is_known_of_a_log_that_nothing_was_folded_of(redis_url: str) -> None:
    async def test() -> None:
        async with following(redis_url) as freshness:
            assert freshness.positions("patterns") == {"market-0": 0, "market-1": 0}
            assert await freshness.reached("patterns", {"market-0": 0}, 0)

    run(test)


def test_what_was_folded_before_the_start_is_known(redis_url: str, redis: Redis) -> None:
    commit(redis, SEGMENTS[0], 7)

    async def test() -> None:
        async with following(redis_url) as freshness:
            assert freshness.positions("patterns") == {"market-0": 7, "market-1": 0}
            assert freshness.positions("backtests") == {"market-0": 0, "market-1": 0}

    run(test)


def test_a_wait_ends_with_the_last_commit_it_needs(redis_url: str, redis: Redis) -> None:
    async def test() -> None:
        async with following(redis_url) as freshness:
            wait = asyncio.create_task(freshness.reached("patterns", {"market-0": 3, "market-1": 2}, 60))
            for segment, position in ((SEGMENTS[0], 5), (SEGMENTS[2], 9), (SEGMENTS[1], 1)):
                await asyncio.to_thread(commit, redis, segment, position)
            assert await freshness.reached("patterns", {"market-1": 1}, 60)
            assert not wait.done()
            await asyncio.to_thread(commit, redis, SEGMENTS[1], 2)
            assert await wait

    run(test)


def test_a_wait_gives_up(redis_url: str) -> None:
    async def test() -> None:
        async with following(redis_url) as freshness:
            assert not await freshness.reached("patterns", {"market-0": 1}, 0)
            assert not await freshness.reached("patterns", {"market-0": 1}, 0.01)

    run(test)


def test_a_log_that_is_not_known_is_not_reached(redis_url: str) -> None:
    async def test() -> None:
        async with following(redis_url) as freshness:
            assert not await freshness.reached("patterns", {"market-2": 0}, 60)

    run(test)
