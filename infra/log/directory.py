"""The event logs of one process by name. The partitions of the market log can become more while the process runs."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from domain.partitions import Partitions
from infra.log.event_log import EventLog
from infra.log.partitions import read_partitions, seal, store_partitions
from infra.redis.connections import RedisClient

SEALS_AT_ONCE = 16
"""Highest number of partitions that are sealed at the same time."""


class LogDirectory(Mapping[str, EventLog]):
    """All partitions of the market log, in the order of their numbers, and behind them other logs.

    A thread that iterates sees the logs that there were at the beginning.

    Args:
        client: The client of the server that stores the number of partitions.
        open_log: Opens a log by its name, without connecting.
        partitions: The number of partitions as far as it is known.
        others: The names of the other logs.
    """

    def __init__(
        self,
        client: RedisClient,
        open_log: Callable[[str], EventLog],
        partitions: Partitions,
        others: tuple[str, ...] = (),
    ) -> None:
        self._client = client
        self._open_log = open_log
        self._market: dict[str, EventLog] = {}
        self._others = {name: open_log(name) for name in others}
        self._partitions = partitions
        self._lock = Lock()
        self.adopt(partitions)

    @property
    def client(self) -> RedisClient:
        """The client of the server that stores the number of partitions."""
        return self._client

    @property
    def partitions(self) -> Partitions:
        """The number of partitions of the market log, as far as this process knows it."""
        return self._partitions

    @property
    def market(self) -> Mapping[str, EventLog]:
        """The partitions that there are now."""
        return self._market

    def adopt(self, partitions: Partitions) -> None:
        """Open the partitions that a raised number adds."""
        with self._lock:
            merged = self._partitions.merged(partitions)
            # The logs come first: a thread that sees the number finds them.
            self._market = {name: self._market.get(name) or self._open_log(name) for name in merged.names}
            self._partitions = merged

    def refresh(self) -> None:
        """Read the number of partitions, and open those that were added. Raises RedisError."""
        if stored := read_partitions(self._client):
            self.adopt(stored)

    def raise_partitions(self, partitions: Partitions) -> None:
        """Raise the number of partitions, or finish a raise that another process has begun.

        Every process can do this at any time, because stored numbers are merged. The number is stored first. Until a
        partition is sealed, no process that knows the number relies on the absence of a stream there.

        Args:
            partitions: The number of partitions. A number that is not higher than the present one only seals.

        Raises:
            RedisError: The number could not be stored, or not all partitions could be sealed. Another call goes on.
            NotDurableError: A seal is not yet as durable as the options of the log demand.
        """
        self.adopt(store_partitions(self._client, self._partitions.merged(partitions)))
        raised = self._partitions
        # Each seal waits until it is durable.
        with ThreadPoolExecutor(SEALS_AT_ONCE, thread_name_prefix="seal") as threads:
            list(threads.map(lambda log: seal(log, raised), self._market.values()))

    def __getitem__(self, name: str) -> EventLog:
        return self._market[name] if name in self._market else self._others[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._market, *self._others))

    def __len__(self) -> int:
        return len(self._market) + len(self._others)
