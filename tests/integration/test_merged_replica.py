"""The replica of a read model that merges the rows of several logs, on a real Valkey."""

import asyncio
from dataclasses import replace

import pytest
from redis import Redis

from infra.read_models.row_queries import RedisRowQueries
from infra.read_models.versions import change_versions
from infra.redis.connections import connect_async
from infra.serving.changes_follower import ChangesFollower
from infra.serving.freshness import RedisFreshness
from infra.serving.replicas import ReplicatedReadModel
from projections.activity import Activity, ActivityRow
from projections.base import read_row
from projections.queries import ALWAYS, Query
from readapi.ports.commits import Commit
from readapi.ports.errors import UnavailableError
from tests.integration.replica_support import CommitRecorder
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter
from tests.tasks import cancel_and_wait, wait_for_condition

LOGS = ("market-0", "market-1")
ROW = ActivityRow("2026-11-25", "PatternDetected", "detector", 3, 10.0, 20.0)
KEY = "2026-11-25/PatternDetected/detector"


def events_of(document: bytes | None) -> int | None:
    return None if document is None else read_row(ActivityRow, document).row.events


def events_before_and_after(commit: Commit) -> list[tuple[int | None, int | None]]:
    return [(events_of(change.old), events_of(change.new)) for change in commit.changes]


def test_rows_of_several_logs_are_merged_in_answers_and_in_commits(redis: Redis, redis_url: str) -> None:
    change_versions(redis, "activity", lambda versions: versions.deployed(1))
    first, second = (SegmentWriter(redis, Activity(), log) for log in LOGS)
    first.put({KEY: ROW})
    second.put({KEY: replace(ROW, events=4, latest_at=30.0)})
    recorder = CommitRecorder()

    async def test() -> None:
        async with connect_async(redis_url) as client:
            projection = Activity()
            activity = ReplicatedReadModel(
                projection, LOGS, lambda build, logs: RedisRowQueries(client, projection, build, logs), 100
            )
            activity.add_commit_listener(recorder)
            with pytest.raises(UnavailableError, match="activity is being loaded"):
                await activity.current.queries.page(Query(ALWAYS))
            task = asyncio.create_task(ChangesFollower(client, [activity], RedisFreshness()).run())
            await wait_for_condition(lambda: activity.current.queries.source == "replica" and recorder.builds)
            assert recorder.builds[0][0] == FIRST_BUILD
            assert not recorder.commits
            [result] = (await activity.current.queries.page(Query(ALWAYS))).rows
            assert (result.key, result.row) == (KEY, replace(ROW, events=7, latest_at=30.0))
            await asyncio.to_thread(first.put, {KEY: replace(ROW, events=5)})
            await asyncio.to_thread(second.put, {KEY: None})
            await wait_for_condition(lambda: len(recorder.commits) == 2)
            assert all(commit.knows_old for commit in recorder.commits)
            assert list(map(events_before_and_after, recorder.commits)) == [[(7, 9)], [(9, 5)]]
            await cancel_and_wait(task)

    asyncio.run(test())
