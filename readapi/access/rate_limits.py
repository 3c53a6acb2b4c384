"""Rate limits: one token bucket per client, in a table of bounded size."""

import time
from collections.abc import Callable
from math import ceil

MAX_BUCKETS = 10_000
"""Highest number of buckets. A new bucket in a full table removes the full buckets and the oldest others."""


class RateLimits:
    """A token bucket for each client.

    Args:
        rate: Requests per second that a client may send continuously, above 0.
        burst: Requests that a client may send at once after a pause, at least 1.
        clock: Returns seconds that never decrease.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, list[float]] = {}
        """Client -> [remaining requests, time of the last update]."""

    @property
    def clients(self) -> set[str]:
        """The clients that have a bucket."""
        return set(self._buckets)

    def spend(self, client: str) -> int | None:
        """Count a request.

        Returns:
            None if the request is allowed. Otherwise the whole seconds until the next request is allowed.
        """
        now = self._clock()
        bucket = self._buckets.get(client)
        if bucket is None:
            if len(self._buckets) >= MAX_BUCKETS:
                self._remove_buckets(now)
            bucket = self._buckets[client] = [self._burst, now]
        remaining = min(self._burst, bucket[0] + (now - bucket[1]) * self._rate)
        if remaining < 1:
            return ceil((1 - remaining) / self._rate)
        bucket[0], bucket[1] = remaining - 1, now
        return None

    def _remove_buckets(self, now: float) -> None:
        """Remove the full buckets, and the oldest buckets until at most nine tenths of the table are left.

        A full bucket is the same as no bucket.
        """
        remaining_buckets = {
            client: [remaining, updated_at]
            for client, (remaining, updated_at) in self._buckets.items()
            if remaining + (now - updated_at) * self._rate < self._burst
        }
        excess = max(len(remaining_buckets) - MAX_BUCKETS * 9 // 10, 0)
        for client in list(remaining_buckets)[:excess]:
            del remaining_buckets[client]
        self._buckets = remaining_buckets
