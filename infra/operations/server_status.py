"""The status of the servers that the service needs: whether they answer, and their faults."""

import time

from redis.exceptions import RedisError

from infra.log.durability import check_durability
from infra.log.errors import UnsuitableServerError
from infra.log.handle import LogOptions
from infra.postgres.database import PING, Database
from infra.redis.connections import CONNECTION_ERRORS, RedisClient
from infra.redis.server_state import server_faults
from readapi.ports.operations import ServerStatus


def redis_status(client: RedisClient, options: LogOptions) -> ServerStatus:
    """Return the status of Redis. ``options`` name the durability that the server must provide."""
    try:
        info = client.info()
        if info["loading"]:
            return ServerStatus(up=False, warnings=("loads its data",))
        started = time.perf_counter()
        client.ping()
        milliseconds = round((time.perf_counter() - started) * 1_000, 3)
        failures, warnings = server_faults(info)
        if not failures:
            warnings += _durability_faults(client, options)
    except CONNECTION_ERRORS:
        return ServerStatus(up=False)
    except RedisError as error:
        return ServerStatus(up=False, warnings=(f"refuses INFO or PING: {error}",))
    version = info.get("valkey_version") or info["redis_version"]
    return ServerStatus(True, str(version), milliseconds, failures, warnings)


def _durability_faults(client: RedisClient, options: LogOptions) -> list[str]:
    try:
        check_durability(client, options.durability, options.replicas)
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
        connection.execute(PING)
        started = time.perf_counter()
        connection.execute(PING)
        milliseconds = round((time.perf_counter() - started) * 1_000, 3)
        return ServerStatus(True, connection.info.parameter_status("server_version"), milliseconds)
