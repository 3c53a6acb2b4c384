"""Blocking operations on Redis, run in a thread for the event loop of the API."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import structlog
from eventsourcing.persistence import PersistenceError
from redis.exceptions import RedisError

from infra.log.errors import UnsuitableServerError
from infra.redis.connections import CONNECTION_ERRORS
from infra.redis.server_errors import Reaction, find_server_error
from readapi.ports.errors import UnavailableError

logger = structlog.get_logger()

T = TypeVar("T")

REFUSED_SECONDS = 10
"""Header ``Retry-After`` of a request that succeeds only after an operator has acted, in seconds."""


def unavailability(error: Exception) -> UnavailableError | None:
    """Return the reason for clients why Redis or the event log cannot do its work now, or None for a defect.

    The reason contains no address.
    """
    if isinstance(error, RedisError) and (server_error := find_server_error(error)):
        seconds = REFUSED_SECONDS if server_error.reaction is Reaction.REFUSE else 1
        return UnavailableError(server_error.reason, seconds)
    if isinstance(error, CONNECTION_ERRORS):
        return UnavailableError("Redis cannot be reached; try again")
    if isinstance(error, UnsuitableServerError):
        return UnavailableError(str(error), REFUSED_SECONDS)
    if isinstance(error, PersistenceError):
        return UnavailableError("the event log cannot be used now; try again")
    return None


async def in_thread(operation: Callable[[], T]) -> T:
    """Run a blocking operation in a thread and return its result.

    Raises:
        UnavailableError: Redis or the event log cannot do its work now. The cause is logged.
    """
    try:
        return await asyncio.to_thread(operation)
    except (RedisError, PersistenceError) as error:
        reason = unavailability(error)
        if reason is None:
            raise
        logger.warning("redis unavailable", error=str(error))
        raise reason from error
