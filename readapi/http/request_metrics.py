"""Measures every request: for ``/api/pattern-discovery/performance`` and, by Prometheus's names, for ``/metrics``."""

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import falcon
from falcon.asgi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import TypedDict

from readapi.http.answers import send
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.ports.archive import ArchiveStatus
from readapi.ports.errors import UnavailableError
from readapi.ports.operations import IntakeStatus, Operations, ReadModelStatus

WINDOW = 1_000
"""Requests of each operation that its percentiles are taken from: the last ones."""

TARGET_MS = 50.0
"""What 95 of 100 answers shall not take longer than."""

WRITE_TARGET_MS = 100.0
"""The same for what waits for the disk."""

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

GATHER_SECONDS = 1.0
"""Between two additions to the metrics: each writes to a file that the processes share."""

UNMATCHED = "unmatched"
"""Stands for the path of requests that no route takes, so that clients cannot invent labels."""


class OperationPerformance(TypedDict):
    """Response times of the last requests of one operation."""

    operation: str
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    target_p95_ms: float
    met: bool


class PerformanceAnswer(TypedDict):
    """Performance against targets, as this process measured it over at most ``window`` requests an operation."""

    status: Literal["met", "missed"]
    window: int
    operations: list[OperationPerformance]


class Measuring:
    """Middleware that times requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "tickview_http_request_seconds",
            "Time to answer, waits for a position left out.",
            ("method", "route", "status"),
            registry=registry,
            buckets=BUCKETS,
        )
        self._gathered: defaultdict[tuple[str, str, int], _Gathered] = defaultdict(_Gathered)
        self.latest: defaultdict[tuple[str, str], deque[float]] = defaultdict(partial(deque, maxlen=WINDOW))
        """Operation (method, route) -> seconds."""

    async def process_request(self, req: Request, _resp: Response) -> None:
        """Start the clock."""
        req.context.started = time.perf_counter()

    async def process_response(self, req: Request, resp: Response, _resource: object, _succeeded: bool) -> None:
        """Stop it."""
        started = getattr(req.context, "started", None)
        if started is None:
            return  # Another's middleware, before ours, has refused it.
        seconds = time.perf_counter() - started
        route = req.uri_template or UNMATCHED
        method = req.method if req.uri_template and req.method in falcon.HTTP_METHODS else "OTHER"
        if not self._gathered:
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self.flush)
        gathered = self._gathered[method, route, resp.status_code]
        gathered.seconds += seconds
        gathered.buckets[bisect_left(BUCKETS, seconds)] += 1
        if resp.status_code < 400:
            self.latest[method, route].append(seconds)

    async def process_shutdown(self, _scope: Mapping[str, Any], _event: Mapping[str, Any]) -> None:
        """Leave nothing out."""
        self.flush()

    def flush(self) -> None:
        """Add what was gathered to the metrics."""
        for place, gathered in self._gathered.items():
            histogram = self._seconds.labels(*place)
            # As ``observe`` does, once for many: each time, it asks the system twice which process this is.
            histogram._sum.inc(gathered.seconds)
            for bucket, requests in zip(histogram._buckets, gathered.buckets, strict=True):
                if requests:
                    bucket.inc(requests)
        self._gathered.clear()


class _Gathered:
    """Requests of one operation and status: how long they took together, and how many were in each bucket."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)


class PerformanceResource(Resource):
    """Performance against targets."""

    def __init__(self, measuring: Measuring) -> None:
        self._measuring = measuring

    @operation("Response times against their targets, in this process", scope="read", answers={200: PerformanceAnswer})
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """The last requests of each operation."""
        operations = [_performance(*place, sorted(seconds)) for place, seconds in self._measuring.latest.items()]
        status: Literal["met", "missed"] = "met" if all(one["met"] for one in operations) else "missed"
        send(resp, PerformanceAnswer(status=status, window=WINDOW, operations=operations))


