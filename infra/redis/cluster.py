"""The nodes of a command: which server of a cluster executes it. Without a cluster, one server executes every command.

- A command with keys of one slot, a function call included, goes to the primary of the slot.
- A pipeline is split by node. A transaction must have the keys of one slot. Commands that must use one connection, or
  whose replies are compared, go to one node by ``run_on_key_node`` or ``run_by_node``.
- A command about the server itself goes to every primary by ``run_on_primaries``.
- The nodes pass on every message of pub/sub to each other. A subscription to any of them hears all of them.
"""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, TypeVar

from redis import Redis, RedisCluster
from redis.client import PubSub
from redis.exceptions import ClusterDownError, MovedError, RedisError, SlotNotCoveredError
from redis.exceptions import ConnectionError as RedisConnectionError

from infra.redis.connections import CONNECTION_ERRORS, RedisClient
from infra.redis.server_errors import is_moving

T = TypeVar("T")

UNREACHABLE_ERRORS = (*CONNECTION_ERRORS, ClusterDownError)
"""The errors that redis-py raises while the server of a key cannot be reached."""

MOVE_SECONDS = 2.0
"""Seconds for which an operation waits while the keys of its slot are moved to another node."""

MOVE_POLL_SECONDS = 0.05
"""Seconds between two attempts while keys are moved."""

MAX_REDIRECTIONS = 5
"""Highest number of other nodes to which one operation is redirected."""


def run_on_key_node(client: RedisClient, key: str, operation: Callable[[Redis], T]) -> T:
    """Run ``operation`` on the server that holds ``key`` and return its result.

    If a cluster has moved the key, or the server cannot be reached, the server is looked up again and the operation
    runs again. While a cluster moves the slot of the key, the operation is tried for ``MOVE_SECONDS``. See
    https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ ("MOVED Redirection").

    Args:
        client: A client of a server or of a cluster.
        key: The key whose server is needed.
        operation: A function of the server's client. It must be safe to run several times.

    Raises:
        redis.exceptions.RedisError: The last attempt failed; one of ``UNREACHABLE_ERRORS`` if no server answers.
    """
    if not isinstance(client, RedisCluster):
        return operation(client)
    cluster = client
    return _with_redirections(cluster, lambda: operation(node_of_key(cluster, key)))


def node_of_key(client: RedisClient, key: str) -> Redis:
    """Return the client of the server that holds a key, as far as is known. It may answer that it does not.

    Raises:
        redis.exceptions.RedisError: No server of the cluster can be reached.
    """
    if not isinstance(client, RedisCluster):
        return client
    try:
        return client.get_redis_connection(client.get_node_from_key(key))
    except SlotNotCoveredError as error:
        raise RedisConnectionError(str(error)) from error


def run_by_node(
    client: RedisClient, keys: Sequence[str], operation: Callable[[Redis, Sequence[str]], Mapping[str, T]]
) -> dict[str, T]:
    """Run ``operation`` once per server with the keys that the server holds. Return the merged results.

    Args:
        client: A client of a server or of a cluster.
        keys: The keys, each of a slot of its own.
        operation: Called with the client of a server and its keys. It returns a result for each of these keys, and must
            be safe to run several times.

    Raises:
        redis.exceptions.RedisError: The last attempt failed; one of ``UNREACHABLE_ERRORS`` if no server answers.
    """
    if not isinstance(client, RedisCluster):
        return dict(operation(client, keys))
    cluster = client

    def run_on_nodes() -> dict[str, T]:
        keys_of_nodes: defaultdict[Redis, list[str]] = defaultdict(list)
        for key in keys:
            keys_of_nodes[node_of_key(cluster, key)].append(key)
        results: dict[str, T] = {}
        for server, held in keys_of_nodes.items():
            results.update(operation(server, held))
        return results

    return _with_redirections(cluster, run_on_nodes)


def run_on_primaries(client: RedisClient, operation: Callable[[Redis], T]) -> list[T]:
    """Run ``operation`` on every primary server of a cluster, or on the only server. Return the results.

    Args:
        client: A client of a server or of a cluster.
        operation: A function of the server's client.

    Raises:
        redis.exceptions.RedisError: The operation failed on a server. The next call reads the primaries again.
    """
    try:
        return [operation(server) for server in primaries(client).values()]
    except UNREACHABLE_ERRORS:
        refresh_nodes(client)
        raise


def primaries(client: RedisClient) -> dict[str, Redis]:
    """Return the clients of the known primaries of a cluster by their address, or the only server with an empty name.

    Raises:
        redis.exceptions.RedisError: No server of the cluster can be reached.
    """
    if not isinstance(client, RedisCluster):
        return {"": client}
    return {node.name: client.get_redis_connection(node) for node in client.get_primaries()}


def refresh_nodes(client: RedisClient) -> None:
    """Read the nodes of a cluster again, because one of them does not answer. If no node answers, keep them."""
    if isinstance(client, RedisCluster):
        with suppress(RedisError):
            client.nodes_manager.initialize()


def open_pubsub(client: RedisClient) -> PubSub:
    """Open a subscription, in a cluster on any primary that it has now.

    Raises:
        redis.exceptions.RedisError: The cluster cannot be reached.
    """
    server = client
    if isinstance(client, RedisCluster):
        client.nodes_manager.initialize()
        server = client.get_redis_connection(random.choice(client.get_primaries()))  # noqa: S311 no secret
    pubsub: PubSub = server.pubsub()  # type: ignore[no-untyped-call]
    return pubsub


def incoming_links(pubsub: PubSub) -> Set[tuple[bytes, int]]:
    """Return the connections by which other nodes pass on messages to the node of a subscription.

    A node drops the messages that it should pass on while its connection to another node is broken.

    Returns:
        The id of each other node, with the epoch millisecond at which it connected.

    Raises:
        redis.exceptions.RedisError: The node does not answer.
    """
    links: list[dict[bytes, Any]] = Redis(connection_pool=pubsub.connection_pool).execute_command("CLUSTER", "LINKS")
    return {(link[b"node"], link[b"create-time"]) for link in links if link[b"direction"] == b"from"}


def unheard_channels(client: RedisClient, channels: Set[str]) -> Set[str]:
    """Return those of the channels that have no subscriber, although a publication to each of them met none.

    A node of a cluster knows its own subscribers only. If any subscription is a pattern, all channels count as heard.
    """
    if not channels or not isinstance(client, RedisCluster):
        return channels
    nodes = [client.get_redis_connection(node) for node in client.get_nodes()]
    if any(node.pubsub_numpat() for node in nodes):
        return set()
    counts: Any = [count for node in nodes for count in node.pubsub_numsub(*channels)]
    return channels - {channel.decode() for channel, subscribers in counts if subscribers}


def _with_redirections(cluster: RedisCluster, operation: Callable[[], T]) -> T:
    """Run an operation, again after each redirection, while slots are moved, and once more after a lost connection."""
    deadline = time.monotonic() + MOVE_SECONDS
    redirections, was_unreachable = 0, False
    while True:
        try:
            return operation()
        except UNREACHABLE_ERRORS:
            if was_unreachable:
                raise
            was_unreachable = True
            cluster.nodes_manager.initialize()
        except MovedError as moved:
            redirections += 1
            if redirections > MAX_REDIRECTIONS:
                raise
            cluster.nodes_manager.move_slot(moved)
        except RedisError as error:
            if not is_moving(error) or time.monotonic() > deadline:
                raise
            time.sleep(MOVE_POLL_SECONDS)
