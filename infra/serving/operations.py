"""Status and operator commands of the service, for the API."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from domain.operation_events import Command
from domain.origins import Sender
from infra.alerts.queue import read_alert_status
from infra.heartbeats.heartbeats import read_liveness
from infra.log.handle import LogOptions
from infra.log.partitions import log_names
from infra.operations import commands, status
from infra.operations.archive_status import read_archive_status
from infra.operations.build_comparison import builds_to_compare, compare, not_caught_up
from infra.operations.jobs import read_job, start_job
from infra.operations.journal import Journal
from infra.operations.server_status import (
    READ_FROM_PRIMARY,
    postgres_status,
    primary_written,
    redis_status,
    standby_status,
)
from infra.processes.disk import full_disk
from infra.redis.connections import RedisClient
from infra.serving.archive import STATUS_TIMEOUT_SECONDS, ArchiveGateway, ArchiveServers
from infra.serving.blocking_calls import in_thread
from infra.settings import Settings
from projections.fingerprint import ProjectionCode
from projections.versions import Build
from readapi.ports.archive import ArchiveStatus
from readapi.ports.errors import UnavailableError
from readapi.ports.jobs import Job
from readapi.ports.operations import (
    ROLES,
    WAYS,
    AlertStatus,
    IntakeStatus,
    Liveness,
    ParkedKey,
    ReadModelStatus,
    ServerStatus,
)

SWITCH_SECONDS = 5.0
"""Seconds for which a switch waits until the build has caught up again with the logs, which go on growing."""

POLL_SECONDS = 0.2
"""Seconds between two looks at the build during this time."""


class RedisOperations:
    """Status of the service, and commands to its read models. Implements ``Operations``.

    Every method except ``servers`` raises UnavailableError while Redis cannot be reached.

    Args:
        client: Executes the queries and commands.
        health_client: Checks whether Redis answers. It has a short time-out and does not retry, because a request for
            the health of the service must not wait for a server that hangs.
        archive: The servers of the archive, if there is one.
        code: The code of each read model in this process.
        settings: The durability that Redis must provide, and the folder of the embedded servers.
        journal: Records the commands.
    """

    def __init__(
        self,
        client: RedisClient,
        health_client: RedisClient,
        archive: ArchiveServers | None,
        code: Mapping[str, ProjectionCode],
        settings: Settings,
        journal: Journal,
    ) -> None:
        self._client = client
        self._health_client = health_client
        self._archive = archive
        self._code = code
        self._journal = journal
        self._log_options = LogOptions.from_settings(settings)
        self._data = settings.data

    async def read_models(self) -> Sequence[ReadModelStatus]:
        """Return the status of every read model."""
        return await in_thread(lambda: status.read_model_statuses(self._client))

    async def replay(self, name: str, operator: Sender, *, held: bool, throttle: int) -> ReadModelStatus:
        """Start a new build of a read model, or join the build under way.

        Raises:
            NoSuchReadModelError: There is no read model with this name.
            NotFoldableError: No running worker carries the code of this process.
            NoSuchBuildError: There is no live build.
        """
        commands.check_read_model_name(name)
        await self._record("replay", name, operator, {"held": held, "throttle": throttle})
        await in_thread(lambda: commands.replay(self._client, self._code[name], held=held, throttle=throttle))
        return await self._read_model(name)

    async def verify_replay(self, name: str, operator: Sender) -> Job:
        """Start a comparison of the live build with the build under way or, without one, with the previous build.

        Raises:
            NoSuchReadModelError: There is no read model with this name.
            StateConflictError: A comparison is under way, or the build has not caught up with the logs.
            NoSuchBuildError: There is only one build.
            NotFoldableError: No running worker can fold the build under way.
        """
        commands.check_read_model_name(name)
        await self._record("verify-replay", name, operator)
        return await in_thread(lambda: self._start_comparison(name))

    def _start_comparison(self, name: str) -> Job:
        old, new = builds_to_compare(self._client, name)
        options = {"name": name, "old": str(old), "new": str(new)}
        return start_job(self._client, _comparison_of(name), compare, options)

    async def replay_verification(self, name: str) -> Job | None:
        """Return the last comparison of builds, or None if there was none.

        Raises:
            NoSuchReadModelError: There is no read model with this name.
        """
        commands.check_read_model_name(name)
        return await in_thread(lambda: read_job(self._client, _comparison_of(name)))

    async def switch(self, name: str, build: str, operator: Sender) -> ReadModelStatus:
        """Make the build under way live. Wait a short time for it to catch up again with the logs.

        Raises:
            NoSuchReadModelError: There is no read model with this name.
            StateConflictError: The build has not caught up with the logs.
            NoSuchBuildError: The build is not under way.
            NotFoldableError: No running worker can fold the build.
        """
        commands.check_read_model_name(name)
        await self._record("switch", name, operator, {"build": build})
        wanted, deadline = Build.parse(build), time.monotonic() + SWITCH_SECONDS
        while not await in_thread(lambda: commands.has_caught_up(self._client, name, wanted)):
            if time.monotonic() > deadline:
                raise not_caught_up(name, wanted)
            await asyncio.sleep(POLL_SECONDS)
        await in_thread(lambda: commands.switch(self._client, name, wanted))
        return await self._read_model(name)

    async def rollback(self, name: str, operator: Sender) -> ReadModelStatus:
        """Make the previous build the live build again.

        Raises:
            NoSuchReadModelError: There is no read model with this name.
            NoSuchBuildError: There is no previous build.
            NotFoldableError: No running worker can fold the previous build.
        """
        commands.check_read_model_name(name)
        await self._record("rollback", name, operator)
        await in_thread(lambda: commands.rollback(self._client, name))
        return await self._read_model(name)

    async def _read_model(self, name: str) -> ReadModelStatus:
        return next(model for model in await self.read_models() if model.name == name)

    async def parked(self, name: str) -> Sequence[ParkedKey]:
        """Return the parked keys of the live build of a read model.

        Raises:
            NoSuchReadModelError: There is no read model with this name.
        """
        commands.check_read_model_name(name)
        return [ParkedKey(**key) for key in await in_thread(lambda: status.read_parked_keys(self._client, name))]

    async def retry_parked(self, name: str, key: str, operator: Sender) -> bool:
        """Request another attempt to fold a parked key. Return False if the key is not parked.

        Raises:
            NoSuchReadModelError: There is no read model with this name.
        """
        commands.check_read_model_name(name)
        await self._record("retry-parked", name, operator, {"key": key})
        return bool(await in_thread(lambda: commands.retry_parked(self._client, name, key)))

    async def _record(
        self, command: Command, name: str, operator: Sender, details: Mapping[str, Any] | None = None
    ) -> None:
        await in_thread(lambda: self._journal.record(command, name, operator, details))

    async def intake(self) -> IntakeStatus:
        """Return the counts of received messages."""
        return await in_thread(lambda: status.read_intake(self._client))

    async def alerts(self) -> AlertStatus:
        """Return the state of the alerts of all users."""
        return await in_thread(lambda: read_alert_status(self._client, log_names(self._client), time.time()))

    async def liveness(self) -> Mapping[str, Liveness]:
        """Return the processes of each role and of each way in."""
        return await in_thread(lambda: read_liveness(self._client, (*ROLES, *WAYS)))

    async def servers(self) -> Mapping[str, ServerStatus]:
        """Return the status of ``redis``, and of ``postgres`` and ``postgres_standby`` where they are configured."""
        servers = {"redis": await asyncio.to_thread(redis_status, self._health_client, self._log_options)}
        if self._archive:
            servers |= await archive_server_statuses(self._archive)
        if fault := full_disk(self._data):
            # The servers of `tickview up` have their data here. Others are not affected.
            servers = {name: replace(server, warnings=[*server.warnings, fault]) for name, server in servers.items()}
        return servers

    async def archive(self) -> ArchiveStatus | None:
        """Return the status of the archive, or None if there is no archive.

        Raises:
            UnavailableError: The archive or Redis cannot be reached.
        """
        if self._archive is None:
            return None
        archive = self._archive.primary
        return await archive.run(lambda: read_archive_status(archive.database, self._client), STATUS_TIMEOUT_SECONDS)


def _comparison_of(name: str) -> str:
    """Return the name of the job that compares two builds of a read model."""
    return f"comparison/{name}"


async def archive_server_statuses(archive: ArchiveServers) -> dict[str, ServerStatus]:
    """Return the status of ``postgres`` and, if there is one, of ``postgres_standby``."""
    primary, standby = archive.primary, archive.standby
    statuses = {"postgres": await _status_of(primary, lambda: postgres_status(primary.database))}
    if standby:
        written: str | None = None
        with suppress(UnavailableError):
            written = await primary.run(lambda: primary_written(primary.database), STATUS_TIMEOUT_SECONDS)
        status = await _status_of(standby, lambda: standby_status(standby.database, written))
        is_used = status.up and standby.fault is None
        statuses["postgres_standby"] = (
            status if is_used else replace(status, warnings=[*status.warnings, READ_FROM_PRIMARY])
        )
    return statuses


async def _status_of(server: ArchiveGateway, read: Callable[[], ServerStatus]) -> ServerStatus:
    try:
        return await server.run(read, STATUS_TIMEOUT_SECONDS)
    except UnavailableError:
        return ServerStatus(up=server.fault is not None, warnings=[server.fault] if server.fault else [])
