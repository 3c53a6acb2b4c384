"""The names of the existing logs: the partitions of the market log, and the logs of users and operators."""

from domain.streams import MARKET_LOG, OPERATIONS_LOG, USERS_LOG, market_logs
from infra.redis.connections import RedisClient

LOGS_KEY = "tickview:logs"
"""Redis hash: log family -> number of partitions. The first process that uses a log writes the number."""


def fix_partitions(client: RedisClient, partitions: int) -> int:
    """Store the number of partitions of the market log, unless it is stored already. Return the stored number."""
    if not client.hexists(LOGS_KEY, MARKET_LOG):  # A full server refuses the write, even if it changes nothing.
        client.hsetnx(LOGS_KEY, MARKET_LOG, partitions)
    return int(client.hget(LOGS_KEY, MARKET_LOG) or partitions)


def log_names(client: RedisClient) -> tuple[str, ...]:
    """Return the names of the market log's partitions. The tuple is empty before the first use of the market log."""
    return market_logs(int(client.hget(LOGS_KEY, MARKET_LOG) or 0))


def all_log_names(client: RedisClient) -> tuple[str, ...]:
    """Return the names of the market log's partitions, of the users' log and of the operators' log."""
    return (*log_names(client), USERS_LOG, OPERATIONS_LOG)
