"""Names of streams and logs, and which log a stream belongs to."""

from zlib import crc32

MARKET_LOG = "market"
USERS_LOG = "users"

USER_PREFIX = "user-"


def symbol_stream(symbol: str) -> str:
    """The stream of everything that happened to one symbol."""
    return f"symbol-{symbol}"


def universe_stream(key: str) -> str:
    """The stream of one universe."""
    return f"universe-{key}"


def backtest_stream(job_id: str) -> str:
    """The stream of one backtest run."""
    return f"backtest-{job_id}"


def source_stream(source: str) -> str:
    """The stream of a producer's own reports."""
    return f"source-{source}"


def user_stream(user: str) -> str:
    """The stream of one user's workspace."""
    return f"{USER_PREFIX}{user}"


def log_stream(log: str) -> str:
    """The stream of what befell a log itself."""
    return f"log-{log}"


def market_logs(partitions: int) -> tuple[str, ...]:
    """The logs of the market, ``market-0`` … ``market-<partitions - 1>``."""
    return tuple(f"{MARKET_LOG}-{partition}" for partition in range(partitions))


def is_market_log(log: str) -> bool:
    """Whether it is a partition of the market's log, which the read models of the market fold."""
    return log.startswith(f"{MARKET_LOG}-")


def family_of(log: str) -> str:
    """``market`` for each of the market's partitions; any other log is a family of its own."""
    return MARKET_LOG if is_market_log(log) else log


def log_of(stream: str, partitions: int) -> str:
    """The log that holds ``stream``; a stream never moves while ``partitions`` stays the same."""
    if stream.startswith(USER_PREFIX):
        return USERS_LOG
    return f"{MARKET_LOG}-{crc32(stream.encode()) % partitions}"
