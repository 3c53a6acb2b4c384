"""Helpers for tests of the replica: rows of a build, a follower of their changes, and a listener of commits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis import Redis

from infra.read_models.row_queries import RedisRowQueries
from infra.read_models.versions import change_versions
from infra.redis.connections import connect_async
from infra.serving.changes_follower import ChangesFollower
from infra.serving.freshness import RedisFreshness
from infra.serving.replicas import ReplicatedReadModel
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import Query
from projections.versions import Build
from readapi.ports.commits import Commit, CommitIds, CommitListener
from tests.pattern_queries import (
    LOGS,
    log_of_pattern,
)
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter
from tests.tasks import cancel_and_wait

SECOND_BUILD = Build(1, 2)
ALL_PATTERNS = Query(now=0.0, limit=100)


class PatternRows:
    """The rows of one build in Redis."""

    def __init__(self, redis: Redis, build: Build = FIRST_BUILD) -> None:
        self.rows: dict[str, PatternRow] = {}
        self._writers = {log: SegmentWriter(redis, ActivePatterns(), log, build) for log in LOGS}

    @property
    def positions(self) -> dict[str, int]:
        """The position of the last row written, by log."""
        return {log: writer.checkpoint for log, writer in self._writers.items()}

    def put(self, rows: dict[str, PatternRow | None]) -> None:
        """Write rows. None removes a row."""
        for log, writer in self._writers.items():
            if log_rows := {key: row for key, row in rows.items() if log_of_pattern(key) == log}:
                writer.put(log_rows)
        self.rows = {key: row for key, row in (self.rows | rows).items() if row}


class CommitRecorder(CommitListener):
    """Records the builds and the commits of the build under way that a listener receives."""

    def __init__(self) -> None:
        self.builds: list[tuple[Build, CommitIds]] = []
        self.commits: list[Commit] = []

    def start_build(self, build: Build, last_commits: CommitIds) -> None:
        self.builds.append((build, last_commits))
        self.commits = []

    def receive(self, commit: Commit) -> None:
        self.commits.append(commit)


def deploy(redis: Redis) -> None:
    """Begin the first build of the patterns."""
    change_versions(redis, "patterns", lambda versions: versions.deployed(1))


def switch(redis: Redis) -> None:
    """Begin a second build of the patterns and make it live."""
    change_versions(redis, "patterns", lambda versions: versions.replayed(1, held=False, throttle=0))
    change_versions(redis, "patterns", lambda versions: versions.switched(SECOND_BUILD))


@asynccontextmanager
async def following(
    url: str, max_rows: int = 100_000, listener: CommitListener | None = None
) -> AsyncIterator[ReplicatedReadModel]:
    """Follow the changes of the patterns while the context is open."""
    async with connect_async(url) as querying_client, connect_async(url) as following_client:
        projection = ActivePatterns()
        patterns = ReplicatedReadModel(
            projection, LOGS, lambda build, logs: RedisRowQueries(querying_client, projection, build, logs), max_rows
        )
        if listener:
            patterns.add_commit_listener(listener)
        task = asyncio.create_task(ChangesFollower(following_client, [patterns], RedisFreshness()).run())
        try:
            yield patterns
            assert not task.done(), task.exception()
        finally:
            await cancel_and_wait(task)


def answers_from_replica(patterns: ReplicatedReadModel, build: Build = FIRST_BUILD) -> bool:
    return patterns.current.queries.source == "replica" and patterns.current.build == build


async def scan_ids_at_end(patterns: ReplicatedReadModel, stored_patterns: PatternRows) -> set[str]:
    """Wait until the follower has received all rows written, then scan all pages and return the ids."""
    assert await patterns.reached(stored_patterns.positions, 60)
    ids: set[str] = set()
    query = ALL_PATTERNS
    while True:
        page = await patterns.current.queries.page(query)
        ids |= {result.row.id for result in page.rows}
        if page.end is None:
            return ids
        query = query._replace(after=page.end)
