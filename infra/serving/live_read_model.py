"""The live build of a read model in an API process, moved from commit to commit and from build to build."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from infra.redis.connections import AsyncRedisClient
from infra.serving.changes import ChangesCursor, Entry, commit
from projections.base import Projection
from projections.queries import Positions, RowQueries
from projections.versions import Build
from readapi.ports.commits import Commit, CommitListener
from readapi.ports.read_models import LiveBuild

logger = structlog.get_logger()

Queries = RowQueries[Any]

OpenQueries = Callable[[Build, Sequence[str]], Queries]
"""Creates the queries to a build, from the segments of some logs."""


class LiveReadModel:
    """The live build of one read model. Implements ``LiveBuilds``; a ``ChangesFollower`` keeps it current.

    Until a build is live, the queries run on an empty build with number 0.

    Args:
        projection: The projection of the read model.
        logs: The logs that the read model folds, as far as they are known. ``add_logs`` adds others.
        open_queries: Creates the queries to a build.
    """

    def __init__(self, projection: Projection[Any, Any], logs: Sequence[str], open_queries: OpenQueries) -> None:
        self.name = projection.name
        self.logs = tuple(logs)
        self._folds = projection.folds
        self._open_queries = open_queries
        self._commit_listeners: list[CommitListener] = []
        self._move_listeners: list[Callable[[], None]] = []
        self._cursor: ChangesCursor | None = None
        empty_build = Build(projection.version, 0)
        self._current = LiveBuild(empty_build, open_queries(empty_build, self.logs), dict.fromkeys(logs, 0))
        self._moved = asyncio.Event()

    def add_commit_listener(self, listener: CommitListener) -> None:
        """Register a receiver of every commit. Call this before the read model is followed."""
        self._commit_listeners.append(listener)

    def add_move_listener(self, listener: Callable[[], None]) -> None:
        """Register a function that is called whenever ``current`` has changed."""
        self._move_listeners.append(listener)

    @property
    def current(self) -> LiveBuild[Queries]:
        """The live build, with its queries and positions."""
        return self._current

    async def reached(self, positions: Positions, timeout: float) -> LiveBuild[Queries] | None:  # noqa: ASYNC109 the port's
        """Wait until the live build has reached all positions.

        Args:
            positions: Log -> position to wait for.
            timeout: Seconds to wait at most.

        Returns:
            The live build, or None if it did not reach the positions in time or does not fold one of the logs. A
            partition that is not known may just have been added, and is waited for.
        """
        if not all(map(self._folds, positions)):
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not _has_reached(self._current.positions, positions):
                    await self._moved.wait()
        current = self._current
        return current if _has_reached(current.positions, positions) else None

    def move_to(self, build: Build, positions: Positions, queries: Queries | None = None) -> None:
        """Let ``build``, folded up to ``positions``, answer from now on.

        Args:
            build: The live build.
            positions: Log -> position up to which the build is folded.
            queries: The queries to the build. By default the present queries stay, or a new build gets new queries.
        """
        if queries is None:
            is_same_build = build == self._current.build
            queries = self._current.queries if is_same_build else self._open_queries(build, self.logs)
        if build != self._current.build:
            logger.info("build answers", read_model=self.name, build=str(build), before=str(self._current.build))
        self._current = LiveBuild(build, queries, positions)
        self._moved.set()
        self._moved = asyncio.Event()
        for notify in self._move_listeners:
            notify()

    def add_logs(self, names: Sequence[str]) -> None:
        """Follow the segments of logs that are not followed yet and that the read model folds, from their beginning."""
        added = [name for name in names if name not in self.logs and self._folds(name)]
        if not added:
            return
        self.logs = (*self.logs, *added)
        for cursor in self.cursors:
            cursor.add_logs(added)
        current = self._current
        is_stored = current.queries.source == "redis"
        queries = self._open_queries(current.build, self.logs) if is_stored else current.queries
        self.move_to(current.build, {**current.positions, **dict.fromkeys(added, 0)}, queries)
        logger.info("partitions added", read_model=self.name, logs=added)

    @property
    def cursors(self) -> Sequence[ChangesCursor]:
        """The cursors whose streams the follower must read."""
        return [self._cursor] if self._cursor else []

    @property
    def is_loading(self) -> bool:
        """Whether the read model has work to do besides waiting for commits."""
        return False

    @property
    def _tells_commits(self) -> bool:
        """Whether the listeners receive commits now."""
        return True

    async def follow_build(self, client: AsyncRedisClient, build: Build) -> None:
        """Follow ``build``, which is live on the server, unless it is followed already."""
        if self._cursor is None or self._cursor.build != build:
            await self._start_build(client, build)

    def note_missing_build(self) -> None:
        """Do nothing: no build is live on the server yet. Subclasses may answer from an empty build."""

    async def _start_build(self, client: AsyncRedisClient, build: Build) -> None:
        cursor = ChangesCursor(self.name, build, self.logs)
        await cursor.start(client)
        if self._commit_listeners and self._tells_commits:
            last_commits, commits = await cursor.recent_commits(client)
            for listener in self._commit_listeners:
                listener.start_build(build, last_commits)
                for recent in commits:
                    listener.receive(recent)
        self._cursor = cursor
        # Queries to the same build remember what they have answered before the server lost commits.
        keeps_queries = build == self._current.build and self._current.queries.source == "redis"
        self.move_to(build, cursor.positions, None if keeps_queries else self._open_queries(build, self.logs))

    def apply(self, cursor: ChangesCursor, log: str, entry: Entry) -> None:
        """Apply the next entry that ``cursor`` has read."""
        if self._commit_listeners and self._tells_commits and cursor is self._cursor:
            next_commit = self._commit(cursor.build, log, entry)
            for listener in self._commit_listeners:
                listener.receive(next_commit)

    def _commit(self, build: Build, log: str, entry: Entry) -> Commit:
        return commit(build, log, entry)

    def discard(self, cursor: ChangesCursor) -> None:
        """Stop reading with ``cursor``, which misses a commit. The follower then starts the build again."""
        if cursor is self._cursor:
            self._cursor = None

    async def end_round(self, client: AsyncRedisClient, *, all_read: bool) -> None:
        """Finish one round of reading.

        Args:
            client: The follower's client.
            all_read: Whether the round has read every entry that the streams had.
        """
        del client, all_read
        if self._cursor and self._cursor.positions != self._current.positions:
            self.move_to(self._cursor.build, self._cursor.positions)


def _has_reached(folded: Positions, positions: Positions) -> bool:
    return all(folded.get(log, -1) >= position for log, position in positions.items())
