"""The number of partitions of the market log in Redis, and the names of the existing logs.

The number is stored for all processes, and as a seal in each partition. A partition that is sealed takes the first
event of a stream only from a caller that names the number of the seal. Stored numbers are merged, and never fall.
"""

from collections.abc import Sequence
from typing import Any

from domain.partitions import Partitions, other_logs_of
from domain.streams import MARKET_LOG, OPERATIONS_LOG, USERS_LOG, log_of
from infra.log.handle import LogHandle
from infra.log.keys import LogKeys
from infra.redis import functions
from infra.redis.connections import RedisClient

LOGS_KEY = "tickview:logs"
"""Redis hash: log family -> number of partitions, such as ``4``, or ``4-8`` after it was raised. The first process that
uses a log writes the number."""

SEAL = "partitions"
"""Field of the meta data of a partition: the number of partitions with which it is sealed. A partition has none until
the number is raised for the first time."""


def parse_partitions(stored: bytes | None) -> Partitions | None:
    """Parse a stored number of partitions. None before the first use of the market log, and for no seal."""
    return Partitions.parse(stored.decode()) if stored else None


def read_partitions(client: RedisClient) -> Partitions | None:
    """Return the number of partitions of the market log. None before the first use of the log."""
    stored: Any = client.hget(LOGS_KEY, MARKET_LOG)
    return parse_partitions(stored)


def fix_partitions(client: RedisClient, number: int) -> Partitions:
    """Store the number of partitions of the market log, unless it is stored already. Return the stored number."""
    if stored := read_partitions(client):  # A full server refuses the write, even if it changes nothing.
        return stored
    client.hsetnx(LOGS_KEY, MARKET_LOG, str(Partitions.of(number)))
    return read_partitions(client) or Partitions.of(number)


def store_partitions(client: RedisClient, partitions: Partitions) -> Partitions:
    """Merge a number of partitions into the number that all processes read. Return the result."""
    reply = functions.call(client, "merge_partitions", [LOGS_KEY], [MARKET_LOG, *partitions])
    return Partitions(*reply)


def seal(log: LogHandle, partitions: Partitions) -> None:
    """Seal a partition with a number of partitions, as durably as an append."""
    log.functions.call("merge_partitions", [log.keys.meta], [SEAL, *partitions])


def seal_if_raised(log: LogHandle) -> None:
    """Seal a partition before it is opened: a server that lost the end of the log may have lost the seal."""
    partitions = read_partitions(log.client)
    if partitions and partitions.was_raised:
        seal(log, partitions)


def log_names(client: RedisClient) -> tuple[str, ...]:
    """Return the names of the market log's partitions. The tuple is empty before the first use of the market log."""
    partitions = read_partitions(client)
    return partitions.names if partitions else ()


def all_log_names(client: RedisClient) -> tuple[str, ...]:
    """Return the names of the market log's partitions, of the users' log and of the operators' log."""
    return (*log_names(client), USERS_LOG, OPERATIONS_LOG)


def locate(client: RedisClient, stream: str, partitions: Partitions) -> str:
    """Return the log that has a stream, or the log in which it would begin. For readers, in one round trip.

    Args:
        client: The client of the logs.
        stream: The name of the stream.
        partitions: The number of partitions of the market log.
    """
    others = other_logs_of(stream, partitions)
    if not others:
        return log_of(stream, partitions.number)
    with client.pipeline(transaction=False) as pipeline:
        for log in others:
            pipeline.hexists(LogKeys(log).versions, stream)
        found: Sequence[Any] = pipeline.execute()
    return next((log for log, has in zip(others, found, strict=True) if has), log_of(stream, partitions.number))
