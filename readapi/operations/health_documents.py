"""JSON documents of the health endpoints."""

from typing import Literal

from typing_extensions import TypedDict

HealthStatus = Literal["healthy", "degraded", "unhealthy"]


class ComponentHealth(TypedDict):
    """The health of one component. ``reasons`` say why it is not healthy."""

    status: HealthStatus
    reasons: list[str]


class ReadModelHealth(ComponentHealth):
    """The health of a read model.

    ``folded`` says whether a running worker folds the read model. ``lag_events`` and ``lag_seconds`` say how far it is
    behind the logs. These members and ``parked_keys`` are null while Redis is unavailable.
    """

    version: int
    folded: bool | None
    lag_events: int | None
    lag_seconds: float | None
    parked_keys: int | None


class ServerHealth(ComponentHealth):
    """The health of a database server. ``version`` and ``latency_ms`` are null if the server does not answer."""

    version: str | None
    latency_ms: float | None


class IntakeHealth(ComponentHealth):
    """The health of the intake of messages.

    ``counts`` are the messages received since the first start, by ``<way>.<result>``, for example ``http.recorded``.
    """

    counts: dict[str, int]
    dead_letters: int
    dead_letters_dropped: int


class ArchivedLogHealth(TypedDict):
    """The progress of the archive on one log.

    ``position`` is the last archived position. ``lag_seconds`` is the age of the oldest event that is not archived
    yet. ``error`` says what prevents progress, or is null.
    """

    position: int
    lag_events: int
    lag_seconds: float
    error: str | None


class ArchiveHealth(ComponentHealth):
    """The health of the archive.

    ``verified_at`` is the end of the last verification in epoch seconds, or null if the archive was never verified.
    """

    logs: dict[str, ArchivedLogHealth]
    verified_at: float | None


class Components(TypedDict):
    """The components of the service.

    ``read_models`` is empty and ``intake`` is null while Redis is unavailable. ``archive`` is null while Redis or
    PostgreSQL is unavailable, and if the service has no archive.
    """

    servers: dict[str, ServerHealth]
    read_models: dict[str, ReadModelHealth]
    intake: IntakeHealth | None
    archive: ArchiveHealth | None


class ServiceStatus(TypedDict):
    """The health of the service, which is the worst health of its components."""

    status: HealthStatus


class ServiceHealth(ServiceStatus):
    """The health of the service and of its components."""

    components: Components


class ReplicaHealth(TypedDict):
    """The size of the columnar replica in this API process.

    ``rows`` includes patterns that have expired and are still in memory. ``bytes`` is an estimate.
    """

    rows: int
    bytes: int
    bytes_per_row: int


class PatternsHealth(ReadModelHealth):
    """The health of the read model ``patterns``.

    ``total`` is the number of active patterns. ``replica`` is null if scans are answered from Redis: while the replica
    loads, or if the read model is larger than the configured limit. ``stale`` is true while Redis is unavailable;
    ``age_seconds`` is then the time since Redis last answered.
    """

    total: int
    source: str
    replica: ReplicaHealth | None
    stale: bool
    age_seconds: int | None


class ProducerReport(TypedDict):
    """The last status that a producer reported. ``reported_at`` is in epoch seconds."""

    source: str
    status: str
    reported_at: float


class DiscoveryHealth(ServiceHealth):
    """The health of the service, the number of active patterns and the last reports of the producers.

    ``patterns`` and ``producers`` are null while their read models are unavailable.
    """

    patterns: int | None
    producers: list[ProducerReport] | None
