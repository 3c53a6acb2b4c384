"""Start and stop of one API process: intake, follower, live push, counts and connections."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import structlog
from redis.exceptions import RedisError

from domain.partitions import Partitions
from infra.heartbeats.heartbeats import Heartbeats
from infra.log.clock import LogClock
from infra.log.directory import LogDirectory
from infra.postgres.database import Database
from infra.processes.identity import process_name
from infra.processes.memory import return_free_memory
from infra.recording.counters import CountersFlush
from infra.recording.intake import Intake
from infra.redis.cluster import UNREACHABLE_ERRORS
from infra.redis.connections import AsyncRedisClient, RedisClient
from infra.serving.alerts import follow_alerts
from infra.serving.changes_follower import ChangesFollower
from readapi.push.hub import Hub

logger = structlog.get_logger()

REPORT_SECONDS = 1.0
"""Seconds between two updates of the intake's counts and of the replica's metrics."""

REPORTS_PER_TRIM = 10
"""Number of these updates after which free memory returns to the operating system."""


@dataclass(frozen=True)
class Connections:
    """The connections of one API process. Each of them connects on its first use."""

    commands: RedisClient
    """For blocking commands in threads."""
    queries: AsyncRedisClient
    """For queries to read models."""
    changes: AsyncRedisClient
    """For the changes follower and for the alerts to live connections, which wait on it."""
    databases: Sequence[Database]
    """For the archive."""

    async def close(self) -> None:
        """Close the asynchronous connections and PostgreSQL."""
        await self.queries.aclose()
        await self.changes.aclose()
        for database in self.databases:
            await asyncio.to_thread(database.close)


@dataclass(frozen=True)
class BackgroundWork:
    """The parts of one API process that work in the background."""

    intake: Intake
    """Started at the beginning, closed at the end."""
    follower: ChangesFollower
    """Loads the live builds before the first request."""
    hub: Hub
    """Live push."""
    log_clock: LogClock
    """Measured before the first request, and from time to time."""


class ApiLifespan:
    """Falcon middleware that starts and stops the background work of one API process. Implements ``Lifespan``.

    Args:
        connections: Closed at the end.
        work: The parts that work in the background.
        logs: The logs of the process. Partitions that are added are opened once per second.
        check_partitions: Checks the number of partitions of the market log, and returns it. Raises RedisError or
            StartupError.
        report_replica: Updates the metrics of the replica.
    """

    def __init__(
        self,
        connections: Connections,
        work: BackgroundWork,
        logs: LogDirectory,
        check_partitions: Callable[[], Partitions],
        report_replica: Callable[[], None],
    ) -> None:
        self._connections = connections
        self._intake = work.intake
        self._counters = CountersFlush(connections.commands, {"http": work.intake.counts})
        self._follower = work.follower
        self._hub = work.hub
        self._log_clock = work.log_clock
        self._logs = logs
        self._check_partitions = check_partitions
        self._report_replica = report_replica
        self._tasks: list[asyncio.Task[None]] = []

    async def process_startup(self, _scope: Mapping[str, Any], _event: Mapping[str, Any]) -> None:
        """Start the background work. If Redis is available, load the live builds before the first request.

        The application may have been built in another process, long before: only from here on, the process is known.
        """
        self._follower.begin()
        heartbeats = {"serve": lambda: [self._follower.progress], "http": lambda: [self._intake.progress]}
        self._heartbeats = Heartbeats(self._connections.commands, process_name(), heartbeats)
        await self._refresh_logs()
        with suppress(RedisError):
            await self._start_intake()
        with suppress(RedisError):
            await self._follower.load()
        self._tasks = [_start_task(work) for work in self._work()]

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        """Return all work that lasts as long as the process."""
        alerts = follow_alerts(self._connections.changes, self._hub)
        return [self._follower.run(), self._hub.run(), alerts, self._report()]

    async def process_shutdown(self, _scope: Mapping[str, Any], _event: Mapping[str, Any]) -> None:
        """Stop the background work. All messages in the intake are recorded and counted first."""
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self._intake.close)
        await asyncio.to_thread(self._counters.flush)
        await asyncio.to_thread(self._heartbeats.withdraw, "serve", "http")
        await self._connections.close()

    async def _start_intake(self) -> None:
        """Check the number of partitions, which no event must be recorded without, then start the intake.

        Raises:
            RedisError: Redis cannot be reached.
            StartupError: The market log never had the number of partitions of the settings.
        """
        self._logs.adopt(await asyncio.to_thread(self._check_partitions))
        self._intake.start()

    async def _report(self) -> None:
        while not self._intake.is_running:
            try:
                await self._start_intake()
            except RedisError:
                await asyncio.sleep(REPORT_SECONDS)
        for number in count(1):
            await asyncio.sleep(REPORT_SECONDS)
            self._report_replica()
            self._intake.check_thread()
            await asyncio.to_thread(self._counters.flush)
            await asyncio.to_thread(self._heartbeats.beat)
            await self._refresh_logs()
            if number % REPORTS_PER_TRIM == 0:
                await asyncio.to_thread(return_free_memory)

    async def _refresh_logs(self) -> None:
        """Open the partitions that were added, and measure the clock of the logs."""
        # The heartbeats log an outage.
        with suppress(*UNREACHABLE_ERRORS, RedisError):
            await asyncio.to_thread(self._logs.refresh)
            await asyncio.to_thread(self._log_clock.measure)


def _start_task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task that must not end. If it ends, stop the process: gunicorn then starts a new process."""

    def end_process(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            logger.error("background task ended", exc_info=task.exception())
            os.kill(os.getpid(), signal.SIGTERM)

    task = asyncio.create_task(work)
    task.add_done_callback(end_process)
    return task
