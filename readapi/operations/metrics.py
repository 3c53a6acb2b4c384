"""``/metrics``: Prometheus metrics of requests, read models, intake and archive."""

from collections.abc import Iterator, Sequence

from falcon.asgi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.request_metrics import RequestMetrics
from readapi.ports.archive import ArchiveStatus, Verification
from readapi.ports.errors import UnavailableError
from readapi.ports.operations import IntakeStatus, Operations, ReadModelStatus


class MetricsResource(Resource):
    """Metrics in the text format of Prometheus.

    Args:
        request_metrics: The measurements of this API process, which are flushed before the response.
        process_registry: The metrics that the API processes collect, merged from all of them.
        operations: The source of the status metrics, which are read for each response.
    """

    def __init__(
        self, request_metrics: RequestMetrics, process_registry: CollectorRegistry, operations: Operations
    ) -> None:
        self._request_metrics = request_metrics
        self._process_registry = process_registry
        self._operations = operations

    @operation("Show metrics for Prometheus.", scope="read", responses={200: "text/plain"}, problems=(503,))
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """Send the metrics in the text format."""
        self._request_metrics.flush()
        status_registry = CollectorRegistry()
        status_registry.register(
            _StatusCollector(await self._operations.read_models(), await self._operations.intake())
        )
        status_registry.register(await _archive_collector(self._operations))
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = generate_latest(self._process_registry) + generate_latest(status_registry)


class _StatusCollector(Collector):
    """The status of the read models and of the intake at the time of the request."""

    def __init__(self, models: Sequence[ReadModelStatus], intake: IntakeStatus) -> None:
        self._models = models
        self._intake = intake

    def collect(self) -> Iterator[Metric]:
        for name, description in (
            ("checkpoint", "Position up to which the log is folded."),
            ("lag_events", "Events of the log that are not folded yet."),
            ("lag_seconds", "Age of the oldest event that is not folded yet, in seconds."),
            ("parked_keys", "Keys whose events could not be folded."),
        ):
            gauge = GaugeMetricFamily(f"tickview_segment_{name}", description, labels=("read_model", "log"))
            for model in self._models:
                for segment in model.segments:
                    gauge.add_metric((model.name, segment.log), getattr(segment, name))
            yield gauge
        intake = CounterMetricFamily("tickview_intake", "Received messages by way and result.", labels=("way", "what"))
        for name, count in self._intake.counts.items():
            intake.add_metric(name.split(".", 1), count)
        yield intake
        yield GaugeMetricFamily("tickview_dead_letters", "Stored dead letters.", self._intake.dead_letters)
        yield CounterMetricFamily(
            "tickview_dead_letters_dropped",
            "Dead letters that were deleted because the store was full.",
            self._intake.dead_letters_dropped,
        )


class _ArchiveCollector(Collector):
    """The status of the archive at the time of the request. ``is_up`` is None if the service has no archive."""

    def __init__(self, status: ArchiveStatus | None, *, is_up: bool | None) -> None:
        self._status = status
        self._is_up = is_up

    def collect(self) -> Iterator[Metric]:
        if self._is_up is not None:
            yield GaugeMetricFamily("tickview_archive_up", "Whether PostgreSQL answers (1, else 0).", int(self._is_up))
        if self._status is None:
            return
        for name, description in (
            ("position", "Position up to which the log is archived."),
            ("lag_events", "Events of the log that are not archived yet."),
            ("lag_seconds", "Age of the oldest event that is not archived yet, in seconds."),
        ):
            gauge = GaugeMetricFamily(f"tickview_archive_{name}", description, labels=("log",))
            for log in self._status.logs:
                gauge.add_metric((log.log,), getattr(log, name))
            yield gauge
        if self._status.verification:
            yield from _verification_metrics(self._status.verification)


async def _archive_collector(operations: Operations) -> _ArchiveCollector:
    try:
        status = await operations.archive()
    except UnavailableError:
        return _ArchiveCollector(None, is_up=False)
    return _ArchiveCollector(status, is_up=None if status is None else True)


def _verification_metrics(verification: Verification) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "tickview_archive_verified_timestamp_seconds",
        "End of the last verification of the archive, in epoch seconds.",
        verification["finished_at"],
    )
    yield GaugeMetricFamily(
        "tickview_archive_verified_events", "Events that the last verification checked.", verification["events"]
    )
    violations = GaugeMetricFamily(
        "tickview_archive_misfits",
        "Whether the last verification found an event that does not match the hash chain (1, else 0).",
        labels=("log",),
    )
    for log in verification["logs"]:
        violations.add_metric((log["log"],), int(log["misfit"] is not None))
    yield violations
