"""What the replica takes, by Prometheus's names."""

from prometheus_client import Gauge

from readapi.replica.replica import PatternReplica


class ReplicaGauges:
    """The metrics of one process; 0 while Redis answers."""

    def __init__(self) -> None:
        self._rows = Gauge("tickview_replica_rows", "Rows in memory.", registry=None, multiprocess_mode="liveall")
        self._bytes = Gauge(
            "tickview_replica_bytes", "Memory that they take, about.", registry=None, multiprocess_mode="liveall"
        )

    def show(self, replica: PatternReplica | None) -> None:
        """How it is now."""
        self._rows.set(0 if replica is None else len(replica))
        self._bytes.set(0 if replica is None else replica.nbytes)
