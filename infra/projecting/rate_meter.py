"""The rate at which a segment is folded."""

import time
from collections import deque

RATE_SECONDS = 5.0
"""Seconds over which the rate of folding is measured."""


class RateMeter:
    """The number of folded events per second over the last ``RATE_SECONDS``."""

    def __init__(self) -> None:
        self._batches: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._events = 0
        """The number of events of all batches."""

    def record(self, events: int) -> float:
        """Count a batch of events that was folded just now. Return the rate, this batch included."""
        now = time.monotonic()
        self._batches.append((now, events))
        self._events += events
        while self._batches[0][0] < now - RATE_SECONDS:
            self._events -= self._batches.popleft()[1]
        since = min(self._batches[0][0], now - 1.0)
        return self._events / (now - since)
