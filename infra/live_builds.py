"""Follows the read models for one API process: which build of each is live, and how far that is folded.

One connection waits for commits. The versions and the checkpoints are read together, in one round trip, after each of
them and at least four times a second; a build that has gone live answers once its positions are known.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Generic, TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from infra.read_models.keys import SegmentKeys, versions_key
from infra.read_models.versions import parse_versions
from projections.ports import Segment
from projections.queries import Positions
from projections.versions import Build
from readapi.ports import LiveBuild

logger = structlog.get_logger()

BLOCK_MILLISECONDS = 250
"""How long a switch may stay unnoticed while nothing is committed."""

GATHER_SECONDS = 0.005
"""Commits that follow each other so closely are seen as one: a busy log costs an API process little."""

RETRY_SECONDS = 0.5
"""Between tries while Redis is away."""

Queries = TypeVar("Queries")


class FollowedReadModel(Generic[Queries]):
    """The live build of one read model. ``open_queries`` makes what answers from a build.

    Before there is one, an empty build numbered 0 of this code's ``version`` answers.
    """

    def __init__(self, name: str, version: int, logs: Sequence[str], open_queries: Callable[[Build], Queries]) -> None:
        self.name = name
        self.logs = logs
        self._open_queries = open_queries
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

    def move(self, build: Build, positions: Positions) -> None:
        """``build`` is live, and so far."""
        if build == self._current.build:
            queries = self._current.queries
        else:
            queries = self._open_queries(build)
            logger.info("build answers", read_model=self.name, build=str(build), before=str(self._current.build))
        self._current = LiveBuild(build, queries, positions)
        self._moved.set()
        self._moved = asyncio.Event()


def _past(folded: Positions, wanted: Positions) -> bool:
    return all(folded[log] >= position for log, position in wanted.items())


@lru_cache(maxsize=1_000)
def _keys(segment: Segment) -> SegmentKeys:
    return SegmentKeys(segment)


class Follower:
    """Moves read models from commit to commit and from build to build."""

    def __init__(self, client: Redis, read_models: Sequence[FollowedReadModel[Any]]) -> None:
        self._client = client
        self._read_models = read_models

    async def load(self) -> None:
        """Learn which builds are live and how far they are: in one round trip, or two after a switch."""
        builds = [read_model.current.build for read_model in self._read_models]
        live, positions = await self._read(builds)
        if live != builds:
            builds = live
            _, positions = await self._read(builds)
        for read_model, build, reached in zip(self._read_models, builds, positions, strict=True):
            read_model.move(build, reached)

    async def _read(self, builds: Sequence[Build]) -> tuple[list[Build], list[Positions]]:
        """The live build of each read model, where there is none that given; and the positions of those given."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for read_model in self._read_models:
                pipeline.get(versions_key(read_model.name))
            for _, _, keys in self._segments(builds):
                pipeline.hget(keys.state, "checkpoint")
            replies = await pipeline.execute()
        versions, checkpoints = replies[: len(builds)], replies[len(builds) :]
        live = [parse_versions(stored or b"").live or build for stored, build in zip(versions, builds, strict=True)]
        positions: dict[str, dict[str, int]] = {read_model.name: {} for read_model in self._read_models}
        for (name, log, _), checkpoint in zip(self._segments(builds), checkpoints, strict=True):
            positions[name][log] = int(checkpoint or 0)
        return live, list(positions.values())

    def _segments(self, builds: Sequence[Build]) -> Iterator[tuple[str, str, SegmentKeys]]:
        for read_model, build in zip(self._read_models, builds, strict=True):
            for log in read_model.logs:
                yield read_model.name, log, _keys(Segment(read_model.name, build, log))

    async def follow(self) -> None:
        """Go on until cancelled; everything stays as it was while Redis is away.

        A commit's entry in ``changes`` wakes us, and the checkpoint beside it is then read: what lies between is
        skipped, however much it is.
        """
        while True:
            try:
                await self.load()
                await self._commit()
                await asyncio.sleep(GATHER_SECONDS)
            except RedisError as error:
                logger.warning("read models are not followed", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _commit(self) -> None:
        """Wait for a commit behind the positions known, for a moment."""
        builds = [read_model.current.build for read_model in self._read_models]
        positions = {read_model.name: read_model.current.positions for read_model in self._read_models}
        behind: dict[Any, Any] = {
            keys.changes: f"{positions[name][log]}-18446744073709551615" for name, log, keys in self._segments(builds)
        }
        await self._client.xread(behind, count=1, block=BLOCK_MILLISECONDS)
