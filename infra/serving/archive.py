"""Access of an API process to the archive: in threads beside the event loop, with a timeout."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import TypeVar, cast

import structlog
from eventsourcing.persistence import PersistenceError

from infra.archive.event_history import EventHistory
from infra.archive.verification.verify import last_verification
from infra.log.errors import ArchiveBusyError, ArchiveReadOnlyError, ArchiveUnavailableError
from infra.log.event_log import EventLog
from infra.postgres.database import PING, Database
from infra.processes.errors import StartupError
from infra.redis.connections import CONNECTION_ERRORS
from projections.queries import Positions
from readapi.ports.archive import EventFilter, EventPage, PastEvent, Verification
from readapi.ports.errors import UnavailableError

logger = structlog.get_logger()

T = TypeVar("T")

THREADS = 4
"""Number of operations that one process runs at the same time."""

HISTORY_TIMEOUT_SECONDS = 15.0
"""Seconds after which a request for history fails."""

STATUS_TIMEOUT_SECONDS = 1.0
"""Seconds after which a request for the status, or for history beside other data, fails."""

UNREACHABLE = "the archive in PostgreSQL cannot be reached; try again"
"""Message to clients while PostgreSQL cannot be reached."""

BUSY = "the archive in PostgreSQL is held up by other work; try again"
"""Message to clients if a lock or a time limit ended a statement."""


class ArchiveGateway:
    """Access to a server of the archive in separate threads. A PostgreSQL that hangs delays no other request.

    Args:
        database: The server.
        role: The role of the server, for messages in the log.
    """

    def __init__(self, database: Database, role: str = "primary") -> None:
        self.database = database
        self._log = logger.bind(server=role)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="archive")
        self.fault: str | None = None
        """Why the server cannot be used although it answers; None if it can, or does not answer."""
        self._is_unreachable = False
        self._probe = Thread()

    async def run(self, operation: Callable[[], T], timeout: float) -> T:  # noqa: ASYNC109 it bounds the thread's work
        """Run a blocking operation in a thread and return its result.

        Once PostgreSQL cannot be reached, every call fails at once until a probe reaches the server again. The cause of
        a failure may name addresses. It is therefore written to the log and not passed on to clients.

        Args:
            operation: The operation.
            timeout: Seconds to wait for the result.

        Raises:
            UnavailableError: The archive or the event log cannot be reached, or the timeout has passed.
        """
        if self._is_unreachable:
            self._start_probe()
            raise UnavailableError(UNREACHABLE)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                return await loop.run_in_executor(self._threads, self._observe, operation)
        except TimeoutError as error:
            self._is_unreachable = True
            self._log.warning("archive did not answer in time", seconds=timeout)
            raise UnavailableError(f"the archive in PostgreSQL does not answer within {timeout:g} s") from error
        except ArchiveBusyError as error:
            raise UnavailableError(BUSY) from error
        except (ArchiveUnavailableError, StartupError) as error:
            raise UnavailableError(UNREACHABLE) from error
        except (*CONNECTION_ERRORS, PersistenceError) as error:
            self._log.warning("event log behind the archive cannot be read", error=str(error))
            raise UnavailableError("the event log behind the archive cannot be read; try again") from error

    def _observe(self, operation: Callable[[], T]) -> T:
        """Run an operation, and remember whether PostgreSQL could be reached and used."""
        try:
            result = operation()
            self.fault = None
            return result
        except ArchiveBusyError as error:
            self._log.warning("archive busy", error=str(error))
            raise
        except (ArchiveUnavailableError, StartupError) as error:
            self._is_unreachable = True
            self.fault = str(error) if isinstance(error, StartupError | ArchiveReadOnlyError) else None
            self._log.warning("archive unreachable", error=str(error))
            raise

    def _start_probe(self) -> None:
        if not self._probe.is_alive():
            self._probe = Thread(target=self._probe_server, name="archive probe", daemon=True)
            self._probe.start()

    def _probe_server(self) -> None:
        try:
            with self.database.connection() as connection:
                connection.execute(PING)
        except (ArchiveUnavailableError, StartupError):
            return
        self._is_unreachable = False
        self._log.info("archive reachable again")


@dataclass(frozen=True)
class ArchiveServers:
    """The servers of the archive: the primary server, and the standby from which the past is read if there is one."""

    primary: ArchiveGateway
    standby: ArchiveGateway | None = None

    async def read(self, operation: Callable[[Database], T], timeout: float) -> T:  # noqa: ASYNC109 as of ``run``
        """Run a blocking operation that reads the past. If the standby cannot execute it, the primary server does.

        Args:
            operation: The operation. It gets the server, and must work with any.
            timeout: Seconds to wait for the result of each server.

        Raises:
            UnavailableError: No server can be reached, or the timeout has passed.
        """
        standby, primary = self.standby, self.primary
        if standby:
            with suppress(UnavailableError):
                return await standby.run(lambda: operation(standby.database), timeout)
        return await primary.run(lambda: operation(primary.database), timeout)


class ArchiveHistory:
    """The event history as the port of the API. Every method raises UnavailableError.

    Args:
        archive: The servers of the archive.
        logs: The logs, which have the events that are not archived yet.
    """

    def __init__(self, archive: ArchiveServers, logs: Mapping[str, EventLog]) -> None:
        self._archive = archive
        self._logs = logs

    async def events(self, event_filter: EventFilter, after: Positions, limit: int) -> EventPage:
        """Return a page of events that pass a filter, behind the positions ``after``."""
        return await self._read(lambda history: history.events(event_filter, after, limit), HISTORY_TIMEOUT_SECONDS)

    async def has_stream(self, stream: str) -> bool:
        """Return whether a stream ever had an event."""
        return await self._read(lambda history: history.has_stream(stream), HISTORY_TIMEOUT_SECONDS)

    async def of_list(self, event_filter: EventFilter, list_id: str, after: Positions, limit: int) -> EventPage:
        """Return a page of the events about a list of a user, behind the positions ``after``."""
        return await self._read(
            lambda history: history.of_list(event_filter, list_id, after, limit), HISTORY_TIMEOUT_SECONDS
        )

    async def of_pattern(self, pattern_id: str, limit: int) -> Sequence[PastEvent]:
        """Return the first events about a pattern. Raises ValueError if the pattern id is malformed."""
        return await self._read(lambda history: history.of_pattern(pattern_id, limit), STATUS_TIMEOUT_SECONDS)

    async def of_stream(self, stream: str, limit: int) -> Sequence[PastEvent]:
        """Return the first events of a stream."""
        event_filter = EventFilter(stream=stream)
        page = await self._read(lambda history: history.events(event_filter, {}, limit), STATUS_TIMEOUT_SECONDS)
        return page.events

    async def verification(self) -> Verification | None:
        """Return the result of the last verification, or None before the first."""
        # A client that has just verified must find the result, which the standby has a moment later.
        primary = self._archive.primary
        result = await primary.run(lambda: last_verification(primary.database), STATUS_TIMEOUT_SECONDS)
        return cast("Verification | None", result)

    async def _read(self, operation: Callable[[EventHistory], T], seconds: float) -> T:
        return await self._archive.read(lambda database: operation(EventHistory(database, self._logs)), seconds)
