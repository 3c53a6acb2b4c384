"""Request metrics: middleware that measures the time of each request for Prometheus and the performance report."""

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Mapping
from functools import partial
from typing import Any

import falcon
from falcon.asgi import Request, Response
from prometheus_client import CollectorRegistry, Histogram

WINDOW = 1_000
"""Number of most recent requests of each operation from which percentiles are computed."""

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Upper bounds of the histogram's buckets, in seconds."""

FLUSH_SECONDS = 1.0
"""Seconds for which measurements are collected before they are added to the histogram.

Each addition writes to a file that all API processes share.
"""

UNMATCHED = "unmatched"
"""Label for requests that match no route. Clients thus cannot create labels."""


class RequestMetrics:
    """Falcon middleware that measures the time of each request."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "tickview_http_request_seconds",
            "Time to answer a request, in seconds, without waits for a position.",
            ("method", "route", "status"),
            registry=registry,
            buckets=BUCKETS,
        )
        self._unflushed: defaultdict[tuple[str, str, int], _Measurements] = defaultdict(_Measurements)
        self.recent_seconds: defaultdict[tuple[str, str], deque[float]] = defaultdict(partial(deque, maxlen=WINDOW))
        """Times of the most recent successful requests, in seconds, by (method, route)."""

    async def process_request(self, req: Request, _resp: Response) -> None:
        """Record the start of the request."""
        req.context.started = time.perf_counter()

    async def process_response(self, req: Request, resp: Response, _resource: object, _succeeded: bool) -> None:
        """Record the time of the request."""
        started = getattr(req.context, "started", None)
        if started is None:
            return  # Middleware of the host application refused the request before this middleware ran.
        method = req.method if req.uri_template and req.method in falcon.HTTP_METHODS else "OTHER"
        self.record(method, req.uri_template or UNMATCHED, resp.status_code, time.perf_counter() - started)

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record a request that was answered with a status, and its time in seconds."""
        if not self._unflushed:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        measurements = self._unflushed[method, route, status]
        measurements.seconds += seconds
        measurements.buckets[bisect_left(BUCKETS, seconds)] += 1
        if status < 400:
            self.recent_seconds[method, route].append(seconds)

    async def process_shutdown(self, _scope: Mapping[str, Any], _event: Mapping[str, Any]) -> None:
        """Add the last measurements to the histogram."""
        self.flush()

    def flush(self) -> None:
        """Add the collected measurements to the histogram."""
        for labels, measurements in self._unflushed.items():
            histogram = self._seconds.labels(*labels)
            # ``observe`` would make two system calls per request. This adds many requests at once.
            histogram._sum.inc(measurements.seconds)
            for bucket, requests in zip(histogram._buckets, measurements.buckets, strict=True):
                if requests:
                    bucket.inc(requests)
        self._unflushed.clear()


class _Measurements:
    """Total seconds and requests per bucket for one method, route and status."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)
