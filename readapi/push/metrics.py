"""What live push counts, by Prometheus's names."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class PushMetrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.connections = Gauge(
            "tickview_push_connections",
            "Clients connected to live push.",
            ("transport",),
            registry=None,
            multiprocess_mode="livesum",
        )
        self.resumed = Counter(
            "tickview_push_resumed", "Clients that came back and got what they missed.", registry=None
        )
        self.reset = Counter("tickview_push_reset", "Resets told to clients.", registry=None)
        self.dropped = Counter("tickview_push_dropped", "Clients dropped for being slow.", registry=None)
        self.seconds = Histogram(
            "tickview_push_seconds",
            "From the recording of a commit's last event until it is written to the last client it concerns.",
            registry=None,
            buckets=BUCKETS,
        )

    def register(self, registry: CollectorRegistry) -> None:
        """Have them collected."""
        for metric in (self.connections, self.resumed, self.reset, self.dropped, self.seconds):
            registry.register(metric)
