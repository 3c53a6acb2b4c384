"""Redis connections: clients with time-outs and retries that suit a long-running service."""

from redis import ConnectionPool, Redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from infra.redis.connection_classes import async_connection_options, connection_options

CONNECTION_ERRORS = (RedisConnectionError, RedisTimeoutError)
"""The errors that a client raises while its server cannot be reached."""

SOCKET_TIMEOUT_SECONDS = 10.0
"""Seconds without an answer after which a connection counts as dead. Every blocking read is shorter."""

CONNECTIONS = 50
"""Highest number of connections of an asynchronous client. The server runs one command at a time, so that more
connections would only wait for each other."""

_CONNECT_TIMEOUT_SECONDS = 2.0
"""Seconds that a server may take to accept a connection."""

_HEALTH_CHECK_SECONDS = 30
"""Seconds without a command after which a connection is checked before its next use."""

_RETRIES = 3
"""Number of further attempts after a failed attempt."""

_BACKOFF = ExponentialWithJitterBackoff(base=0.02, cap=0.5)
"""Wait between two attempts, from 0.02 to 0.5 seconds."""


def connect(url: str, *, seconds: float = SOCKET_TIMEOUT_SECONDS, retries: int = _RETRIES) -> Redis:
    """Return a client for the server at ``url``. It connects on first use, and again after an outage.

    Args:
        url: The URL of the server.
        seconds: Seconds for which one attempt waits for an answer.
        retries: The number of further attempts after a failed attempt.
    """
    pool = ConnectionPool(
        **{
            "socket_timeout": seconds,
            "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            "health_check_interval": _HEALTH_CHECK_SECONDS,
            "retry": Retry(_BACKOFF, retries, supported_errors=CONNECTION_ERRORS),
            **connection_options(url),
        }
    )
    return Redis.from_pool(pool)


def connect_async(url: str) -> AsyncRedis:
    """Return an asynchronous client for the server at ``url``.

    While all ``CONNECTIONS`` are in use, a further command waits for a free connection.
    """
    pool = BlockingConnectionPool(
        **{
            "max_connections": CONNECTIONS,
            "timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            "health_check_interval": _HEALTH_CHECK_SECONDS,
            "retry": AsyncRetry(_BACKOFF, _RETRIES, supported_errors=CONNECTION_ERRORS),
            **async_connection_options(url),
        }
    )
    return AsyncRedis.from_pool(pool)
