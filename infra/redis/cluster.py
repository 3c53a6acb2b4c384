"""Operations on the server that holds a key, on a standalone server or in a cluster."""

from collections.abc import Callable
from typing import TypeVar

from redis import Redis, RedisCluster
from redis.exceptions import ClusterDownError, MovedError, RedisClusterException

from infra.redis.connections import CONNECTION_ERRORS

T = TypeVar("T")

UNREACHABLE_ERRORS = (*CONNECTION_ERRORS, ClusterDownError, RedisClusterException)
"""The errors that redis-py raises while the server of a key cannot be reached."""


def run_on_key_node(client: Redis | RedisCluster, key: str, operation: Callable[[Redis], T]) -> T:
    """Run ``operation`` on the server that holds ``key`` and return its result.

    If a cluster has moved the key, or the server cannot be reached, the server is looked up again and the operation
    runs a second time. See https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ ("MOVED
    Redirection").

    Args:
        client: A client of a server or of a cluster.
        key: The key whose server is needed.
        operation: A function of the server's client. It must be safe to run twice.

    Raises:
        redis.exceptions.RedisError: The second attempt failed; one of ``UNREACHABLE_ERRORS`` if no server answers.
    """
    try:
        return operation(_client_of_key(client, key))
    except MovedError as moved:
        if not isinstance(client, RedisCluster):
            raise
        client.nodes_manager.move_slot(moved)
    except UNREACHABLE_ERRORS:
        if not isinstance(client, RedisCluster):
            raise
        client.nodes_manager.initialize()
    return operation(_client_of_key(client, key))


def _client_of_key(client: Redis | RedisCluster, key: str) -> Redis:
    if isinstance(client, RedisCluster):
        return client.get_redis_connection(client.get_node_from_key(key))
    return client
