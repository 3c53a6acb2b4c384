"""Counts of what came in: kept by each process, added up in Redis over all processes since the beginning."""

from collections import Counter
from collections.abc import Mapping, Sequence
from threading import Lock

import structlog
from redis import Redis
from redis.exceptions import RedisError

from domain.announcements import Receipt
from infra.processes.outage import OutageLog

logger = structlog.get_logger()

COUNTS_KEY = "tickview:intake"
"""Hash: ``<way>.<what>`` -> how many."""


class Counts:
    """Counters that several threads add to."""

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter()
        self._lock = Lock()

    def add(self, numbers: Mapping[str, int]) -> None:
        """Count so many more of each."""
        with self._lock:
            self._numbers.update(numbers)

    def take(self) -> Counter[str]:
        """What has been counted since the last time."""
        with self._lock:
            taken, self._numbers = self._numbers, Counter()
        return taken

    def __getitem__(self, what: str) -> int:
        return self._numbers[what]


def counted(receipts: Sequence[Receipt]) -> Counter[str]:
    """``recorded`` and ``duplicates`` (events) and ``refused`` (messages)."""
    duplicates = sum(event.duplicate for receipt in receipts for event in receipt.events)
    events = sum(len(receipt.events) for receipt in receipts)
    refused = sum(1 for receipt in receipts if receipt.refusals)
    return Counter(recorded=events - duplicates, duplicates=duplicates, refused=refused)


def uncounted_yet() -> OutageLog:
    """What ``flush`` may have to say."""
    return OutageLog("counts not written", "counts are written again")


def flush(client: Redis, counts: Mapping[str, Counts], outage: OutageLog) -> None:
    """Add the counts of each way in to those in Redis; they wait for the next time if Redis is away."""
    taken = {way: one.take() for way, one in counts.items()}
    try:
        with client.pipeline() as pipeline:
            for way, numbers in taken.items():
                for what, number in numbers.items():
                    if number:
                        pipeline.hincrby(COUNTS_KEY, f"{way}.{what}", number)
            pipeline.execute()
        outage.recovered()
    except RedisError as error:
        outage.failed(error)
        for way, numbers in taken.items():
            counts[way].add(numbers)
