"""The live builds and their positions, as an API process follows them on a real Valkey."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson
from redis import Redis

from domain.partitions import Partitions
from infra.log.partitions import store_partitions
from infra.read_models.keys import SegmentKeys
from infra.read_models.row_queries import RedisRowQueries
from infra.read_models.versions import change_versions
from infra.redis.connections import connect_async
from infra.serving.changes import RECENT_ROWS, ChangesCursor
from infra.serving.changes_follower import ChangesFollower
from infra.serving.freshness import RedisFreshness
from infra.serving.live_read_model import LiveReadModel
from projections.backtests import Backtests
from projections.base import Projection
from projections.patterns import ActivePatterns
from projections.ports import Segment
from projections.versions import Build, Versions
from tests.read_model import FIRST_BUILD
from tests.tasks import cancel_and_wait, wait_for_condition

LOGS = ("market-0", "market-1")
SECOND = Build(1, 2)


class LiveReadModels(NamedTuple):
    patterns: LiveReadModel
    backtests: LiveReadModel


def segment(number: int, build: Build = FIRST_BUILD, read_model: str = "patterns") -> Segment:
    return Segment(read_model, build, LOGS[number])


def commit(redis: Redis, segment: Segment, position: int, rows: Sequence[tuple[str, None]] = ()) -> None:
    """Write the checkpoint and the changes entry of a commit."""
    keys = SegmentKeys(segment)
    with redis.pipeline() as pipeline:
        pipeline.hset(keys.state, "checkpoint", position)
        pipeline.hincrby(keys.state, "changes", 1)
        *_, number = pipeline.execute()
    redis.xadd(keys.changes, {"rows": orjson.dumps(rows), "number": number}, id=f"{position}-*")


def deploy(redis: Redis) -> None:
    for name in LiveReadModels._fields:
        change_versions(redis, name, lambda versions: versions.deployed(1))


def switch(redis: Redis, name: str = "patterns") -> None:
    change_versions(redis, name, lambda versions: versions.replayed(1, held=False, throttle=0))
    change_versions(redis, name, lambda versions: versions.switched(SECOND))


@asynccontextmanager
async def following(url: str) -> AsyncIterator[LiveReadModels]:
    """Follow both read models."""
    async with connect_async(url) as client:

        def open_live(projection: Projection[Any, Any]) -> LiveReadModel:
            return LiveReadModel(projection, LOGS, lambda build, logs: RedisRowQueries(client, projection, build, logs))

        read_models = LiveReadModels(open_live(ActivePatterns()), open_live(Backtests()))
        follower = ChangesFollower(client, read_models, RedisFreshness())
        await follower.load()
        task = asyncio.create_task(follower.run())
        try:
            yield read_models
            assert not task.done()
        finally:
            await cancel_and_wait(task)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_an_empty_build_answers_before_the_first_build(redis_url: str, redis: Redis) -> None:
    async def test() -> None:
        async with following(redis_url) as read_models:
            before_first_build = read_models.patterns.current
            assert before_first_build.build == Build(ActivePatterns.version, 0)
            assert before_first_build.positions == {"market-0": 0, "market-1": 0}
            assert await read_models.patterns.reached({"market-0": 0}, 0) == before_first_build
            wait = asyncio.create_task(read_models.patterns.reached({"market-0": 3}, 60))
            await asyncio.to_thread(commit, redis, segment(0), 3)
            await asyncio.to_thread(deploy, redis)
            reached = await wait
            assert reached is not None
            assert (reached.build, reached.positions["market-0"]) == (FIRST_BUILD, 3)

    run(test)


def test_positions_from_before_the_start_are_known(redis_url: str, redis: Redis) -> None:
    deploy(redis)
    commit(redis, segment(0), 7)

    async def test() -> None:
        async with following(redis_url) as read_models:
            assert read_models.patterns.current.positions == {"market-0": 7, "market-1": 0}
            assert read_models.backtests.current.positions == {"market-0": 0, "market-1": 0}

    run(test)


def test_a_wait_ends_with_the_last_commit_that_it_needs(redis_url: str, redis: Redis) -> None:
    deploy(redis)

    async def test() -> None:
        async with following(redis_url) as read_models:
            wait = asyncio.create_task(read_models.patterns.reached({"market-0": 3, "market-1": 2}, 60))
            backtests = segment(0, read_model="backtests")
            for changed_segment, position in ((segment(0), 5), (backtests, 9), (segment(1), 1)):
                await asyncio.to_thread(commit, redis, changed_segment, position)
            assert await read_models.patterns.reached({"market-1": 1}, 60)
            assert not wait.done()
            await asyncio.to_thread(commit, redis, segment(1), 2)
            assert await wait

    run(test)


def test_a_wait_ends_after_its_timeout(redis_url: str, redis: Redis) -> None:
    deploy(redis)

    async def test() -> None:
        async with following(redis_url) as read_models:
            assert await read_models.patterns.reached({"market-0": 1}, 0) is None
            assert await read_models.patterns.reached({"market-0": 1}, 0.01) is None

    run(test)


def test_a_position_of_a_log_of_another_family_is_never_reached(redis_url: str) -> None:
    async def test() -> None:
        async with following(redis_url) as read_models:
            assert await read_models.patterns.reached({"users": 0}, 60) is None

    run(test)


def test_a_wait_for_an_unknown_partition_ends_when_the_partition_is_added_and_folded(
    redis_url: str, redis: Redis
) -> None:
    deploy(redis)
    commit(redis, segment(0), 9)

    async def test() -> None:
        async with following(redis_url) as read_models:
            assert await read_models.patterns.reached({"market-2": 0}, 0) is None
            before = read_models.patterns.current
            wait = asyncio.create_task(read_models.patterns.reached({"market-2": 2}, 60))
            for position in (1, 2):
                await asyncio.to_thread(commit, redis, Segment("patterns", FIRST_BUILD, "market-2"), position)
            await asyncio.to_thread(store_partitions, redis, Partitions(4, 2))
            reached = await wait
            assert reached is not None
            assert reached.positions == {"market-0": 9, "market-1": 0, "market-2": 2, "market-3": 0}
            assert (reached.build, before.positions) == (FIRST_BUILD, {"market-0": 9, "market-1": 0})
            await wait_for_condition(lambda: "market-3" in read_models.backtests.current.positions)

    run(test)


def test_a_switch_is_followed_and_an_earlier_snapshot_does_not_change(redis_url: str, redis: Redis) -> None:
    deploy(redis)
    commit(redis, segment(0), 9)
    commit(redis, segment(0, SECOND), 8)

    async def test() -> None:
        async with following(redis_url) as read_models:
            snapshot = read_models.patterns.current
            assert (snapshot.build, snapshot.positions["market-0"]) == (FIRST_BUILD, 9)
            await asyncio.to_thread(switch, redis)
            await wait_for_condition(lambda: read_models.patterns.current.build == SECOND)
            switched = read_models.patterns.current
            assert switched.positions == {"market-0": 8, "market-1": 0}
            assert switched.queries is not snapshot.queries
            assert (snapshot.build, snapshot.positions["market-0"]) == (FIRST_BUILD, 9)
            assert read_models.backtests.current.build == FIRST_BUILD
            await asyncio.to_thread(change_versions, redis, "patterns", Versions.rolled_back)
            await wait_for_condition(lambda: read_models.patterns.current.build == FIRST_BUILD)
            assert read_models.patterns.current.positions == snapshot.positions

    run(test)


def test_a_wait_continues_with_the_build_that_goes_live(redis_url: str, redis: Redis) -> None:
    deploy(redis)
    commit(redis, segment(0), 9)

    async def test() -> None:
        async with following(redis_url) as read_models:
            wait = asyncio.create_task(read_models.patterns.reached({"market-0": 10}, 60))
            await asyncio.to_thread(switch, redis)
            await wait_for_condition(lambda: read_models.patterns.current.build == SECOND)
            await asyncio.to_thread(commit, redis, segment(0), 10)
            assert not wait.done()
            await asyncio.to_thread(commit, redis, segment(0, SECOND), 11)
            reached = await wait
            assert reached is not None
            assert (reached.build, reached.positions["market-0"]) == (SECOND, 11)

    run(test)


def test_only_the_last_entries_are_read_if_they_have_many_rows(redis_url: str, redis: Redis) -> None:
    """The entries of a replay have a thousand rows each. The push feed starts with the last two thousand rows."""
    removed = [(str(number), None) for number in range(1_000)]
    for position in range(1, 21):
        commit(redis, segment(0), position, removed)
    commit(redis, segment(0), 21, removed[:1])

    async def test() -> None:
        async with connect_async(redis_url) as client:
            cursor = ChangesCursor("patterns", FIRST_BUILD, LOGS[:1])
            await cursor.start(client)
            before, commits = await cursor.recent_commits(client)
            assert [recent.id.position for recent in commits] == list(range(commits[0].id.position, 22))
            assert before[LOGS[0]].position == commits[0].id.position - 1
            assert RECENT_ROWS < sum(len(recent.changes) for recent in commits) + 1_000 < 3 * RECENT_ROWS

    run(test)
