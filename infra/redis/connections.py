"""Redis connections: clients with time-outs and retries that suit a long-running service.

The URL decides about the client: of one server, of a cluster, or of the primary server that Sentinels name.
"""

from collections.abc import Callable, Mapping
from typing import Any

from redis import ConnectionPool, Redis, RedisCluster
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.cluster import ClusterNode
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from infra.redis.cluster_clients import AsyncClusterClient, ClusterClient
from infra.redis.connection_classes import SENTINEL_CLASSES, async_connection_options, connection_options
from infra.settings.redis_urls import RedisUrl, parse_redis_url

RedisClient = Redis | RedisCluster
"""A blocking client of one server or of a cluster."""

AsyncRedisClient = AsyncRedis | AsyncRedisCluster
"""An asynchronous client of one server or of a cluster."""

CONNECTION_ERRORS = (RedisConnectionError, RedisTimeoutError)
"""The errors that a client raises while its server cannot be reached."""

SOCKET_TIMEOUT_SECONDS = 10.0
"""Seconds without an answer after which a connection counts as dead. Every blocking read is shorter."""

BLOCKING_CONNECTIONS = 10_000
"""Highest number of connections of a blocking client to each node. A further command fails. A worker needs one for each
of its segments, whose thread waits for events: 385 with 64 partitions. The default of redis-py is 100."""

CONNECTIONS = 50
"""Highest number of connections of an asynchronous client. The server runs one command at a time, so that more
connections would only wait for each other."""

CLUSTER_CONNECTIONS = 1_000
"""Highest number of connections of an asynchronous client to each node of a cluster: ``CONNECTIONS``, and one for each
read that blocks. A further read fails."""

_CONNECT_TIMEOUT_SECONDS = 2.0
"""Seconds that a server may take to accept a connection."""

_HEALTH_CHECK_SECONDS = 30
"""Seconds without a command after which a connection is checked before its next use."""

_NO_PRIMARY = "no Sentinel that answers knows a primary server of %s"
"""The error of redis-py lists the representations of all clients instead."""

_RETRIES = 3
"""Number of further attempts after a failed attempt."""

_BACKOFF = ExponentialWithJitterBackoff(base=0.02, cap=0.5)
"""Wait between two attempts, from 0.02 to 0.5 seconds."""


def connect(url: str, *, seconds: float = SOCKET_TIMEOUT_SECONDS, retries: int = _RETRIES) -> RedisClient:
    """Return a client for the servers at ``url``. It connects on first use, and again after an outage.

    Args:
        url: The URL of the servers.
        seconds: Seconds for which one attempt waits for an answer.
        retries: The number of further attempts after a failed attempt.

    Raises:
        ValueError: The URL is invalid. The message does not contain the URL.
    """
    parts = parse_redis_url(url)
    retry = Retry(_BACKOFF, retries, supported_errors=CONNECTION_ERRORS)
    limits = {"retry": retry, "max_connections": BLOCKING_CONNECTIONS}
    options = {**_times(seconds), **limits, **connection_options(parts.server_url)}
    if parts.kind == "cluster":
        return ClusterClient(lambda: {**_cluster_options(options, parts, ClusterNode), "url": parts.node_url})
    if parts.kind == "sentinel":
        never = Retry(NoBackoff(), 0)
        sentinel = _Sentinel(parts.hosts, sentinel_kwargs=_sentinel_options(options, parts, never))  # type: ignore[no-untyped-call]
        pool = _SentinelPool(parts.service, sentinel, **_managed(options))  # type: ignore[no-untyped-call]
        return Redis.from_pool(pool)
    return Redis.from_pool(ConnectionPool(**options))


