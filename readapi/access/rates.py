"""Rate limits: a token bucket for each who asks, in a table that does not grow beyond its bound."""

import time
from collections.abc import Callable
from math import ceil

MOST_BUCKETS = 10_000
"""Kept at once; of whom nothing has been heard for longest, the bucket is forgotten and thereby full again."""


class RateLimits:
    """``rate`` requests a second (above 0) for each, and ``burst`` (1 or more) at once after a rest.

    ``clock`` gives seconds that never go back.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """Who -> requests left, as of when."""

    def spend(self, who: str) -> int | None:
        """Count a request of ``who``; where it is too many, the whole seconds until there may be another."""
        now = self._clock()
        left, then = self._buckets.pop(who, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        # The ends of the table are its order of use.
        if len(self._buckets) >= MOST_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        if left < 1:
            self._buckets[who] = (left, now)
            return ceil((1 - left) / self._rate)
        self._buckets[who] = (left - 1, now)
        return None
