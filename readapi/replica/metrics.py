"""Prometheus metrics of the replica."""

from prometheus_client import Gauge

from readapi.replica.replica import PatternReplica


class ReplicaGauges:
    """The size of the replica in one API process. Zero while Redis answers in place of a replica."""

    def __init__(self) -> None:
        self._rows = Gauge("tickview_replica_rows", "Rows in memory.", registry=None, multiprocess_mode="liveall")
        self._bytes = Gauge(
            "tickview_replica_bytes",
            "Approximate memory of the replica, in bytes.",
            registry=None,
            multiprocess_mode="liveall",
        )

    def show(self, replica: PatternReplica | None) -> None:
        """Set the gauges to the size of a replica."""
        self._rows.set(0 if replica is None else len(replica))
        self._bytes.set(0 if replica is None else replica.nbytes)
