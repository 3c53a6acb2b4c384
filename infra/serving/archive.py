"""The archive as an API process asks it: off the event loop, within bounded time, and not at all while it is away."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import TypeVar, cast

import structlog
from eventsourcing.persistence import PersistenceError

from infra.archive.event_history import EventHistory
from infra.archive.verification.verify import last_verification
from infra.log.errors import ArchiveBusyError, ArchiveUnavailableError
from infra.postgres.database import Database
from infra.processes.errors import StartupError
from infra.redis.connections import CONNECTION_ERRORS
from projections.queries import Positions
from readapi.ports.archive import EventFilter, EventPage, PastEvent, Verification
from readapi.ports.errors import UnavailableError

logger = structlog.get_logger()

T = TypeVar("T")

AT_ONCE = 4
"""Questions that one process asks at once."""

HISTORY_TIMEOUT_SECONDS = 15.0
"""How long somebody who asks for the past waits for it."""

STATUS_TIMEOUT_SECONDS = 1.0
"""The same for what is shown beside something else, or says how things stand."""

AWAY = "the archive in PostgreSQL cannot be reached; try again"
BUSY = "the archive in PostgreSQL is held up by other work; try again"


class ArchiveGateway:
    """The archive, with threads of its own, so that nobody else waits for them while PostgreSQL hangs."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="archive")
        self._is_away = False
        self._looking = Thread()

    async def ask(self, question: Callable[[], T], patience: float) -> T:
        """The answer to a blocking question. Raises UnavailableError, after ``patience`` seconds at the latest.

        Once PostgreSQL has been found away nobody waits for it, until it has been seen again. The cause, which may name
        addresses, is for the log and not for clients.
        """
        if self._is_away:
            self._look_again()
            raise UnavailableError(AWAY)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(patience):
                return await loop.run_in_executor(self._threads, self._watched, question)
        except TimeoutError as error:
            self._is_away = True
            logger.warning("the archive does not answer", seconds=patience)
            raise UnavailableError(f"the archive in PostgreSQL does not answer within {patience:g} s") from error
        except ArchiveBusyError as error:
            raise UnavailableError(BUSY) from error
        except (ArchiveUnavailableError, StartupError) as error:
            raise UnavailableError(AWAY) from error
        except (*CONNECTION_ERRORS, PersistenceError) as error:
            logger.warning("the past cannot be read", error=str(error))
            raise UnavailableError("the event log behind the archive cannot be read; try again") from error

    def _watched(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except ArchiveBusyError as error:
            logger.warning("the archive is busy", error=str(error))
            raise
        except (ArchiveUnavailableError, StartupError) as error:
            self._is_away = True
            logger.warning("the archive is away", error=str(error))
            raise

    def _look_again(self) -> None:
        if not self._looking.is_alive():
            self._looking = Thread(target=self._look, name="archive away", daemon=True)
            self._looking.start()

    def _look(self) -> None:
        try:
            with self.database.connection() as connection:
                connection.execute("SELECT 1")
        except (ArchiveUnavailableError, StartupError):
            return
        self._is_away = False
        logger.info("the archive is back")


class ArchiveHistory:
    """The past, for the API."""

    def __init__(self, archive: ArchiveGateway, trail: EventHistory) -> None:
        self._archive = archive
        self._trail = trail

    async def events(self, event_filter: EventFilter, after: Positions, limit: int) -> EventPage:
        """The events behind these positions, ``limit`` at most. Raises UnavailableError."""
        return await self._archive.ask(lambda: self._trail.events(event_filter, after, limit), HISTORY_TIMEOUT_SECONDS)

    async def has_stream(self, stream: str) -> bool:
        """Whether a stream ever had an event. Raises UnavailableError."""
        return await self._archive.ask(lambda: self._trail.has_stream(stream), HISTORY_TIMEOUT_SECONDS)

    async def of_pattern(self, pattern_id: str, limit: int) -> Sequence[PastEvent]:
        """The first events that spoke of a pattern. Raises UnavailableError, ValueError for what is no pattern id."""
        return await self._archive.ask(lambda: self._trail.of_pattern(pattern_id, limit), STATUS_TIMEOUT_SECONDS)

    async def of_stream(self, stream: str, limit: int) -> Sequence[PastEvent]:
        """The first events of a stream. Raises UnavailableError."""
        wanted = EventFilter(stream=stream)
        return (await self._archive.ask(lambda: self._trail.events(wanted, {}, limit), STATUS_TIMEOUT_SECONDS)).events

    async def verification(self) -> Verification | None:
        """What the last verification found. Raises UnavailableError."""
        found = await self._archive.ask(lambda: last_verification(self._archive.database), STATUS_TIMEOUT_SECONDS)
        return cast("Verification | None", found)
