"""Which builds are live and how far they are, as an API process knows it, against a real Valkey."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from redis import Redis

from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import change_versions
from infra.redis.connections import connect_async
from infra.serving.changes_follower import ChangesFollower
from infra.serving.freshness import RedisFreshness
from infra.serving.live_read_model import LiveReadModel
from projections.ports import Segment
from projections.versions import Build, Versions
from tests.read_model import FIRST_BUILD
from tests.tasks import cancel_and_wait, wait_for_condition

LOGS = ("market-0", "market-1")
SECOND = Build(1, 2)


class Followed(NamedTuple):
    patterns: LiveReadModel[Build]
    backtests: LiveReadModel[Build]


def segment(number: int, build: Build = FIRST_BUILD, read_model: str = "patterns") -> Segment:
    return Segment(read_model, build, LOGS[number])


def commit(redis: Redis, segment: Segment, position: int) -> None:
    """What a commit leaves behind."""
    keys = SegmentKeys(segment)
    with redis.pipeline() as pipeline:
        pipeline.hset(keys.state, "checkpoint", position)
        pipeline.hincrby(keys.state, "changes", 1)
        *_, number = pipeline.execute()
    redis.xadd(keys.changes, {"rows": "[]", "number": number}, id=f"{position}-*")


def deploy(redis: Redis) -> None:
    for name in Followed._fields:
        change_versions(redis, name, lambda versions: versions.deployed(1))


def switch(redis: Redis, name: str = "patterns") -> None:
    change_versions(redis, name, lambda versions: versions.replayed(1, held=False, throttle=0))
    change_versions(redis, name, lambda versions: versions.switched(SECOND))


@asynccontextmanager
async def following(url: str) -> AsyncIterator[Followed]:
    """The queries of each build are the build itself."""
    async with connect_async(url) as client:
        followed = Followed(*(LiveReadModel(name, 1, LOGS, lambda build: build) for name in Followed._fields))
        follower = ChangesFollower(client, followed, RedisFreshness())
        await follower.load()
        task = asyncio.create_task(follower.run())
        try:
            yield followed
            assert not task.done()
        finally:
            await cancel_and_wait(task)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_before_there_is_a_build_an_empty_one_answers_and_then_the_first(redis_url: str, redis: Redis) -> None:
    async def test() -> None:
        async with following(redis_url) as followed:
            none_yet = followed.patterns.current
            assert none_yet.build == none_yet.queries == Build(1, 0)
            assert none_yet.positions == {"market-0": 0, "market-1": 0}
            assert await followed.patterns.reached({"market-0": 0}, 0) == none_yet
            wait = asyncio.create_task(followed.patterns.reached({"market-0": 3}, 60))
            await asyncio.to_thread(commit, redis, segment(0), 3)
            await asyncio.to_thread(deploy, redis)
            reached = await wait
            assert reached is not None
            assert (reached.build, reached.queries, reached.positions["market-0"]) == (FIRST_BUILD, FIRST_BUILD, 3)

    run(test)


def test_what_was_folded_before_the_start_is_known(redis_url: str, redis: Redis) -> None:
    deploy(redis)
    commit(redis, segment(0), 7)

    async def test() -> None:
        async with following(redis_url) as followed:
            assert followed.patterns.current.positions == {"market-0": 7, "market-1": 0}
            assert followed.backtests.current.positions == {"market-0": 0, "market-1": 0}

    run(test)


def test_a_wait_ends_with_the_last_commit_it_needs(redis_url: str, redis: Redis) -> None:
    deploy(redis)

    async def test() -> None:
        async with following(redis_url) as followed:
            wait = asyncio.create_task(followed.patterns.reached({"market-0": 3, "market-1": 2}, 60))
            backtests = segment(0, read_model="backtests")
            for one, position in ((segment(0), 5), (backtests, 9), (segment(1), 1)):
                await asyncio.to_thread(commit, redis, one, position)
            assert await followed.patterns.reached({"market-1": 1}, 60)
            assert not wait.done()
            await asyncio.to_thread(commit, redis, segment(1), 2)
            assert await wait

    run(test)


def test_a_wait_gives_up(redis_url: str, redis: Redis) -> None:
    deploy(redis)

    async def test() -> None:
        async with following(redis_url) as followed:
            assert await followed.patterns.reached({"market-0": 1}, 0) is None
            assert await followed.patterns.reached({"market-0": 1}, 0.01) is None

    run(test)


def test_a_log_that_is_not_known_is_not_reached(redis_url: str) -> None:
    async def test() -> None:
        async with following(redis_url) as followed:
            assert await followed.patterns.reached({"market-2": 0}, 60) is None

    run(test)


def test_a_switch_is_followed_and_what_was_taken_before_it_stays_as_it_was(redis_url: str, redis: Redis) -> None:
    deploy(redis)
    commit(redis, segment(0), 9)
    commit(redis, segment(0, SECOND), 8)

    async def test() -> None:
        async with following(redis_url) as followed:
            taken = followed.patterns.current
            assert (taken.build, taken.positions["market-0"]) == (FIRST_BUILD, 9)
            await asyncio.to_thread(switch, redis)
            await wait_for_condition(lambda: followed.patterns.current.build == SECOND)
            switched = followed.patterns.current
            assert (switched.queries, switched.positions) == (SECOND, {"market-0": 8, "market-1": 0})
            assert (taken.build, taken.queries, taken.positions["market-0"]) == (FIRST_BUILD, FIRST_BUILD, 9)
            assert followed.backtests.current.build == FIRST_BUILD
            await asyncio.to_thread(change_versions, redis, "patterns", Versions.rolled_back)
            await wait_for_condition(lambda: followed.patterns.current == taken)

    run(test)


def test_a_wait_goes_on_with_the_build_that_goes_live(redis_url: str, redis: Redis) -> None:
    deploy(redis)
    commit(redis, segment(0), 9)

    async def test() -> None:
        async with following(redis_url) as followed:
            wait = asyncio.create_task(followed.patterns.reached({"market-0": 10}, 60))
            await asyncio.to_thread(switch, redis)
            await wait_for_condition(lambda: followed.patterns.current.build == SECOND)
            await asyncio.to_thread(commit, redis, segment(0), 10)
            assert not wait.done()
            await asyncio.to_thread(commit, redis, segment(0, SECOND), 11)
            reached = await wait
            assert reached is not None
            assert (reached.build, reached.positions["market-0"]) == (SECOND, 11)

    run(test)
