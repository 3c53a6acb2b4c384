"""The status of the servers that the service needs: whether they answer, and their faults."""

import time
from collections.abc import Mapping
from dataclasses import replace

from psycopg import Connection
from redis import Redis
from redis.exceptions import RedisError

from infra.log.durability import check_durability
from infra.log.errors import UnsuitableServerError
from infra.log.handle import LogOptions
from infra.postgres.database import PING, Database
from infra.postgres.schema import IS_STANDBY
from infra.postgres.standby import read_written, seconds_behind
from infra.redis.cluster import primaries, refresh_nodes
from infra.redis.connections import CONNECTION_ERRORS, RedisClient
from infra.redis.server_errors import SERVER_ERRORS, find_server_error
from infra.redis.server_state import NODE_OF_CLUSTER, cluster_fault, server_faults
from readapi.ports.operations import ServerStatus

MAX_STANDBY_LAG_SECONDS = 10.0
"""Lag of the standby in seconds above which the service is degraded."""

STANDBY_AS_PRIMARY = "is a standby, so that nothing is archived: set TICKVIEW_POSTGRES_DSN to the primary server"
"""Warning about the server to which the archive should be written."""

READ_FROM_PRIMARY = "audit and queries as of a moment are answered by the primary server"
"""Warning about a standby that cannot be used."""


def redis_status(client: RedisClient, options: LogOptions) -> ServerStatus:
    """Return the status of Redis. A cluster is up if all its primaries are.

    Args:
        client: The client of the server or of the cluster. It should not retry.
        options: The durability that each server must provide.
    """
    try:
        servers = primaries(client)
    except RedisError as error:
        return ServerStatus(up=False, warnings=() if isinstance(error, CONNECTION_ERRORS) else (str(error),))
    statuses = {name: _server_status(server, options, is_alone=not name) for name, server in servers.items()}
    if not all(status.up for status in statuses.values()):
        refresh_nodes(client)
    return _merged(statuses)


def _merged(statuses: Mapping[str, ServerStatus]) -> ServerStatus:
    """Return the status of all primaries of a cluster, or of the only server, which has no name."""
    if list(statuses) == [""]:
        return statuses[""]
    failures = [f"{name} {failure}" for name, status in statuses.items() for failure in status.failures]
    warnings = [f"{name} {warning}" for name, status in statuses.items() for warning in status.warnings]
    silent = [f"{name} does not answer" for name, status in statuses.items() if not (status.up or status.warnings)]
    latencies = [status.latency_ms for status in statuses.values() if status.latency_ms is not None]
    return ServerStatus(
        up=all(status.up for status in statuses.values()),
        version=next((status.version for status in statuses.values() if status.version), None),
        latency_ms=max(latencies, default=None),
        failures=failures,
        warnings=[*silent, *warnings],
    )


def _server_status(server: Redis, options: LogOptions, *, is_alone: bool) -> ServerStatus:
    try:
        info = server.info()
        if info["loading"]:
            return ServerStatus(up=False, warnings=("loads its data",))
        started = time.perf_counter()
        server.time()
        milliseconds = round((time.perf_counter() - started) * 1_000, 3)
        failures, warnings = server_faults(info)
        warnings += _disk_faults(server)
        if info.get("cluster_enabled") and (fault := NODE_OF_CLUSTER if is_alone else cluster_fault(server)):
            warnings.append(fault)
        if not failures:
            warnings += _durability_faults(server, options)
    except CONNECTION_ERRORS:
        return ServerStatus(up=False)
    except RedisError as error:
        return ServerStatus(up=False, warnings=(f"refuses INFO, TIME or PING: {error}",))
    version = info.get("valkey_version") or info["redis_version"]
    return ServerStatus(True, str(version), milliseconds, failures, warnings)


def _disk_faults(server: Redis) -> list[str]:
    """Return why a server cannot write to its disk. Such a server refuses PING, too, and answers other reads."""
    try:
        server.ping()
    except RedisError as error:
        if find_server_error(error) is SERVER_ERRORS["MISCONF"]:
            return ["cannot write to its disk and refuses writes: check the free space of its disk"]
        raise
    return []


def _durability_faults(server: Redis, options: LogOptions) -> list[str]:
    try:
        check_durability(server, options.durability, options.replicas)
    except UnsuitableServerError as error:
        return [f"cannot record events: {error}"]
    return []


def postgres_status(database: Database) -> ServerStatus:
    """Return the status of PostgreSQL.

    Raises:
        ArchiveUnavailableError: PostgreSQL cannot be reached.
        psycopg.Error: PostgreSQL does not answer.
    """
    with database.connection() as connection:
        status = _measure(connection)
        [[is_standby]] = connection.execute(IS_STANDBY)
    return replace(status, warnings=[STANDBY_AS_PRIMARY]) if is_standby else status


def standby_status(standby: Database, written: str | None) -> ServerStatus:
    """Return the status of the standby from which the past is read.

    Args:
        standby: The standby.
        written: The place of the WAL up to which the primary server has everything; None if it cannot be reached.

    Raises:
        ArchiveUnavailableError: The standby cannot be reached.
        psycopg.Error: The standby does not answer.
    """
    with standby.connection() as connection:
        status = _measure(connection)
        behind = 0.0 if written is None else seconds_behind(connection, written)
    if behind <= MAX_STANDBY_LAG_SECONDS:
        return status
    lag = f"is {behind:.0f} s behind the primary server: audit is read from the log for this time, and as-of waits"
    return replace(status, warnings=[lag])


def primary_written(database: Database) -> str:
    """Return the place of the WAL up to which a server has everything. Raises ArchiveUnavailableError."""
    with database.connection() as connection:
        return read_written(connection)


def _measure(connection: Connection) -> ServerStatus:
    connection.execute(PING)
    started = time.perf_counter()
    connection.execute(PING)
    milliseconds = round((time.perf_counter() - started) * 1_000, 3)
    return ServerStatus(True, connection.info.parameter_status("server_version"), milliseconds)
