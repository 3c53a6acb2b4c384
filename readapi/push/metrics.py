"""Prometheus metrics of live push."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Upper bounds of the latency histogram, in seconds."""


class PushMetrics:
    """The metrics of live push in one API process."""

    def __init__(self) -> None:
        self.connections = Gauge(
            "tickview_push_connections",
            "Clients connected to live push.",
            ("transport",),
            registry=None,
            multiprocess_mode="livesum",
        )
        self.resumed = Counter(
            "tickview_push_resumed", "Clients that reconnected and received what they had missed.", registry=None
        )
        self.reset = Counter("tickview_push_reset", "Resets sent to clients.", registry=None)
        self.dropped = Counter(
            "tickview_push_dropped", "Clients disconnected because they were too slow.", registry=None
        )
        self.seconds = Histogram(
            "tickview_push_seconds",
            "Seconds from the recording of a commit's last event until the change is written to its last client.",
            registry=None,
            buckets=BUCKETS,
        )

    def register(self, registry: CollectorRegistry) -> None:
        """Register all metrics."""
        for metric in (self.connections, self.resumed, self.reset, self.dropped, self.seconds):
            registry.register(metric)
