"""Puts the parts together from the settings: the one place that knows which part needs which."""

from collections.abc import Iterable

from redis import Redis
from redis.exceptions import RedisError

from domain.streams import USERS_LOG, market_logs
from infra.archive.log_archive import PostgresArchive
from infra.embedded import find_servers
from infra.log.durability import check_durability
from infra.log.errors import UnsuitableServerError
from infra.log.event_log import EventLog
from infra.log.partitions import fix_partitions
from infra.postgres.database import Database
from infra.processes.errors import StartupError
from infra.recording.dead_letters import DeadLetters
from infra.recording.intake import Intake
from infra.recording.recorder import Recorder
from infra.redis.connections import connect
from infra.redis.functions import load
from infra.settings import Settings
from infra.settings.urls import without_password


def redis_url(settings: Settings) -> str:
    """The server that is set, or that of the ``tickview up`` that runs on the data folder.

    Raises StartupError if there is neither.
    """
    if settings.redis_url:
        return settings.redis_url
    servers = find_servers(settings.data)
    if servers is None:
        raise StartupError(
            f"no Redis: set TICKVIEW_REDIS_URL, or start `tickview up` (none is running on {settings.data.resolve()})"
        )
    return servers.redis_url


def open_redis(settings: Settings) -> Redis:
    """A client of a server that has been found to be fit, with our functions loaded.

    Raises StartupError where it cannot be reached or cannot keep what the settings promise.
    """
    url = redis_url(settings)
    client = connect(url)
    try:
        client.ping()
        check_durability(client, settings.durability, settings.replicas)
        load(client)
    except UnsuitableServerError as error:
        raise StartupError(str(error)) from error
    except RedisError as error:
        raise StartupError(f"Redis at {without_password(url)} does not serve us: {error}") from error
    return client


def postgres_dsn(settings: Settings) -> str | None:
    """The PostgreSQL that is set, or that of the ``tickview up`` on the data folder; None if there is none."""
    if settings.postgres_dsn or settings.redis_url:
        return settings.postgres_dsn
    servers = find_servers(settings.data)
    return servers.postgres_dsn if servers else None


def open_database(settings: Settings, *, writable: bool = False) -> Database:
    """PostgreSQL, found to be fit, with our schema.

    Raises StartupError where there is none, or where it cannot be reached or cannot serve us.
    """
    dsn = postgres_dsn(settings)
    if dsn is None:
        raise StartupError(
            "no PostgreSQL: set TICKVIEW_POSTGRES_DSN, or start `tickview up` "
            f"(none is running on {settings.data.resolve()})"
        )
    database = Database(dsn)
    database.check(writable=writable)
    return database


def lazy_database(settings: Settings) -> Database | None:
    """PostgreSQL, which nothing connects to before its first use; None where none is set."""
    dsn = postgres_dsn(settings)
    return Database(dsn) if dsn else None


def open_archive(client: Redis, settings: Settings, database: Database | None = None) -> PostgresArchive | None:
    """The archive behind the logs; None where no PostgreSQL is set. Nothing connects before its first use."""
    database = database or lazy_database(settings)
    if database is None:
        return None
    return PostgresArchive(database, client, keep=settings.log_retention_size, partitions=settings.partitions)


def open_market_logs(client: Redis, settings: Settings) -> dict[str, EventLog]:
    """The partitions of the market log. Raises StartupError if the log has another number of them."""
    partitions = fix_partitions(client, settings.partitions)
    if partitions != settings.partitions:
        raise StartupError(
            f"the market log has {partitions} partitions, which cannot change: "
            f"set TICKVIEW_PARTITIONS={partitions} instead of {settings.partitions}"
        )
    return open_logs(client, settings, market_logs(partitions))


def open_all_logs(client: Redis, settings: Settings) -> dict[str, EventLog]:
    """The partitions of the market log, and the log of the users. Raises StartupError as ``open_market_logs`` does."""
    return {**open_market_logs(client, settings), **open_logs(client, settings, [USERS_LOG])}


def open_logs(
    client: Redis, settings: Settings, names: Iterable[str], database: Database | None = None
) -> dict[str, EventLog]:
    """These logs, and behind them the archive in ``database``, or where it is set. Nothing connects."""
    archive = open_archive(client, settings, database)
    return {
        name: EventLog(
            client,
            name,
            durability=settings.durability,
            replicas=settings.replicas,
            dedupe_window=settings.dedupe_window,
            archive=archive,
        )
        for name in names
    }


def open_dead_letters(client: Redis, settings: Settings) -> DeadLetters:
    """The dead letters, within the bounds that are set."""
    return DeadLetters(
        client,
        max_count=settings.dead_letters_max_count,
        max_bytes=settings.dead_letters_max_bytes,
        max_age=settings.dead_letters_max_age,
    )


def open_recorder(client: Redis, settings: Settings) -> Recorder:
    """The recorder of the market's logs."""
    logs = open_market_logs(client, settings)
    return Recorder(logs, open_dead_letters(client, settings), settings.max_message_bytes)


def open_intake(recorder: Recorder, settings: Settings) -> Intake:
    """An intake in front of the recorder, not started yet."""
    return Intake(
        recorder.record,
        backlog=settings.backlog,
        batch_size=settings.batch_size,
        batch_seconds=settings.batch_milliseconds / 1000,
    )


def api_url(settings: Settings) -> str:
    """Where the API is: that of the running ``tickview up``, else the host and port that are set."""
    servers = find_servers(settings.data)
    return (servers and servers.api_url) or f"http://{settings.host}:{settings.port}"
