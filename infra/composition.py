"""Composition of the parts that several roles share: servers, event logs, dead letters, recorder and intake.

The functions are in the order of their dependencies. A role calls each function that it needs once, from top to bottom,
and passes the result to the next functions.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from domain.horizon import Horizon
from domain.partitions import Partitions
from domain.streams import OPERATIONS_LOG, USERS_LOG
from domain.wire import Bounds, Conventions
from infra.archive.log_archive import PostgresArchive
from infra.embedded import find_servers
from infra.log.directory import LogDirectory
from infra.log.durability import check_durability
from infra.log.errors import UnsuitableServerError
from infra.log.event_log import EventLog
from infra.log.handle import LogOptions
from infra.log.partitions import fix_partitions
from infra.postgres.database import Database
from infra.postgres.standby import Standby
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


def open_read_database(settings: Settings) -> Database:
    """Open the PostgreSQL server from which a command reads the past, and check it.

    Returns:
        The standby if one is configured, else the primary server. Its ``primary`` is the server for writing.

    Raises:
        StartupError: No PostgreSQL is configured, or the server cannot be reached or used.
    """
    primary = lazy_database(settings)
    database = lazy_standby(settings, primary)
    if database is None:
        return open_database(settings)
    database.check()
    return database


def lazy_standby(settings: Settings, primary: Database | None) -> Standby | None:
    """Return the standby without connecting. None if none is configured."""
    dsn = settings.postgres_read_dsn
    return Standby(dsn, primary) if dsn and primary else None


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
    standby: Standby | None = None
    """The PostgreSQL server from which the API reads the past, if it is not ``database``."""


def unopened_stores(settings: Settings) -> Stores:
    """Prepare Redis and PostgreSQL for their first use. Nothing connects and nothing is checked yet."""
    return _stores(settings, connect(redis_url(settings)))


def open_stores(settings: Settings) -> Stores:
    """Open Redis, and prepare PostgreSQL for its first use.

    Raises:
        StartupError: Redis cannot be reached, cannot provide the configured durability, or may delete data.
    """
    return _stores(settings, open_safe_redis(settings))


def _stores(settings: Settings, client: RedisClient) -> Stores:
    database = lazy_database(settings)
    return Stores(settings, client, database, lazy_standby(settings, database))


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
    open_log = _log_opener(stores)
    return {name: open_log(name) for name in names}


def _log_opener(stores: Stores) -> Callable[[str], EventLog]:
    archive, options = open_archive(stores), LogOptions.from_settings(stores.settings)
    return lambda name: EventLog(stores.redis, name, options, archive=archive)


def unchecked_logs(stores: Stores, *others: str, partitions: Partitions | None = None) -> LogDirectory:
    """Return the partitions of the market log, and other logs. Nothing connects yet.

    Args:
        stores: The servers.
        others: The names of the other logs.
        partitions: The number of partitions, if it is known. By default that of the settings, until it is checked.
    """
    known = partitions or Partitions.of(stores.settings.partitions)
    return LogDirectory(stores.redis, _log_opener(stores), known, others)


def open_market_logs(stores: Stores, *others: str) -> LogDirectory:
    """Open all partitions of the market log, and other logs. The first process to do so fixes their number.

    Raises:
        StartupError: The market log never had the number of partitions of the settings.
    """
    return unchecked_logs(stores, *others, partitions=check_partitions(stores))


def check_partitions(stores: Stores) -> Partitions:
    """Read the number of partitions of the market log, or fix it. A number that the log had before a raise fits, too.

    Raises:
        StartupError: The market log never had the number of partitions of the settings.
        RedisError: Redis cannot be reached.
    """
    configured = stores.settings.partitions
    partitions = fix_partitions(stores.redis, configured)
    if not partitions.fits(Partitions.of(configured)):
        advice = f"To raise their number, run `tickview partitions raise {configured}`. Else s"
        raise StartupError(
            f"TICKVIEW_PARTITIONS={configured}, but the market log has {partitions.number} partitions. "
            f"{advice if configured > partitions.number else 'S'}et TICKVIEW_PARTITIONS={partitions.number}."
        )
    return partitions


def open_all_logs(stores: Stores) -> LogDirectory:
    """Open all partitions of the market log, and the logs of users and operators.

    Raises:
        StartupError: The market log never had the number of partitions of the settings.
    """
    return open_market_logs(stores, USERS_LOG, OPERATIONS_LOG)


def open_dead_letters(stores: Stores) -> DeadLetters:
    """Return the dead letters, within the configured bounds."""
    settings = stores.settings
    return DeadLetters(
        stores.redis,
        LogOptions.from_settings(settings),
        max_count=settings.dead_letters_max_count,
        max_bytes=settings.dead_letters_max_bytes,
        max_age=settings.dead_letters_max_age,
    )


def open_recorder(stores: Stores, logs: LogDirectory, dead_letters: DeadLetters) -> Recorder:
    """Return a recorder that records messages in the market log, and refused messages as dead letters."""
    settings = stores.settings
    horizon = Horizon(settings.time_horizon, settings.expiry_horizon, settings.beyond_horizon == "clamp")
    conventions = Conventions.of(ZoneInfo(settings.producer_timezone), settings.tiers)
    bounds = Bounds(settings.max_message_bytes, horizon)
    return recorder_class()(logs, dead_letters, bounds, conventions, settings.default_expiry)


def open_intake(recorder: Recorder, settings: Settings) -> Intake:
    """Return an intake in front of the recorder. The caller starts the intake."""
    return Intake(
        recorder.record,
        backlog=settings.backlog,
        batch_size=settings.batch_size,
        batch_seconds=settings.batch_milliseconds / 1000,
    )
