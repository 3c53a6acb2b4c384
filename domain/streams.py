"""Names of streams and logs, and the assignment of streams to logs."""

from zlib import crc32

MARKET_LOG = "market"
"""The name of the market log without the number of a partition. Also the name of the family of its partitions."""

USERS_LOG = "users"
"""The name of the log that holds the events of all users."""

OPERATIONS_LOG = "operations"
"""The name of the log that holds the commands of operators."""

OPERATIONS_STREAM = "operations"
"""The name of the stream of all commands of operators."""

USER_PREFIX = "user-"
"""The prefix of the stream of every user's workspace."""

ALERTS_PREFIX = "alerts-"
"""The prefix of the stream of every user's delivered alerts."""

USER_PREFIXES = (USER_PREFIX, ALERTS_PREFIX)
"""The prefixes of all streams that belong to a user. Their events are encrypted with the key of the user."""


def symbol_stream(symbol: str) -> str:
    """Return the name of the stream of one symbol."""
    return f"symbol-{symbol}"


def universe_stream(key: str) -> str:
    """Return the name of the stream of one universe."""
    return f"universe-{key}"


def backtest_stream(job_id: str) -> str:
    """Return the name of the stream of one backtest run."""
    return f"backtest-{job_id}"


def source_stream(source: str) -> str:
    """Return the name of the stream of a producer's health reports."""
    return f"source-{source}"


def user_stream(user: str) -> str:
    """Return the name of the stream of one user's workspace."""
    return f"{USER_PREFIX}{user}"


def alerts_stream(user: str) -> str:
    """Return the name of the stream of one user's delivered alerts."""
    return f"{ALERTS_PREFIX}{user}"


def user_of(stream: str) -> str | None:
    """Return the id of the user to whom a stream belongs. None for a stream that belongs to no user."""
    return next((stream.removeprefix(prefix) for prefix in USER_PREFIXES if stream.startswith(prefix)), None)


def log_stream(log: str) -> str:
    """Return the name of the stream of events about the log itself."""
    return f"log-{log}"


def market_logs(partitions: int) -> tuple[str, ...]:
    """Return the names of the partitions of the market log, ``market-0`` … ``market-<partitions - 1>``."""
    return tuple(f"{MARKET_LOG}-{partition}" for partition in range(partitions))


def is_market_log(log: str) -> bool:
    """Return whether the log is a partition of the market log."""
    return log.startswith(f"{MARKET_LOG}-")


def family_of(log: str) -> str:
    """Return the family of a log: ``market`` for each partition of the market log, else the name of the log."""
    return MARKET_LOG if is_market_log(log) else log


def log_of(stream: str, partitions: int) -> str:
    """Return the name of the log that holds a stream.

    A stream stays in its log as long as the number of partitions stays the same.

    Args:
        stream: The name of the stream.
        partitions: The number of partitions of the market log, from 1.
    """
    if stream.startswith(USER_PREFIXES):
        return USERS_LOG
    if stream == OPERATIONS_STREAM:
        return OPERATIONS_LOG
    return f"{MARKET_LOG}-{crc32(stream.encode()) % partitions}"
