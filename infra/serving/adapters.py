"""What the API asks for besides the live read models: the way in, the dead letters, commands, how things stand."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import structlog
from eventsourcing.persistence import MapperDeserialisationError, PersistenceError
from redis import Redis
from redis.exceptions import RedisError

from domain.announcements import DeadLetter, Message, Receipt
from domain.workspace import Workspace
from infra.operations import commands, status
from infra.operations.archive_status import read_archive_status
from infra.recording.dead_letters import DeadLetters
from infra.recording.intake import BacklogFullError, Intake
from infra.recording.recorder import Recorder
from infra.redis.connections import CONNECTION_ERRORS
from infra.serving.archive import STATUS_TIMEOUT_SECONDS, ArchiveGateway
from infra.workspaces.repository import ConflictError, WorkspaceRepository
from readapi.ports.archive import ArchiveStatus
from readapi.ports.commands import Executed
from readapi.ports.errors import UnavailableError
from readapi.ports.operations import IntakeStatus, ParkedKey, ReadModelStatus, ServerStatus

logger = structlog.get_logger()

T = TypeVar("T")

RELEASE_SECONDS = 60
"""After so long, a release that was under way may be over, and all processes know what the newest writes."""


RECORD_SECONDS = 10.0
"""How long a sender waits for an event log that hangs. What it has sent may still be recorded when that goes on."""


class IntakeMessageRecorder:
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
        try:
            async with asyncio.timeout(RECORD_SECONDS):
                outcomes = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        except TimeoutError as error:
            raise UnavailableError(
                f"the event log has taken nothing for {RECORD_SECONDS:g} s; send the same again"
            ) from error
        receipts = []
        for outcome in outcomes:
            if isinstance(outcome, RedisError | PersistenceError):
                raise UnavailableError("the event log cannot be written now; send the same again") from outcome
            if isinstance(outcome, BaseException):
                raise outcome
            receipts.append(outcome)
        return receipts


class RedisDeadLetterCommands:
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
    """How the service stands, and what an operator can do about it.

    ``glancing`` asks how Redis is: it does not wait for long for a server that hangs, as who asks for health must not.
    """

    def __init__(self, client: Redis, glancing: Redis, archive: ArchiveGateway | None) -> None:
        self._client = client
        self._glancing = glancing
        self._archive = archive

    async def read_models(self) -> Sequence[ReadModelStatus]:
        """Every read model."""
        return await in_thread(lambda: status.read_model_statuses(self._client))

    async def replay(self, name: str, *, held: bool, throttle: int) -> ReadModelStatus:
        """Build it anew. Raises NoSuchReadModelError."""
        await in_thread(lambda: commands.replay(self._client, name, held=held, throttle=throttle))
        return await self._status(name)

    async def rollback(self, name: str) -> ReadModelStatus:
        """Let the previous build answer again. Raises NoSuchReadModelError, NoSuchBuildError."""
        await in_thread(lambda: commands.rollback(self._client, name))
        return await self._status(name)

    async def _status(self, name: str) -> ReadModelStatus:
        return next(model for model in await self.read_models() if model.name == name)

    async def parked(self, name: str) -> Sequence[ParkedKey]:
        """The parked keys of its live build. Raises NoSuchReadModelError."""
        commands.check_read_model_name(name)
        return [ParkedKey(**key) for key in await in_thread(lambda: status.read_parked_keys(self._client, name))]

    async def retry_parked(self, name: str, key: str) -> bool:
        """Have a parked key tried again; False if it is not parked. Raises NoSuchReadModelError."""
        return bool(await in_thread(lambda: commands.retry_parked(self._client, name, key)))

    async def intake(self) -> IntakeStatus:
        """What came in."""
        return await in_thread(lambda: status.read_intake(self._client))

    async def servers(self) -> Mapping[str, ServerStatus]:
        """``redis``, and ``postgres`` where there is an archive."""
        servers = {"redis": await asyncio.to_thread(self._redis)}
        if self._archive:
            servers["postgres"] = await _postgres(self._archive)
        return servers

    async def archive(self) -> ArchiveStatus | None:
        """How the archive stands; None where there is none. Raises UnavailableError."""
        archive = self._archive
        if archive is None:
            return None
        return await archive.ask(lambda: read_archive_status(archive.database, self._client), STATUS_TIMEOUT_SECONDS)

    def _redis(self) -> ServerStatus:
        try:
            info = self._glancing.info("server")
            started = time.perf_counter()
            self._glancing.ping()
            milliseconds = round((time.perf_counter() - started) * 1_000, 3)
        except CONNECTION_ERRORS:
            return ServerStatus(up=False)
        version = info.get("valkey_version") or info["redis_version"]
        return ServerStatus(up=True, version=str(version), latency_ms=milliseconds)


async def _postgres(archive: ArchiveGateway) -> ServerStatus:
    def ping() -> ServerStatus:
        with archive.database.connection() as connection:
            connection.execute("SELECT 1")
            started = time.perf_counter()
            connection.execute("SELECT 1")
            milliseconds = round((time.perf_counter() - started) * 1_000, 3)
            return ServerStatus(True, connection.info.parameter_status("server_version"), milliseconds)

    try:
        return await archive.ask(ping, STATUS_TIMEOUT_SECONDS)
    except UnavailableError:
        return ServerStatus(up=False)


async def in_thread(operation: Callable[[], T]) -> T:
    """The result of a blocking operation. Raises UnavailableError where it could not reach Redis.

    The cause, which may name addresses, is for the log and not for clients.
    """
    try:
        return await asyncio.to_thread(operation)
    except (*CONNECTION_ERRORS, PersistenceError) as error:
        logger.warning("redis is away", error=str(error))
        raise UnavailableError("Redis cannot be reached; try again") from error


class RepositoryWorkspaceCommands:
    """The commands, for the API."""

    def __init__(self, workspaces: WorkspaceRepository) -> None:
        self._workspaces = workspaces

    async def execute(self, user: str, command: Callable[[Workspace], None]) -> Executed:
        """As ``WorkspaceRepository``. Raises WorkspaceError, UnavailableError."""
        try:
            return await asyncio.to_thread(self._workspaces.execute, user, command)
        except ConflictError as error:
            raise UnavailableError(str(error)) from error
        except MapperDeserialisationError as error:
            logger.error("workspace cannot be read", error=str(error))
            raise UnavailableError("this release cannot read the history of these lists", RELEASE_SECONDS) from error
        except (RedisError, PersistenceError) as error:
            logger.warning("command not recorded", error=str(error))
            raise UnavailableError("the lists cannot be changed now; read them, then send the same again") from error
