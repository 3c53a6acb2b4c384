"""Composition of the parts that several roles share: servers, event logs, dead letters, recorder and intake.

The functions are in the order of their dependencies. A role calls each function that it needs once, from top to bottom,
and passes the result to the next functions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from domain.horizon import Horizon
from domain.streams import OPERATIONS_LOG, USERS_LOG, market_logs
from domain.wire import Bounds, Conventions
from infra.archive.log_archive import PostgresArchive
from infra.embedded import find_servers
from infra.log.durability import check_durability
from infra.log.errors import UnsuitableServerError
from infra.log.event_log import EventLog
from infra.log.handle import LogOptions
from infra.log.partitions import fix_partitions
from infra.postgres.database import Database
from infra.processes.errors import StartupError, UnreachableServerError
from infra.recording.dead_letters import DeadLetters
from infra.recording.intake import Intake
from infra.recording.recorder import Recorder
from infra.redis.connections import CONNECTION_ERRORS, RedisClient, connect
from infra.redis.functions import load
from infra.redis.server_state import NODE_OF_CLUSTER
from infra.settings import Settings
from infra.settings.urls import without_password
from infra.tracing.selection import recorder_class


def redis_url(settings: Settings) -> str:
    """Return the configured Redis URL, else the URL of the ``tickview up`` that runs on the data folder.

    Raises:
        StartupError: No Redis is configured, and no ``tickview up`` runs on the data folder.
    """
    if settings.redis_url:
        return settings.redis_url
    servers = find_servers(settings.data)
    if servers is None:
        raise StartupError(
            "no Redis is configured: set TICKVIEW_REDIS_URL, or start `tickview up` "
            f"(none is running on {settings.data.resolve()})"
        )
    return servers.redis_url


def postgres_dsn(settings: Settings) -> str | None:
    """Return the configured PostgreSQL DSN, else the DSN of the ``tickview up`` that runs on the data folder.

    A configured Redis without a configured PostgreSQL means that there is no archive.

    Returns:
        The DSN, or None if there is no PostgreSQL.
    """
    if settings.postgres_dsn or settings.redis_url:
        return settings.postgres_dsn
    servers = find_servers(settings.data)
    return servers.postgres_dsn if servers else None


def api_url(settings: Settings) -> str:
    """Return the URL of the API of the running ``tickview up``, else the URL of the configured host and port."""
    servers = find_servers(settings.data)
    return (servers and servers.api_url) or f"http://{settings.host}:{settings.port}"


def open_redis(settings: Settings) -> RedisClient:
    """Open a client of Redis, and load TickView's server-side functions. The server may be full or unsafe.

    Raises:
        UnreachableServerError: The server cannot be reached, or it loads its data.
        StartupError: The server refuses the user or the functions.
    """
    client = connect(redis_url(settings))
    try:
        load(client)
        is_node = isinstance(client, Redis) and client.info("cluster").get("cluster_enabled")
    except RedisError as error:
        raise _unusable(settings, error) from error
    if is_node:
        raise StartupError(f"Redis at {without_password(redis_url(settings))} {NODE_OF_CLUSTER}")
    return client


def _unusable(settings: Settings, error: RedisError) -> StartupError:
    """Return the error of a command that Redis did not execute."""
    is_unreachable = isinstance(error, CONNECTION_ERRORS) and not isinstance(error, AuthenticationError)
    error_class = UnreachableServerError if is_unreachable else StartupError
    return error_class(f"Redis at {without_password(redis_url(settings))} cannot be used: {error}")


def open_safe_redis(settings: Settings) -> RedisClient:
    """Open Redis for a process that records events or keeps them.

    Raises:
        StartupError: The server cannot be reached, cannot provide the configured durability, or may delete data.
    """
    client = open_redis(settings)
    try:
        check_durability(client, settings.durability, settings.replicas)
    except UnsuitableServerError as error:
        raise StartupError(str(error)) from error
    except RedisError as error:
        raise _unusable(settings, error) from error
    return client


def open_database(settings: Settings, *, writable: bool = False) -> Database:
    """Open PostgreSQL, check the server, and migrate the schema.

    Raises:
        StartupError: No PostgreSQL is configured, or the server cannot be reached or used.
    """
    database = lazy_database(settings)
    if database is None:
        raise StartupError(
            "no PostgreSQL is configured: set TICKVIEW_POSTGRES_DSN, or start `tickview up` "
            f"(none is running on {settings.data.resolve()})"
        )
    database.check(writable=writable)
    return database


def lazy_database(settings: Settings) -> Database | None:
    """Return PostgreSQL without connecting: the first use connects. None if there is no PostgreSQL."""
    dsn = postgres_dsn(settings)
    return Database(dsn) if dsn else None


@dataclass(frozen=True)
class Stores:
    """The servers of one process: Redis and, where there is an archive, PostgreSQL."""

    settings: Settings
    redis: RedisClient
    database: Database | None


def unopened_stores(settings: Settings) -> Stores:
    """Prepare Redis and PostgreSQL for their first use. Nothing connects and nothing is checked yet."""
    return Stores(settings, connect(redis_url(settings)), lazy_database(settings))


def open_stores(settings: Settings) -> Stores:
    """Open Redis, and prepare PostgreSQL for its first use.

    Raises:
        StartupError: Redis cannot be reached, cannot provide the configured durability, or may delete data.
    """
    return Stores(settings, open_safe_redis(settings), lazy_database(settings))


def open_archive(stores: Stores) -> PostgresArchive | None:
    """Return the archive behind the event logs. None if there is no PostgreSQL."""
    if stores.database is None:
        return None
    settings = stores.settings
    return PostgresArchive(
        stores.database, stores.redis, restore_limit=settings.log_retention_size, partitions=settings.partitions
    )


def open_logs(stores: Stores, names: Iterable[str]) -> dict[str, EventLog]:
    """Return the named event logs, with the archive behind them where there is one. Nothing connects yet."""
    archive, options = open_archive(stores), LogOptions.from_settings(stores.settings)
    return {name: EventLog(stores.redis, name, options, archive=archive) for name in names}


def open_market_logs(stores: Stores) -> dict[str, EventLog]:
    """Open all partitions of the market log. The first process to do so fixes their number.

    Raises:
        StartupError: The market log has a number of partitions that differs from the setting.
    """
    check_partitions(stores)
    return open_logs(stores, market_logs(stores.settings.partitions))


def check_partitions(stores: Stores) -> None:
    """Check the number of partitions of the market log, or fix it.

    Raises:
        StartupError: The market log has a number of partitions that differs from the setting.
        RedisError: Redis cannot be reached.
    """
    partitions = fix_partitions(stores.redis, stores.settings.partitions)
    if partitions != stores.settings.partitions:
        raise StartupError(
            f"TICKVIEW_PARTITIONS={stores.settings.partitions}, but the market log has {partitions} partitions, "
            f"and their number cannot change. Set TICKVIEW_PARTITIONS={partitions}."
        )


def open_all_logs(stores: Stores) -> dict[str, EventLog]:
    """Open all partitions of the market log, and the logs of users and operators.

    Raises:
        StartupError: The market log has a number of partitions that differs from the setting.
    """
    return {**open_market_logs(stores), **open_logs(stores, [USERS_LOG, OPERATIONS_LOG])}


def open_dead_letters(stores: Stores) -> DeadLetters:
    """Return the dead letters, within the configured bounds."""
    settings = stores.settings
    return DeadLetters(
        stores.redis,
        max_count=settings.dead_letters_max_count,
        max_bytes=settings.dead_letters_max_bytes,
        max_age=settings.dead_letters_max_age,
    )


def open_recorder(stores: Stores, market_logs: Mapping[str, EventLog], dead_letters: DeadLetters) -> Recorder:
    """Return a recorder that records messages in the market log, and refused messages as dead letters."""
    settings = stores.settings
    horizon = Horizon(settings.time_horizon, settings.expiry_horizon, settings.beyond_horizon == "clamp")
    conventions = Conventions.of(ZoneInfo(settings.producer_timezone), settings.tiers)
    bounds = Bounds(settings.max_message_bytes, horizon)
    return recorder_class()(market_logs, dead_letters, bounds, conventions, settings.default_expiry)


def open_intake(recorder: Recorder, settings: Settings) -> Intake:
    """Return an intake in front of the recorder. The caller starts the intake."""
    return Intake(
        recorder.record,
        backlog=settings.backlog,
        batch_size=settings.batch_size,
        batch_seconds=settings.batch_milliseconds / 1000,
    )
