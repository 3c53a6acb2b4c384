"""Connections to Redis: one way to open them, with time-outs and retries that suit a service."""

from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

CONNECTION_ERRORS = (RedisConnectionError, RedisTimeoutError)
"""What a client raises while its server is away; anything else is a fault of ours or of the data."""

SOCKET_TIMEOUT_SECONDS = 10.0
"""Longer than any blocking read that we ask for, so that only a dead server meets it."""

CONNECTIONS = 50
"""Of an asynchronous client, at most; more would only wait for each other in the server."""

_RETRIES = 3
_BACKOFF = ExponentialWithJitterBackoff(base=0.02, cap=0.5)


def connect(url: str, *, seconds: float = SOCKET_TIMEOUT_SECONDS, retries: int = _RETRIES) -> Redis:
    """A client for the server at ``url``; it connects on first use and again after the server was away.

    A server that hangs is waited for so many ``seconds`` with each of the ``retries``.
    """
    return Redis.from_url(
        url,
        socket_timeout=seconds,
        socket_connect_timeout=2.0,
        health_check_interval=30,
        retry=Retry(_BACKOFF, retries, supported_errors=CONNECTION_ERRORS),
    )


def connect_async(url: str) -> AsyncRedis:
    """``connect`` for asynchronous code: who asks while all connections are in use waits for one."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=SOCKET_TIMEOUT_SECONDS,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=2.0,
        health_check_interval=30,
        retry=AsyncRetry(_BACKOFF, _RETRIES, supported_errors=CONNECTION_ERRORS),
    )
    return AsyncRedis.from_pool(pool)
