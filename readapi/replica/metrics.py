"""Prometheus metrics of the replicas."""

from prometheus_client import Gauge

from readapi.replica.replica import Replica


class ReplicaGauges:
    """The sizes of the replicas in one API process. Zero while Redis answers in place of a replica."""

    def __init__(self) -> None:
        self._rows = _gauge("tickview_replica_rows", "Rows in memory.")
        self._bytes = _gauge("tickview_replica_bytes", "Approximate memory of the replica, in bytes.")

    def show(self, read_model: str, replica: Replica | None) -> None:
        """Set the gauges of a read model to the size of its replica."""
        self._rows.labels(read_model).set(0 if replica is None else len(replica))
        self._bytes.labels(read_model).set(0 if replica is None else replica.nbytes)


def _gauge(name: str, documentation: str) -> Gauge:
    return Gauge(name, documentation, ["read_model"], registry=None, multiprocess_mode="liveall")
