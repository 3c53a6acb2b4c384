"""Follows the read models for one API process: which build of each is live, and every commit to it.

One connection waits for commits. Which builds are live is looked at ten times a second, while nothing is committed
four times. Commits are taken one after the other: they move the positions that answers carry, the replica, and those
who listen.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from math import inf
from typing import Any, Generic, TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from infra.processes.outage import OutageLog
from infra.read_models.keys import versions_key
from infra.read_models.versions import parse_versions
from infra.serving.changes import Course, Entry, LostTrackError, commit
from projections.queries import Positions
from projections.versions import Build
from readapi.ports.commits import CommitListener
from readapi.ports.read_models import LiveBuild

logger = structlog.get_logger()

BLOCK_MILLISECONDS = 250
"""How long a switch may stay unnoticed while nothing is committed."""

LOOK_SECONDS = 0.1
"""The same while commits follow one another: each look costs about as much as taking a commit."""

GATHER_SECONDS = 0.005
"""Commits that follow each other so closely are seen as one: a busy log costs an API process little."""

ENTRIES_AT_ONCE = 100
"""Of each stream."""

ROWS_AT_ONCE = 200
"""After about so many rows, requests have their turn."""

RETRY_SECONDS = 0.5
"""Between tries while Redis is away."""

AWAY_SECONDS = 2.0
"""A Redis that has not been heard of for so long is away; it is asked four times a second."""

Queries = TypeVar("Queries")


class FollowedReadModel(Generic[Queries]):
    """The live build of one read model. ``open_queries`` makes what answers from a build; ``listener`` hears commits.

    Before there is one, an empty build numbered 0 of this code's ``version`` answers.
    """

    def __init__(
        self,
        name: str,
        version: int,
        logs: Sequence[str],
        open_queries: Callable[[Build], Queries],
        listener: CommitListener | None = None,
    ) -> None:
        self.name = name
        self.logs = logs
        self._open_queries = open_queries
        self._listener = listener
        self._course: Course | None = None
        none_yet = Build(version, 0)
        self._current = LiveBuild(none_yet, open_queries(none_yet), dict.fromkeys(logs, 0))
        self._moved = asyncio.Event()

    @property
    def current(self) -> LiveBuild[Queries]:
        """What answers now."""
        return self._current

    async def reached(self, positions: Positions, timeout: float) -> LiveBuild[Queries] | None:  # noqa: ASYNC109 the port's
        """What answers as soon as it is at or past all ``positions``; None if it is not within ``timeout`` seconds."""
        if not positions.keys() <= set(self.logs):
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not _past(self._current.positions, positions):
                    await self._moved.wait()
        current = self._current
        return current if _past(current.positions, positions) else None

    def move(self, build: Build, positions: Positions, queries: Queries | None = None) -> None:
        """``build`` is live, and so far; it is asked by ``queries``, or as before, or by new ones."""
        if queries is None:
            same = build == self._current.build
            queries = self._current.queries if same else self._open_queries(build)
        if build != self._current.build:
            logger.info("build answers", read_model=self.name, build=str(build), before=str(self._current.build))
        self._current = LiveBuild(build, queries, positions)
        self._moved.set()
        self._moved = asyncio.Event()

    @property
    def courses(self) -> Sequence[Course]:
        """The commits to be read."""
        return [self._course] if self._course else []

    @property
    def is_loading(self) -> bool:
        """Whether there is more to do than to wait for commits."""
        return False

    async def go_to(self, client: Redis, build: Build) -> None:
        """See that ``build``, which is live, answers."""
        if self._course is None or self._course.build != build:
            await self._begin(client, build)

    def wait_for_build(self) -> None:
        """There is none yet."""

    async def _begin(self, client: Redis, build: Build) -> None:
        course = Course(self.name, build, self.logs)
        await course.begin(client)
        if self._listener:
            marks, commits = await course.past(client)
            self._listener.start_build(build, marks)
            for one in commits:
                self._listener.receive(one)
        self._course = course
        self.move(build, course.positions, self._open_queries(build))

    def take(self, course: Course, log: str, entry: Entry) -> None:
        """The next commit."""
        if self._listener and course is self._course:
            self._listener.receive(commit(course.build, log, entry))

    def lose(self, course: Course) -> None:
        """Its commits cannot be told any further."""
        if course is self._course:
            self._course = None

    async def took(self, client: Redis, *, all_there_is: bool) -> None:
        """What there was to read has been taken: all of it, or a part."""
        del client, all_there_is
        if self._course and self._course.positions != self._current.positions:
            self.move(self._course.build, self._course.positions)


def _past(folded: Positions, wanted: Positions) -> bool:
    return all(folded[log] >= position for log, position in wanted.items())


class Follower:
    """Moves read models from commit to commit and from build to build; knows how long ago Redis was heard of."""

    def __init__(self, client: Redis, read_models: Sequence[FollowedReadModel[Any]]) -> None:
        self._client = client
        self._read_models = read_models
        self._heard_at = time.monotonic()
        self._outage = OutageLog("read models are not followed", "read models are followed again")
        self._looked_at = -inf

    def age(self) -> float | None:
        """Seconds since Redis was last heard of, if it is away; None while it is there."""
        seconds = time.monotonic() - self._heard_at
        return seconds if self._outage.is_failing or seconds > AWAY_SECONDS else None

    def _hear(self) -> None:
        self._outage.recovered()
        self._heard_at = time.monotonic()

    async def load(self) -> None:
        """Learn which builds are live, and begin with those that are new: in one round trip where there are none.

        A server that was restarted may have less than was told of it: such a build is begun anew too.
        """
        followed = [(read_model, course) for read_model in self._read_models for course in read_model.courses]
        async with self._client.pipeline(transaction=False) as pipeline:
            for read_model in self._read_models:
                pipeline.get(versions_key(read_model.name))
            for _, course in followed:
                for keys in course.keys.values():
                    pipeline.hget(keys.state, "checkpoint")
            replies = iter(await pipeline.execute())
        self._hear()
        self._looked_at = self._heard_at
        stored = list(islice(replies, len(self._read_models)))
        for read_model, course in followed:
            try:
                course.check(list(islice(replies, len(course.keys))))
            except LostTrackError as error:
                self._lose(read_model, course, error)
        for read_model, versions in zip(self._read_models, stored, strict=True):
            live = parse_versions(versions or b"").live
            if live:
                await read_model.go_to(self._client, live)
            else:
                read_model.wait_for_build()

    async def follow(self) -> None:
        """Go on until cancelled; everything stays as it was while Redis is away."""
        while True:
            try:
                if time.monotonic() > self._looked_at + LOOK_SECONDS:
                    await self.load()
                await self._read()
            except RedisError as error:
                self._outage.failed(error)
                self._looked_at = -inf
                await asyncio.sleep(RETRY_SECONDS)

    async def _read(self) -> None:
        """Take the commits there are; wait a moment for some if there are none."""
        courses = {
            stream: (read_model, course)
            for read_model in self._read_models
            for course in read_model.courses
            for stream in course.streams()
        }
        behind: dict[Any, Any] = {
            stream: entry for _, course in courses.values() for stream, entry in course.streams().items()
        }
        loading = any(read_model.is_loading for read_model in self._read_models)
        if not behind:
            await asyncio.sleep(BLOCK_MILLISECONDS / 1_000)
            return
        replies: Any = await self._client.xread(behind, ENTRIES_AT_ONCE, None if loading else BLOCK_MILLISECONDS)
        self._hear()
        found = replies.items() if isinstance(replies, dict) else replies or ()
        for stream, entries in found:
            await self._take(*courses[stream], stream, entries)
        all_there_is = all(len(entries) < ENTRIES_AT_ONCE for _, entries in found)
        for read_model in self._read_models:
            await read_model.took(self._client, all_there_is=all_there_is)
        await asyncio.sleep(0 if loading else GATHER_SECONDS)

    async def _take(self, read_model: FollowedReadModel[Any], course: Course, stream: bytes, entries: Any) -> None:
        try:
            rows = 0
            for log, entry in course.take(stream, entries):
                read_model.take(course, log, entry)
                rows += len(entry.rows)
                if rows > ROWS_AT_ONCE:
                    rows = 0
                    await asyncio.sleep(0)
        except LostTrackError as error:
            self._lose(read_model, course, error)

    def _lose(self, read_model: FollowedReadModel[Any], course: Course, error: LostTrackError) -> None:
        logger.warning("read model is begun anew", read_model=read_model.name, build=str(course.build), why=str(error))
        read_model.lose(course)
