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


class RoleHealth(ComponentHealth):
    """The health of a role.

    ``processes`` is the number of processes that do their work. ``age_seconds`` is the age of the latest heartbeat, or
    null if no process has run or all have ended in order.
    """

    processes: int
    age_seconds: float | None


class WayHealth(TypedDict):
    """Whether a way by which messages arrive is heard.

    ``heard`` says whether a process has heard it within the last ten seconds. ``age_seconds`` is the time since it was
    last heard, or null if it never was. ``gaps`` counts the times in which a process did not hear it.
    """

    heard: bool
    age_seconds: float | None
    gaps: int


class GapDocument(TypedDict):
    """A time in which a recorder did not hear a way, so that messages may be lost.

    Times are in epoch seconds. ``others`` is the number of other recorders that heard the way at the end of the gap.
    """

    way: str
    recorder: str
    began_at: float
    ended_at: float
    reason: str
    others: int


class IntakeHealth(ComponentHealth):
    """The health of the intake of messages.

    ``gaps`` are the latest ten, the newest first. ``counts`` are the messages received since the first start, by
    ``<way>.<result>``, for example ``http.recorded``.
    """

    pubsub: WayHealth
    stream: WayHealth
    http: WayHealth
    gaps: list[GapDocument]
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
    """The health of the archive."""

    logs: dict[str, ArchivedLogHealth]


class VerificationHealth(ComponentHealth):
    """The result of the last verification of the archive. ``finished_at`` is in epoch seconds."""

    ok: bool
    events: int
    finished_at: float


class ServiceStatus(TypedDict):
    """The health of the service, which is the worst health of its parts."""

    status: HealthStatus


class ServiceHealth(ServiceStatus):
    """The health of the service and of its parts.

    ``roles`` and ``read_models`` are empty and ``intake`` is null while Redis is unavailable. ``archive`` is null while
    Redis or PostgreSQL is unavailable, and if the service has no archive. ``verification`` is null in the same cases,
    and if the archive was never verified.
    """

    servers: dict[str, ServerHealth]
    roles: dict[str, RoleHealth]
    intake: IntakeHealth | None
    read_models: dict[str, ReadModelHealth]
    archive: ArchiveHealth | None
    verification: VerificationHealth | None


class LiveStatus(TypedDict):
    """The answer of a process that runs."""

    status: Literal["live"]


class ReadyStatus(TypedDict):
    """Whether a process can answer requests for read models. ``reasons`` say why it cannot."""

    status: Literal["ready", "not ready"]
    reasons: list[str]


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
