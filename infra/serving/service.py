"""The parts of the API that are opened once, before the web server forks its processes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from domain.partitions import Partitions
from domain.streams import OPERATIONS_LOG, USERS_LOG
from infra.access.open_guard import open_guard
from infra.composition import (
    Stores,
    check_partitions,
    open_dead_letters,
    open_recorder,
    open_stores,
    unchecked_logs,
    unopened_stores,
)
from infra.log.directory import LogDirectory
from infra.operations.commands import release_code
from infra.postgres.standby import Standby, StandbyNotReadyError
from infra.processes.errors import UnreachableServerError
from infra.read_models.row_queries import RedisRowQueries
from infra.recording.dead_letters import DeadLetters
from infra.recording.recorder import Recorder
from infra.redis.connections import AsyncRedisClient
from infra.settings import Settings
from projections.base import Projection
from projections.fingerprint import ProjectionCode
from projections.queries import RowQueries
from projections.versions import Build
from readapi.access.guard import Guard

logger = structlog.get_logger()

METRICS_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder in which ``prometheus_client`` collects the metrics of all processes.

``prometheus_client`` reads it when it is imported. This module and everything that it imports must therefore not import
``prometheus_client``.
"""

OpenStoredQueries = Callable[[AsyncRedisClient, Projection[Any, Any], Build, Sequence[str]], RowQueries[Any]]
"""Creates the queries to a build of a read model that answer while there is no replica.

The arguments are the client, the projection, the build, and the logs that the projection folds.
"""


@dataclass(frozen=True)
class Service:
    """The parts of the API that all its processes have in common.

    They are opened before the fork, so that a process which the server replaces while Redis is unavailable can start.
    """

    stores: Stores
    guard: Guard
    logs: LogDirectory
    dead_letters: DeadLetters
    recorder: Recorder
    code: Mapping[str, ProjectionCode]
    """The code of each read model. A replaced process has this code too, even if the files have changed since."""
    open_queries: OpenStoredQueries = RedisRowQueries


def open_service(settings: Settings, open_queries: OpenStoredQueries = RedisRowQueries) -> Service:
    """Open the common parts of the API.

    The API starts while Redis cannot be reached, too. It then checks Redis before it records (``ApiLifespan``).

    Raises:
        StartupError: Redis cannot be used, the standby is no copy of the primary server, or a file with tokens or keys
            cannot be read.
        NoSourceError: A projection is installed without its source.
    """
    guard = open_guard(settings)
    partitions: Partitions | None = None
    try:
        stores = open_stores(settings)
        partitions = check_partitions(stores)
    except UnreachableServerError as error:
        logger.warning("the API starts without Redis, and answers when Redis comes", error=str(error))
        stores = unopened_stores(settings)
    _check_standby(stores.standby)
    return _service(stores, guard, open_queries, partitions)


def _check_standby(standby: Standby | None) -> None:
    """Check the standby. The API also starts without it, and then reads the past from the primary server."""
    if standby is None:
        return
    try:
        standby.check()
    except StandbyNotReadyError as error:
        logger.warning("the past is read from the primary server", error=str(error))


def prepare_service(settings: Settings) -> Service:
    """Prepare the common parts of the API without connecting to a server. ``ApiLifespan`` checks Redis at the start.

    Raises:
        StartupError: No Redis is configured, or a file with tokens or keys cannot be read.
        NoSourceError: A projection is installed without its source.
    """
    return _service(unopened_stores(settings), open_guard(settings), RedisRowQueries)


def _service(
    stores: Stores, guard: Guard, open_queries: OpenStoredQueries, partitions: Partitions | None = None
) -> Service:
    logs = unchecked_logs(stores, USERS_LOG, OPERATIONS_LOG, partitions=partitions)
    dead_letters = open_dead_letters(stores)
    recorder = open_recorder(stores, logs, dead_letters)
    return Service(stores, guard, logs, dead_letters, recorder, release_code(), open_queries)
