"""Rate limits: a token bucket for each who asks, in a table that does not grow beyond its bound."""

import time
from collections.abc import Callable
from math import ceil

MOST_BUCKETS = 10_000
"""Kept at once; past that, the oldest tenth is forgotten, and thereby full again."""


class RateLimits:
    """``rate`` requests a second (above 0) for each, and ``burst`` (1 or more) at once after a rest.

    ``clock`` gives seconds that never go back.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, list[float]] = {}
        """Who -> requests left, as of when."""

    def spend(self, who: str) -> int | None:
        """Count a request of ``who``; where it is too many, the whole seconds until there may be another."""
        now = self._clock()
        bucket = self._buckets.get(who)
        if bucket is None:
            if len(self._buckets) >= MOST_BUCKETS:
                self._make_room(now)
            bucket = self._buckets[who] = [self._burst, now]
        left = min(self._burst, bucket[0] + (now - bucket[1]) * self._rate)
        if left < 1:
            return ceil((1 - left) / self._rate)
        bucket[0], bucket[1] = left - 1, now
        return None

    def _make_room(self, now: float) -> None:
        """Forget the buckets that are full again, which nobody can tell from none; if there are few, the oldest too."""
        kept = {
            who: [left, then]
            for who, (left, then) in self._buckets.items()
            if left + (now - then) * self._rate < self._burst
        }
        for who in list(kept)[: max(len(kept) - MOST_BUCKETS * 9 // 10, 0)]:
            del kept[who]
        self._buckets = kept
