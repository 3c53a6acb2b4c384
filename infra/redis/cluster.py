"""Work on the one server that holds a key, also where a cluster has moved it."""

from collections.abc import Callable
from typing import TypeVar

from redis import Redis, RedisCluster
from redis.exceptions import ClusterDownError, MovedError, RedisClusterException

from infra.redis.connections import CONNECTION_ERRORS

T = TypeVar("T")

UNREACHABLE_ERRORS = (*CONNECTION_ERRORS, ClusterDownError, RedisClusterException)
"""What is raised while the server of a key cannot be reached."""


def run_on_key_node(client: Redis | RedisCluster, key: str, operation: Callable[[Redis], T]) -> T:
    """The result of ``operation`` on the server that holds ``key``.

    Where a cluster has moved the key, or its server is gone, the server is looked up anew and ``operation``
    is done once more: it must bear being repeated. Raises one of ``UNREACHABLE_ERRORS`` when that fails too.
    """
    try:
        return operation(_node_of(client, key))
    except MovedError as moved:
        if not isinstance(client, RedisCluster):
            raise
        client.nodes_manager.move_slot(moved)
    except UNREACHABLE_ERRORS:
        if not isinstance(client, RedisCluster):
            raise
        client.nodes_manager.initialize()
    return operation(_node_of(client, key))


def _node_of(client: Redis | RedisCluster, key: str) -> Redis:
    if isinstance(client, RedisCluster):
        return client.get_redis_connection(client.get_node_from_key(key))
    return client
