"""The rate at which a segment is folded."""

import time
from collections import deque

RATE_SECONDS = 5.0
"""Seconds over which the rate of folding is measured."""


class RateMeter:
    """The number of folded events per second over the last ``RATE_SECONDS``."""

    def __init__(self) -> None:
        self._batches: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def record(self, events: int) -> float:
        """Count a batch of events that was folded just now. Return the rate, this batch included."""
        now = time.monotonic()
        self._batches.append((now, events))
        while self._batches[0][0] < now - RATE_SECONDS:
            self._batches.popleft()
        since = min(self._batches[0][0], now - 1.0)
        return sum(number for _, number in self._batches) / (now - since)
