"""Complete scans of large keys and of key spaces, page by page.

The cursor of a scan has a meaning only for the server process that has given it out. A server that was restarted, or a
replica that took over, has the elements in another order. A scan that continues there misses some of them, without an
error (https://redis.io/docs/latest/commands/scan/#scan-guarantees).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from redis import Redis
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.exceptions import AskError
from redis.exceptions import ConnectionError as RedisConnectionError

from domain.errors import TickViewError
from infra.redis.cluster import run_on_key_node
from infra.redis.connections import AsyncRedisClient, RedisClient


class ScanInterruptedError(TickViewError, RedisConnectionError):
    """The server was restarted or replaced during a scan, or the keys were moved. The scan must begin again."""


def server_process(info: dict[str, Any]) -> str:
    """Return the id of the server process, from the section ``server`` of INFO."""
    return str(info["run_id"])


class HashPage(NamedTuple):
    """A page of a scan of a hash."""

    process: str
    """The id of the server process that the cursor belongs to."""
    cursor: int
    """Where the next page begins. 0: there is none."""
    fields: dict[bytes, bytes]


async def read_hash_pages(client: AsyncRedisClient, cursors: Mapping[str, int], count: int) -> dict[str, HashPage]:
    """Read the next page of several hashes, in one round trip per server.

    Args:
        client: The client of the server or of the cluster.
        cursors: Key of a hash -> cursor of the page.
        count: Approximate number of fields of a page.

    Raises:
        ScanInterruptedError: A cluster has moved a hash to another node.
        RedisError: A server cannot be reached.
    """
    if not isinstance(client, AsyncRedisCluster):
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.info("server")
            for key, cursor in cursors.items():
                pipeline.hscan(key, cursor, count=count)
            info, *pages = await pipeline.execute()
        return {key: HashPage(server_process(info), *page) for key, page in zip(cursors, pages, strict=True)}
    await client.initialize()
    nodes = {key: client.get_node_from_key(key) for key in cursors}
    distinct = list(dict.fromkeys(nodes.values()))
    async with client.pipeline(transaction=False) as cluster_pipeline:
        for node in distinct:
            cluster_pipeline.execute_command("INFO", "server", target_nodes=node)
        for key, cursor in cursors.items():
            cluster_pipeline.hscan(key, cursor, count=count)
        try:
            replies = await cluster_pipeline.execute(allow_redirections=False)
        except AskError as error:
            raise ScanInterruptedError("Redis has moved keys during a scan; try again") from error
    processes = dict(zip(distinct, map(server_process, replies), strict=False))
    pages = replies[len(distinct) :]
    return {key: HashPage(processes[nodes[key]], *page) for key, page in zip(cursors, pages, strict=True)}


def scan_hash(client: RedisClient, key: str, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the fields of a hash, each at least once.

    Args:
        client: The client.
        key: The key of the hash.
        count: Approximate number of fields per round trip.

    Raises:
        ScanInterruptedError: The server was replaced during the scan.
    """
    for page in _pages(client, key, lambda pipeline, cursor: pipeline.hscan(key, cursor, count=count)):
        yield from page.items()


def scan_keys(client: RedisClient, prefix: str, count: int) -> Iterator[bytes]:
    """Yield the keys that begin with ``prefix``, each at least once. The prefix contains the hash tag of the keys.

    Args:
        client: The client.
        prefix: The beginning of the keys, without characters that have a meaning in a pattern.
        count: Approximate number of keys that the server visits per round trip.

    Raises:
        ScanInterruptedError: The server was replaced during the scan.
    """

    def scan(pipeline: Any, cursor: int) -> None:
        pipeline.exists(prefix)  # Unlike SCAN, this command fails on a node that does not have the slot any more.
        pipeline.scan(cursor, prefix + "*", count)

    for page in _pages(client, prefix, scan):
        yield from page


def _pages(client: RedisClient, key: str, scan: Callable[[Any, int], object]) -> Iterator[Any]:
    cursor, first_process = 0, None

    def read_page(node: Redis) -> tuple[dict[str, Any], tuple[int, Any]]:
        with node.pipeline(transaction=False) as pipeline:
            pipeline.info("server")
            scan(pipeline, cursor)
            info, *_, page = pipeline.execute()
            return info, page

    while first_process is None or cursor:
        info, (cursor, page) = run_on_key_node(client, key, read_page)
        first_process = first_process or server_process(info)
        if server_process(info) != first_process:
            raise ScanInterruptedError("Redis was restarted or replaced during a scan; try again")
        yield page
