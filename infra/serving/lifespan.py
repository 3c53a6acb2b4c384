"""Start and stop of one API process: intake, follower, live push, counts and connections."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from infra.postgres.database import Database
from infra.recording.counters import CountersFlush
from infra.recording.intake import Intake
from infra.redis.connections import CONNECTION_ERRORS
from infra.serving.changes_follower import ChangesFollower
from readapi.push.hub import Hub

logger = structlog.get_logger()

REPORT_SECONDS = 1.0
"""Seconds between two updates of the intake's counts and of the replica's metrics."""


@dataclass(frozen=True)
class Connections:
    """The connections of one API process. Each of them connects on its first use."""

    commands: Redis
    """For blocking commands in threads."""
    queries: AsyncRedis
    """For queries to read models."""
    changes: AsyncRedis
    """For the changes follower, which waits on it."""
    database: Database | None
    """For the archive."""

    async def close(self) -> None:
        """Close the asynchronous connections and PostgreSQL."""
        await self.queries.aclose()
        await self.changes.aclose()
        if self.database:
            await asyncio.to_thread(self.database.close)


class ApiLifespan:
    """Falcon middleware that starts and stops the background work of one API process. Implements ``Lifespan``.

    Args:
        connections: Closed at the end.
        intake: Started at the beginning, closed at the end.
        follower: Loads the live builds before the first request, then runs in the background.
        hub: Live push, runs in the background.
        report_replica: Updates the metrics of the replica.
    """

    def __init__(
        self,
        connections: Connections,
        intake: Intake,
        follower: ChangesFollower,
        hub: Hub,
        report_replica: Callable[[], None],
    ) -> None:
        self._connections = connections
        self._intake = intake
        self._counters = CountersFlush(connections.commands, {"http": intake.counts})
        self._follower = follower
        self._hub = hub
        self._report_replica = report_replica
        self._tasks: list[asyncio.Task[None]] = []

    async def process_startup(self, _scope: Mapping[str, Any], _event: Mapping[str, Any]) -> None:
        """Start the background work. If Redis is available, load the live builds before the first request."""
        self._intake.start()
        with suppress(*CONNECTION_ERRORS):
            await self._follower.load()
        self._tasks = [_start_task(work) for work in (self._follower.run(), self._hub.run(), self._report())]

    async def process_shutdown(self, _scope: Mapping[str, Any], _event: Mapping[str, Any]) -> None:
        """Stop the background work. All messages in the intake are recorded and counted first."""
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self._intake.close)
        await asyncio.to_thread(self._counters.flush)
        await self._connections.close()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._report_replica()
            await asyncio.to_thread(self._counters.flush)


def _start_task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task that must not end. If it ends, stop the process: gunicorn then starts a new process."""

    def end_process(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            logger.error("background task ended", exc_info=task.exception())
            os.kill(os.getpid(), signal.SIGTERM)

    task = asyncio.create_task(work)
    task.add_done_callback(end_process)
    return task
