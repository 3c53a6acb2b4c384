"""Complete scans of large keys and of key spaces, page by page.

The cursor of a scan has a meaning only for the server process that has given it out. A server that was restarted, or a
replica that took over, has the elements in another order. A scan that continues there misses some of them, without an
error (https://redis.io/docs/latest/commands/scan/#scan-guarantees).
"""

from collections.abc import Callable, Iterator
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from domain.errors import TickViewError
from infra.redis.cluster import run_on_key_node
from infra.redis.connections import RedisClient


class ScanInterruptedError(TickViewError, RedisConnectionError):
    """The server was restarted or replaced during a scan, or the keys were moved. The scan must begin again."""


def server_process(info: dict[str, Any]) -> str:
    """Return the id of the server process, from the section ``server`` of INFO."""
    return str(info["run_id"])


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
