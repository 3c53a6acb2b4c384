"""What the API asks for besides the read models' queries: freshness, the way in, the dead letters, how things stand."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import structlog
from eventsourcing.persistence import PersistenceError
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from domain.announcements import DeadLetter, Message, Receipt
from infra import standing
from infra.connections import REDIS_ERRORS
from infra.dead_letters import DeadLetters
from infra.intake import BacklogFullError, Intake
from infra.read_models.keys import SegmentKeys
from infra.recorder import Recorder
from projections.ports import Segment
from projections.queries import Positions
from readapi.ports import IntakeStatus, ReadModelStatus, ServerStatus, UnavailableError

logger = structlog.get_logger()

BLOCK_MILLISECONDS = 5_000

GATHER_SECONDS = 0.005
"""Commits that follow each other so closely are seen as one: a busy log costs an API process little."""

RETRY_SECONDS = 0.5
"""Between tries while Redis is away."""

T = TypeVar("T")


class RedisFreshness:
    """How far segments are folded, kept current by one connection that waits for their commits."""

    def __init__(self, client: AsyncRedis, segments: Sequence[Segment]) -> None:
        self._client = client
        self._segments = [(segment, SegmentKeys(segment)) for segment in segments]
        self._positions: dict[str, dict[str, int]] = {}
        for segment in segments:
            self._positions.setdefault(segment.read_model, {})[segment.log] = 0
        self._moved = asyncio.Event()

    def positions(self, read_model: str) -> Positions:
        """The position up to which each log is folded; 0 where nothing is known yet."""
        return self._positions[read_model]

    async def reached(self, read_model: str, positions: Positions, timeout: float) -> bool:  # noqa: ASYNC109 the port's
        """Wait until the read model is at or past all ``positions``; False if it is not within ``timeout`` seconds."""
        folded = self._positions[read_model]
        if not positions.keys() <= folded.keys():
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not _past(folded, positions):
                    await self._moved.wait()
        return _past(folded, positions)

    async def load(self) -> None:
        """Read every checkpoint, in one round trip."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for _, keys in self._segments:
                pipeline.hget(keys.state, "checkpoint")
            checkpoints = await pipeline.execute()
        for (segment, _), checkpoint in zip(self._segments, checkpoints, strict=True):
            self._positions[segment.read_model][segment.log] = int(checkpoint or 0)
        self._moved.set()
        self._moved = asyncio.Event()

    async def follow(self) -> None:
        """Keep the positions current until cancelled; they stay as they were while Redis is away.

        A commit's entry in ``changes`` wakes us, and the checkpoint beside it is then read: what lies between is
        skipped, however much it is.
        """
        while True:
            try:
                await self.load()
                await self._commit()
                await asyncio.sleep(GATHER_SECONDS)
            except RedisError as error:
                logger.warning("positions are not kept current", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _commit(self) -> None:
        """Wait for a commit behind the positions known, for some seconds."""
        behind: dict[Any, Any] = {
            keys.changes: f"{self._positions[segment.read_model][segment.log]}-18446744073709551615"
            for segment, keys in self._segments
        }
        await self._client.xread(behind, count=1, block=BLOCK_MILLISECONDS)


def _past(folded: Positions, wanted: Positions) -> bool:
    return all(folded[log] >= position for log, position in wanted.items())


class IntakeAnnouncements:
    """The way in by POST, through this process's intake."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def record(self, messages: Sequence[tuple[str, bytes]]) -> list[Receipt]:
        """Record messages (channel, payload). Raises UnavailableError; recording the same messages again is safe."""
        now = time.time()
        try:
            futures = [self._intake.submit(Message(channel, payload, now, "http")) for channel, payload in messages]
        except BacklogFullError as error:
            raise UnavailableError(f"the intake is full: {error}") from error
        outcomes = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        receipts = []
        for outcome in outcomes:
            if isinstance(outcome, RedisError | PersistenceError):
                raise UnavailableError("the event log cannot be written now; send the same again") from outcome
            if isinstance(outcome, BaseException):
                raise outcome
            receipts.append(outcome)
        return receipts


class RedisDeadLetterDesk:
    """The dead letters. The cursor of a page is the number of its last letter."""

    def __init__(self, letters: DeadLetters, recorder: Recorder) -> None:
        self._letters = letters
        self._recorder = recorder

    async def page(self, cursor: str | None, limit: int) -> tuple[Sequence[DeadLetter], str | None]:
        """Letters, the newest first, and the cursor of the next page. Raises ValueError for a foreign cursor."""
        before = None if cursor is None else _number(cursor)
        found = await in_thread(lambda: self._letters.page(before, limit + 1))
        letters = found[:limit]
        return letters, str(letters[-1].number) if len(found) > limit else None

    async def get(self, letter_id: str) -> DeadLetter | None:
        """One letter."""
        return await in_thread(lambda: self._letters.get(letter_id))

    async def retry(self, letter_id: str) -> Receipt | None:
        """Read it again; None if there is no such letter."""

        def read_again() -> Receipt | None:
            letter = self._letters.get(letter_id)
            return self._recorder.retry(letter) if letter else None

        return await in_thread(read_again)

    async def discard(self, letter_id: str) -> bool:
        """Remove it; False if there is no such letter."""
        return await in_thread(lambda: self._letters.discard(letter_id))


def _number(cursor: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,14}", cursor):
        raise ValueError("is no cursor of ours")
    return int(cursor)


class RedisOperations:
    """How the service stands."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def read_models(self) -> Sequence[ReadModelStatus]:
        """Every read model."""
        return await in_thread(lambda: standing.read_models(self._client))

    async def intake(self) -> IntakeStatus:
        """What came in."""
        return await in_thread(lambda: standing.intake(self._client))

    async def servers(self) -> Mapping[str, ServerStatus]:
        """``redis``."""
        return {"redis": await asyncio.to_thread(self._redis)}

    def _redis(self) -> ServerStatus:
        try:
            info = self._client.info("server")
            started = time.perf_counter()
            self._client.ping()
            milliseconds = round((time.perf_counter() - started) * 1_000, 3)
        except REDIS_ERRORS:
            return ServerStatus(up=False)
        version = info.get("valkey_version") or info["redis_version"]
        return ServerStatus(up=True, version=str(version), latency_ms=milliseconds)


async def in_thread(operation: Callable[[], T]) -> T:
    """The result of a blocking operation. Raises UnavailableError where it could not reach Redis.

    The cause, which may name addresses, is for the log and not for clients.
    """
    try:
        return await asyncio.to_thread(operation)
    except (*REDIS_ERRORS, PersistenceError) as error:
        logger.warning("redis is away", error=str(error))
        raise UnavailableError("Redis cannot be reached; try again") from error