def _performance(method: str, route: str, ordered: Sequence[float]) -> OperationPerformance:
    def percentile(percent: int) -> float:
        return round(ordered[-(-len(ordered) * percent // 100) - 1] * 1_000, 3)

    target = WRITE_TARGET_MS if method in ("POST", "DELETE") else TARGET_MS
    p95 = percentile(95)
    return {
        "operation": f"{method} {route}",
        "requests": len(ordered),
        "p50_ms": percentile(50),
        "p95_ms": p95,
        "p99_ms": percentile(99),
        "target_p95_ms": target,
        "met": p95 <= target,
    }


class MetricsResource(Resource):
    """Everything that Prometheus asks for: the requests of all processes, and how the service stands."""

    def __init__(self, measuring: Measuring, requests: CollectorRegistry, operations: Operations) -> None:
        self._measuring = measuring
        self._requests = requests
        self._operations = operations

    @operation("Metrics for Prometheus", scope="read", answers={200: "text/plain"}, problems=(503,))
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """The metrics, in the text format."""
        self._measuring.flush()
        standing = CollectorRegistry()
        standing.register(_Standing(await self._operations.read_models(), await self._operations.intake()))
        standing.register(await _archive(self._operations))
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = generate_latest(self._requests) + generate_latest(standing)


class _Standing(Collector):
    """How the service stood when it was asked."""

    def __init__(self, models: Sequence[ReadModelStatus], intake: IntakeStatus) -> None:
        self._models = models
        self._intake = intake

    def collect(self) -> Iterator[Metric]:
        for name, about in (
            ("checkpoint", "Position up to which the log is folded."),
            ("lag_events", "Events of the log that are not folded yet."),
            ("lag_seconds", "Age of the oldest event that is not folded yet."),
            ("parked_keys", "Keys whose events wait for a fix."),
        ):
            gauge = GaugeMetricFamily(f"tickview_segment_{name}", about, labels=("read_model", "log"))
            for model in self._models:
                for segment in model.segments:
                    gauge.add_metric((model.name, segment.log), getattr(segment, name))
            yield gauge
        intake = CounterMetricFamily("tickview_intake", "What came in.", labels=("way", "what"))
        for name, count in self._intake.counts.items():
            intake.add_metric(name.split(".", 1), count)
        yield intake
        yield GaugeMetricFamily("tickview_dead_letters", "Dead letters kept.", self._intake.dead_letters)
        yield CounterMetricFamily(
            "tickview_dead_letters_dropped", "Dead letters dropped for want of room.", self._intake.dead_letters_dropped
        )


async def _archive(operations: Operations) -> "_Archive":
    try:
        archive = await operations.archive()
    except UnavailableError:
        return _Archive(None, up=False)
    return _Archive(archive, up=None if archive is None else True)


class _Archive(Collector):
    """How the archive stood; ``up`` is None where there is none."""

    def __init__(self, status: ArchiveStatus | None, *, up: bool | None) -> None:
        self._status = status
        self._up = up

    def collect(self) -> Iterator[Metric]:
        if self._up is not None:
            yield GaugeMetricFamily("tickview_archive_up", "Whether PostgreSQL answers.", int(self._up))
        if self._status is None:
            return
        for name, about in (
            ("position", "Position up to which the log is archived."),
            ("lag_events", "Events of the log that are not archived yet."),
            ("lag_seconds", "Age of the oldest event that is not archived yet."),
        ):
            gauge = GaugeMetricFamily(f"tickview_archive_{name}", about, labels=("log",))
            for log in self._status.logs:
                gauge.add_metric((log.log,), getattr(log, name))
            yield gauge
        if verification := self._status.verification:
            yield GaugeMetricFamily(
                "tickview_archive_verified_timestamp_seconds",
                "End of the last verification.",
                verification["finished_at"],
            )
            yield GaugeMetricFamily(
                "tickview_archive_verified_events", "Events that it verified.", verification["events"]
            )
            misfits = GaugeMetricFamily(
                "tickview_archive_misfits", "Whether an event was found that does not fit its chain.", labels=("log",)
            )
            for found in verification["logs"]:
                misfits.add_metric((found["log"],), int(found["misfit"] is not None))
            yield misfits
