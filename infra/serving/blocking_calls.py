"""Blocking operations on Redis, run in a thread for the event loop of the API."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import structlog
from eventsourcing.persistence import PersistenceError

from infra.redis.connections import CONNECTION_ERRORS
from readapi.ports.errors import UnavailableError

logger = structlog.get_logger()

T = TypeVar("T")


async def in_thread(operation: Callable[[], T]) -> T:
    """Run a blocking operation in a thread and return its result.

    Raises:
        UnavailableError: Redis cannot be reached. The cause is logged and not sent to clients, because it may contain
            addresses.
    """
    try:
        return await asyncio.to_thread(operation)
    except (*CONNECTION_ERRORS, PersistenceError) as error:
        logger.warning("redis unavailable", error=str(error))
        raise UnavailableError("Redis cannot be reached; try again") from error
