"""``/metrics``: Prometheus metrics of requests, read models, intake and archive."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from falcon.asgi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from projections.queries import RowQueries
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.read_model import ReadModel
from readapi.http.request_metrics import RequestMetrics
from readapi.operations.health_checks import ServiceState, judge_service
from readapi.operations.health_documents import ServiceHealth
from readapi.operations.service_checks import has_replica, read_service_state
from readapi.ports.archive import ArchiveStatus, Verification
from readapi.ports.operations import AlertStatus, IntakeStatus, Operations, ReadModelStatus

MERGE_ATTEMPTS = 3
"""Highest number of attempts to read the metrics of all processes while one of them ends."""


class MetricsResource(Resource):
    """Metrics in the text format of Prometheus.

    Args:
        request_metrics: The measurements of this API process, which are flushed before the response.
        process_registry: The metrics that the API processes collect, merged from all of them.
        operations: The source of the status metrics, which are read for each response.
        patterns: The read model that answers scans.
    """

    def __init__(
        self,
        request_metrics: RequestMetrics,
        process_registry: CollectorRegistry,
        operations: Operations,
        patterns: ReadModel[RowQueries[Any]],
    ) -> None:
        self._request_metrics = request_metrics
        self._process_registry = process_registry
        self._operations = operations
        self._patterns = patterns

    @operation(
        "Show metrics for Prometheus.",
        scope="read",
        responses={200: "text/plain"},
        example='tickview_healthy 1.0\ntickview_role_up{role="project"} 1.0\n',
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """Send the metrics in the text format. While Redis is unavailable, they tell only this and the requests."""
        self._request_metrics.flush()
        state = await read_service_state(self._operations)
        health = judge_service(state, has_replica=has_replica(self._patterns))
        status_registry = CollectorRegistry()
        status_registry.register(_HealthCollector(health))
        status_registry.register(_StatusCollector(state.read_models, state.intake))
        status_registry.register(_AlertCollector(state.alerts))
        status_registry.register(_ArchiveCollector(state.archive, is_up=_is_archive_up(state)))
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = self._process_metrics() + generate_latest(status_registry)

    def _process_metrics(self) -> bytes:
        for _ in range(MERGE_ATTEMPTS - 1):
            with suppress(FileNotFoundError):  # The files of a process that ended have just been merged.
                return generate_latest(self._process_registry)
        return generate_latest(self._process_registry)


class _HealthCollector(Collector):
    """The health of the service at the time of the request."""

    def __init__(self, health: ServiceHealth) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        health = self._health
        yield GaugeMetricFamily(
            "tickview_healthy", "Whether the service is healthy (1, else 0).", int(health["status"] == "healthy")
        )
        roles = GaugeMetricFamily(
            "tickview_role_up", "Whether a process does the work of the role (1, else 0).", labels=("role",)
        )
        for name, role in health["roles"].items():
            roles.add_metric((name,), int(role["processes"] > 0))
        yield roles
        servers = GaugeMetricFamily(
            "tickview_server_healthy", "Whether a database server has no fault (1, else 0).", labels=("server",)
        )
        for name, server in health["servers"].items():
            servers.add_metric((name,), int(server["status"] == "healthy"))
        yield servers
        if intake := health["intake"]:
            heard = GaugeMetricFamily(
                "tickview_intake_heard", "Whether a process hears the way of messages (1, else 0).", labels=("way",)
            )
            for way, is_heard in (
                ("pubsub", intake["pubsub"]["heard"]),
                ("stream", intake["stream"]["heard"]),
                ("http", intake["http"]["heard"]),
            ):
                heard.add_metric((way,), int(is_heard))
            yield heard


class _StatusCollector(Collector):
    """The status of the read models and of the intake at the time of the request."""

    def __init__(self, models: Sequence[ReadModelStatus], intake: IntakeStatus | None) -> None:
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
        if self._intake is None:
            return
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


class _AlertCollector(Collector):
    """The state of the alerts at the time of the request. Without Redis, it is not known."""

    def __init__(self, status: AlertStatus | None) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        if self._status is None:
            return
        yield GaugeMetricFamily("tickview_alerts_waiting", "Alerts that wait for delivery.", self._status.waiting)
        yield GaugeMetricFamily(
            "tickview_alerts_oldest_seconds",
            "Age of the detection of the oldest alert that waits for delivery, in seconds.",
            self._status.oldest_seconds,
        )
        yield GaugeMetricFamily(
            "tickview_alerts_lag_events", "Events that are not matched with alerts yet.", self._status.lag_events
        )
        attempts = CounterMetricFamily(
            "tickview_alerts_attempts", "Attempts to deliver alerts by outcome.", labels=("outcome",)
        )
        for outcome, number in self._status.outcomes.items():
            attempts.add_metric((outcome,), number)
        yield attempts


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


def _is_archive_up(state: ServiceState) -> bool | None:
    postgres = state.servers.get("postgres")
    return None if postgres is None else postgres.up


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
    differences = GaugeMetricFamily(
        "tickview_history_misfits",
        "Whether the last verification found a row of a history that does not follow from the events (1, else 0).",
        labels=("history", "log"),
    )
    for history in verification["histories"]:
        differences.add_metric((history["history"], history["log"] or ""), int(history["misfit"] is not None))
    yield differences
