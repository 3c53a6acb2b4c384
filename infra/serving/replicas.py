"""Keeps replicas of read models in an API process: loads them from Redis while they are followed, and follows switches.

Rows are scanned page by page, commits read between the pages: what is read later is newer, so that after the last page
and the commits behind it the replica is what Redis is. Until then, or where it would be too large, something else
answers; after a switch, the replica of the former build does, which goes on being folded, until the new one is whole.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import structlog
from redis.asyncio import Redis

from infra.serving.changes import Course, Entry, Rows, commit
from infra.serving.follower import FollowedReadModel
from projections.patterns import ActivePatterns
from projections.queries import PatternQueries
from projections.versions import Build
from readapi.ports.commits import CommitListener
from readapi.replica.replica import PatternReplica

logger = structlog.get_logger()

PAGE = 250
"""Rows of a log that are asked for together."""

AGAIN_SECONDS = 30.0
"""After so long, a read model that was too large is looked at again."""


class Replica(Protocol):
    """All rows of one build, in memory."""

    def put(self, log: str, rows: Rows) -> None:
        """What became of some rows of a log."""
        ...

    def prepare(self, now: float) -> None:
        """Make what the first questions, at ``now`` in epoch seconds, would else have to make."""
        ...

    def __len__(self) -> int: ...


Held = TypeVar("Held", bound=Replica)
Queries = TypeVar("Queries")


class _Loading(Generic[Held]):
    """A replica that is not whole yet."""

    def __init__(self, course: Course, replica: Held) -> None:
        self.course = course
        self.replica = replica
        self._cursors: dict[str, int] = dict.fromkeys(course.keys, 0)

    @property
    def has_all_pages(self) -> bool:
        """Whether only commits are missing."""
        return not self._cursors

    async def next_pages(self, client: Redis) -> None:
        """Load a page of each log."""
        async with client.pipeline(transaction=False) as pipeline:
            for log, cursor in self._cursors.items():
                pipeline.hscan(self.course.keys[log].rows, cursor, count=PAGE)
            replies = await pipeline.execute()
        for log, (cursor, rows) in zip(list(self._cursors), replies, strict=True):
            self.replica.put(log, [(key.decode(), document) for key, document in rows.items()])
            if cursor == 0:
                del self._cursors[log]
            else:
                self._cursors[log] = cursor
            await asyncio.sleep(0)


class ReplicatedReadModel(FollowedReadModel[Queries | Held], Generic[Queries, Held]):
    """The live build of a read model, answered from a replica of at most ``max_rows`` rows, which ``make`` begins.

    ``open_queries`` makes what answers where no replica does.
    """

    def __init__(
        self,
        name: str,
        version: int,
        logs: Sequence[str],
        open_queries: Callable[[Build], Queries],
        make: Callable[[], Held],
        max_rows: int,
        listener: CommitListener | None = None,
    ) -> None:
        super().__init__(name, version, logs, open_queries, listener)
        self._make = make
        self._max_rows = max_rows
        self._replica: Held | None = None
        self._loading: _Loading[Held] | None = None
        self._again_at = 0.0

    @property
    def replica(self) -> Held | None:
        """What answers, if it is a replica."""
        return self._replica

    @property
    def courses(self) -> Sequence[Course]:
        """The commits to be read."""
        loading = [self._loading.course] if self._loading else []
        return [course for course in super().courses if course not in loading] + loading

    @property
    def is_loading(self) -> bool:
        """Whether there is more to do than to wait for commits."""
        return self._loading is not None

    async def go_to(self, client: Redis, build: Build) -> None:
        """See that ``build``, which is live, answers, and that a replica of it does."""
        if self._loading and self._loading.course.build != build:
            self._loading = None
        if self._replica is None or self._course is None:
            await super().go_to(client, build)
        if self._loading is None and self._wants_replica(build) and await self._fits(client, build):
            await self._start_loading(client, build)

    def _wants_replica(self, build: Build) -> bool:
        there = self._replica is not None and self._course is not None and self._course.build == build
        return not there and self._max_rows > 0 and time.monotonic() >= self._again_at

    async def _start_loading(self, client: Redis, build: Build) -> None:
        course = self._course
        if course is None or course.build != build:
            course = Course(self.name, build, self.logs)
            await course.begin(client)
        self._loading = _Loading(course, self._make())

    async def _fits(self, client: Redis, build: Build) -> bool:
        async with client.pipeline(transaction=False) as pipeline:
            for keys in Course(self.name, build, self.logs).keys.values():
                pipeline.hlen(keys.rows)
            rows: int = sum(await pipeline.execute())
        if rows > self._max_rows:
            self._give_up(rows)
        return rows <= self._max_rows

    def _give_up(self, rows: int) -> None:
        """Answer without it."""
        logger.warning("the replica would be too large", read_model=self.name, rows=rows, max_rows=self._max_rows)
        self._loading, self._replica = None, None
        self._again_at = time.monotonic() + AGAIN_SECONDS
        if self._course:
            self.move(self._course.build, self._course.positions, self._open_queries(self._course.build))

    def take(self, course: Course, log: str, entry: Entry) -> None:
        """The next commit."""
        if course is self._course:
            self._tell(course, log, entry)
            if self._replica is not None:
                self._replica.put(log, entry.rows)
        if self._loading and course is self._loading.course:
            self._loading.replica.put(log, entry.rows)

    def _tell(self, course: Course, log: str, entry: Entry) -> None:
        super().take(course, log, entry)

    def lose(self, course: Course) -> None:
        """Its commits cannot be told any further."""
        if self._loading and course is self._loading.course:
            self._loading = None
        if course is self._course:
            self._course, self._replica = None, None

    async def took(self, client: Redis, *, all_there_is: bool) -> None:
        """What there was to read has been taken: all of it, or a part."""
        loading = self._loading
        if loading and not loading.has_all_pages:
            await loading.next_pages(client)
            self._bound(loading.replica)
        elif loading and all_there_is:
            await self._answer_from(loading)
        if self._replica is not None:
            self._bound(self._replica)
        await super().took(client, all_there_is=all_there_is)

    async def _answer_from(self, loading: _Loading[Held]) -> None:
        started = time.monotonic()
        await asyncio.to_thread(loading.replica.prepare, time.time())
        course = loading.course
        if self._listener and course is not self._course:
            self._listener.start_build(course.build, dict(course.marks))
        self._course, self._replica, self._loading = course, loading.replica, None
        self.move(course.build, course.positions, loading.replica)
        logger.info(
            "replica answers",
            read_model=self.name,
            build=str(course.build),
            rows=len(loading.replica),
            prepared_in=round(time.monotonic() - started, 3),
        )

    def _bound(self, replica: Held) -> None:
        if len(replica) > self._max_rows:
            self._give_up(len(replica))


class ReplicatedPatterns(ReplicatedReadModel[PatternQueries, PatternReplica]):
    """The live build of ``patterns``; whoever listens is told what rows were before, too."""

    def __init__(
        self,
        logs: Sequence[str],
        open_queries: Callable[[Build], PatternQueries],
        listener: CommitListener | None,
        max_rows: int,
    ) -> None:
        name, version = ActivePatterns.name, ActivePatterns.version
        super().__init__(name, version, logs, open_queries, PatternReplica, max_rows, listener)

    def _tell(self, course: Course, log: str, entry: Entry) -> None:
        if self._listener:
            replica = self._replica
            self._listener.receive(commit(course.build, log, entry, replica.document if replica is not None else None))
