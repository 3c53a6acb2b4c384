"""The handle of one log: everything that an operation on the log's keys needs."""

from redis import Redis, RedisCluster

from infra.log.durability import DurableFunctions
from infra.log.keys import LogKeys
from infra.settings import Durability


class LogHandle:
    """The connection, the name, the keys and the durability of one log.

    Args:
        client: A client that does not decode responses. Nothing connects before the first call.
        name: The name of the log. It must be able to be a hash tag.
        durability: When an append is acknowledged.
        replicas: The number of replicas that ``replicated`` waits for, at least 1.
        dedupe_window: Seconds for which an event id is remembered, at least 1, and at most for twice as long.

    Raises:
        ValueError: The name is empty or contains braces.
    """

    def __init__(
        self, client: Redis | RedisCluster, name: str, *, durability: Durability, replicas: int, dedupe_window: int
    ) -> None:
        self.client = client
        self.name = name
        self.keys = LogKeys(name)
        self.functions = DurableFunctions(client, durability, replicas)
        self.dedupe_window = dedupe_window
