"""The clock of the logs, by which events are recorded, as another process knows it."""

import time
from collections.abc import Collection
from math import inf

from redis import Redis, RedisCluster

from infra.log.keys import LogKeys
from infra.redis.cluster import run_on_key_node
from infra.redis.connections import RedisClient


class LogClock:
    """The clock of the server of each log. Between two measurements it runs with the monotonic clock of the process.

    Args:
        client: The client of the server, or of the cluster, that holds the logs.
        logs: The names of the logs. They may become more.
    """

    def __init__(self, client: RedisClient, logs: Collection[str]) -> None:
        self._client = client
        self._logs = logs
        self._start = inf

    def measure(self) -> None:
        """Read the clocks. If they differ, the clock that is behind counts. Raises RedisError."""
        keys = [LogKeys(log).log for log in self._logs]
        if not isinstance(self._client, RedisCluster):
            del keys[1:]
        self._start = min(run_on_key_node(self._client, key, _start_of_clock) for key in keys)

    def now(self) -> float:
        """Return the time in seconds since the epoch, at most a round trip ahead. Before a measurement: infinity."""
        return self._start + time.monotonic()


def _start_of_clock(server: Redis) -> float:
    """Return the time on the server's clock at which the monotonic clock of this process was 0."""
    before = time.monotonic()
    seconds, microseconds = server.time()
    return seconds + microseconds / 1_000_000 - before
