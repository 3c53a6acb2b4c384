"""The logs that exist: the partitions of the market log, and the log of the users."""

from redis import Redis

from domain.streams import MARKET_LOG, USERS_LOG, market_logs

LOGS_KEY = "tickview:logs"
"""Hash: log family -> its number of partitions. The first process that uses the log fixes it."""


def fix_partitions(client: Redis, partitions: int) -> int:
    """Fix the number of partitions of the market log, unless it is fixed already. Return the fixed number."""
    client.hsetnx(LOGS_KEY, MARKET_LOG, partitions)
    return int(client.hget(LOGS_KEY, MARKET_LOG) or partitions)


def log_names(client: Redis) -> tuple[str, ...]:
    """Return the partitions of the market log. There are none before the log was first used."""
    return market_logs(int(client.hget(LOGS_KEY, MARKET_LOG) or 0))


def all_log_names(client: Redis) -> tuple[str, ...]:
    """Return the partitions of the market log, and the log of the users."""
    return (*log_names(client), USERS_LOG)