def connect_async(url: str, *, seconds: float | None = SOCKET_TIMEOUT_SECONDS) -> AsyncRedisClient:
    """Return an asynchronous client for the servers at ``url``. It connects on first use, and again after an outage.

    While all ``CONNECTIONS`` to a server are in use, a further command waits for a free connection.

    Args:
        url: The URL of the servers.
        seconds: Seconds for which one attempt waits for an answer. None: without end.

    Raises:
        ValueError: The URL is invalid. The message does not contain the URL.
    """
    parts = parse_redis_url(url)
    retry = AsyncRetry(_BACKOFF, _RETRIES, supported_errors=CONNECTION_ERRORS)
    options = {**_times(seconds), "retry": retry, **async_connection_options(parts.server_url)}
    if parts.kind == "cluster":
        connection_class = options.pop("connection_class")
        arguments = _cluster_options(options, parts, AsyncClusterNode)
        # Each slot that was moved is noted by itself: to read all nodes again, redis-py would close all connections.
        others = {"max_connections": CLUSTER_CONNECTIONS, "ssl": parts.uses_tls, "reinitialize_steps": 0}
        return AsyncClusterClient(connection_class, CONNECTIONS, SOCKET_TIMEOUT_SECONDS, {**others, **arguments})
    options = {"max_connections": CONNECTIONS, "timeout": SOCKET_TIMEOUT_SECONDS, **options}
    if parts.kind == "sentinel":
        never = AsyncRetry(NoBackoff(), 0)
        sentinel = _AsyncSentinel(parts.hosts, sentinel_kwargs=_sentinel_options(options, parts, never))  # type: ignore[no-untyped-call]
        pool = _AsyncSentinelPool(parts.service, sentinel, **_managed(options))  # type: ignore[no-untyped-call]
        return AsyncRedis.from_pool(pool)
    return AsyncRedis.from_pool(BlockingConnectionPool(**options))


class _Sentinel(Sentinel):
    """The Sentinels of a service. Their error does not contain the representation of each connection."""

    def discover_master(self, service_name: str) -> Any:
        """Return the address of the primary server. Raises MasterNotFoundError."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError as error:
            raise MasterNotFoundError(_NO_PRIMARY % service_name) from error


class _AsyncSentinel(AsyncSentinel):
    """The Sentinels of a service, as ``_Sentinel``."""

    async def discover_master(self, service_name: str) -> Any:
        """Return the address of the primary server. Raises MasterNotFoundError."""
        try:
            return await super().discover_master(service_name)
        except AsyncMasterNotFoundError as error:
            raise AsyncMasterNotFoundError(_NO_PRIMARY % service_name) from error


class _SentinelPool(SentinelConnectionPool):
    """A pool of connections to the primary server that Sentinels name."""

    def close(self) -> None:
        """Close all connections, also those to the Sentinels."""
        super().close()
        for sentinel in self.sentinel_manager.sentinels:
            sentinel.close()


class _AsyncSentinelPool(AsyncSentinelConnectionPool, BlockingConnectionPool):
    """A pool of connections to the primary server that Sentinels name. A command waits for a free connection."""

    async def aclose(self) -> None:
        """Close all connections, also those to the Sentinels."""
        await super().aclose()
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()


def _times(seconds: float | None) -> dict[str, Any]:
    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "health_check_interval": _HEALTH_CHECK_SECONDS,
    }


def _cluster_options(
    options: Mapping[str, Any], parts: RedisUrl, node_class: Callable[[str, int], Any]
) -> dict[str, Any]:
    """Return the arguments that redis-py's clients of a cluster have in common."""
    return {
        **{name: value for name, value in options.items() if name not in ("host", "port", "db")},
        "startup_nodes": [node_class(*host) for host in parts.hosts],
        # Without this, no command would run while a single slot has no node.
        "require_full_coverage": False,
    }


def _managed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of connections whose address Sentinels name."""
    named = {name: value for name, value in options.items() if name not in ("host", "port")}
    return {**named, "connection_class": SENTINEL_CLASSES[options["connection_class"]]}


def _sentinel_options(options: Mapping[str, Any], parts: RedisUrl, retry: Retry | AsyncRetry) -> dict[str, Any]:
    """Return the options of the connections to the Sentinels. The next Sentinel is asked if one does not answer."""
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return {
        **tls,
        **dict(parts.sentinel_user),
        "ssl": parts.uses_tls,
        "socket_timeout": _CONNECT_TIMEOUT_SECONDS,
        "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "retry": retry,
    }
