"""Counters of received messages: each process counts, and Redis holds the totals of all processes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from threading import Lock

from redis.exceptions import RedisError

from domain.announcements import Receipt
from infra.processes.outage import OutageLog
from infra.redis.connections import RedisClient

COUNTS_KEY = "tickview:intake"
"""Redis hash of the totals. A field is ``<way>.<counter>``, for example ``pubsub.recorded``."""


class Counters:
    """The counters of one way by which messages arrive, safe for several threads."""

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter()
        self._lock = Lock()

    def add(self, numbers: Mapping[str, int]) -> None:
        """Increase counters."""
        with self._lock:
            self._numbers.update(numbers)

    def reset(self) -> Counter[str]:
        """Set every counter to zero. Return the numbers before."""
        with self._lock:
            numbers, self._numbers = self._numbers, Counter()
        return numbers

    def __getitem__(self, name: str) -> int:
        return self._numbers[name]


def count_receipts(receipts: Sequence[Receipt]) -> Counter[str]:
    """Count the ``recorded`` and ``duplicates`` events and the ``refused`` messages."""
    duplicates = sum(event.duplicate for receipt in receipts for event in receipt.events)
    events = sum(len(receipt.events) for receipt in receipts)
    refused = sum(1 for receipt in receipts if receipt.refusals)
    return Counter(recorded=events - duplicates, duplicates=duplicates, refused=refused)


class CountersFlush:
    """Adds the counters of one process to the totals in Redis.

    Args:
        client: The client of the server that holds the totals.
        counters: The counters by way: ``pubsub``, ``stream`` or ``http``.
    """

    def __init__(self, client: RedisClient, counters: Mapping[str, Counters]) -> None:
        self._client = client
        self._counters = counters
        self._outage = OutageLog("counters not written", "counters written again")
        self._lock = Lock()

    def flush(self) -> None:
        """Add the counters to the totals and set them to zero. While Redis is unavailable, they keep their numbers.

        A second caller waits for a flush under way, because that flush adds its numbers again if it fails.
        """
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        numbers_by_way = {way: counters.reset() for way, counters in self._counters.items()}
        try:
            with self._client.pipeline(transaction=True) as pipeline:
                for way, numbers in numbers_by_way.items():
                    for name, number in numbers.items():
                        if number:
                            pipeline.hincrby(COUNTS_KEY, f"{way}.{name}", number)
                pipeline.execute()
            self._outage.recovered()
        except RedisError as error:
            self._outage.failed(error)
            for way, numbers in numbers_by_way.items():
                self._counters[way].add(numbers)
