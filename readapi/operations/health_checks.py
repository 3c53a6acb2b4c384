"""Health checks: the rules by which a component, and thus the service, is healthy, degraded or unhealthy."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from projections.queries import RowQueries
from readapi.http.read_model import ReadModel
from readapi.operations.health_documents import (
    ArchivedLogHealth,
    ArchiveHealth,
    ComponentHealth,
    Components,
    HealthStatus,
    IntakeHealth,
    ReadModelHealth,
    ReplicaHealth,
    ServerHealth,
    ServiceHealth,
)
from readapi.operations.read_model_documents import lag_events, lag_seconds, parked_keys
from readapi.ports.archive import ArchiveStatus
from readapi.ports.errors import UnavailableError
from readapi.ports.operations import IntakeStatus, Operations, ReadModelStatus, ServerStatus
from readapi.ports.read_models import LiveRows
from readapi.replica.replica import Replica

MAX_LAG_SECONDS = 10.0
"""Lag in seconds above which a read model is degraded."""

MAX_ARCHIVE_LAG_SECONDS = 30.0
"""Lag in seconds above which the archive is degraded."""

MAX_POSTGRES_LATENCY_MS = 250.0
"""Latency in milliseconds above which PostgreSQL is degraded."""


async def check_service(operations: Operations, patterns: ReadModel[RowQueries[Any]]) -> ServiceHealth:
    """Check every component of the service."""
    has_replica = isinstance(patterns.live.queries, Replica)
    server_statuses = await operations.servers()
    servers = {name: server_health(name, status, has_replica=has_replica) for name, status in server_statuses.items()}
    read_models: dict[str, ReadModelHealth] = {}
    intake: IntakeHealth | None = None
    archive: ArchiveHealth | None = None
    if server_statuses["redis"].up:
        read_models = {model.name: read_model_health(model) for model in await operations.read_models()}
        intake = intake_health(await operations.intake())
        with suppress(UnavailableError):  # The health of the server ``postgres`` reports this failure.
            archive = archive_health(await operations.archive())
    checked: list[ComponentHealth] = [*servers.values(), *read_models.values()]
    checked += [component for component in (intake, archive) if component]
    components = Components(servers=servers, read_models=read_models, intake=intake, archive=archive)
    return ServiceHealth(status=worst(component["status"] for component in checked), components=components)


def worst(statuses: Iterable[HealthStatus]) -> HealthStatus:
    """Return the worst of these statuses."""
    distinct = set(statuses)
    return "unhealthy" if "unhealthy" in distinct else "degraded" if "degraded" in distinct else "healthy"


def server_health(name: str, server: ServerStatus, *, has_replica: bool) -> ServerHealth:
    """Judge a database server.

    Without PostgreSQL, only requests for the past fail: the service is degraded. Without Redis, the service is
    degraded if a replica answers scans, and unhealthy otherwise.
    """
    reasons = [] if server.up else ["does not answer"]
    if name == "postgres" and server.latency_ms is not None and server.latency_ms > MAX_POSTGRES_LATENCY_MS:
        reasons.append(f"takes {server.latency_ms:.0f} ms to answer")
    impaired: HealthStatus = "degraded" if name == "postgres" or has_replica else "unhealthy"
    return {
        "status": impaired if reasons else "healthy",
        "reasons": reasons,
        "version": server.version,
        "latency_ms": server.latency_ms,
    }


def read_model_health(model: ReadModelStatus) -> ReadModelHealth:
    """Judge a read model. It is unhealthy if it is live but not folded, and degraded if it lags or has parked keys."""
    lag, parked = lag_seconds(model), parked_keys(model)
    is_abandoned = model.live is not None and not model.folded
    reasons = []
    if is_abandoned:
        reasons.append(f"no running worker can fold version {model.version}, which is live: start one that can")
    if parked:
        reasons.append(f"{parked} keys are parked: their events could not be folded")
    if lag > MAX_LAG_SECONDS:
        reasons.append(f"the oldest event that is not folded yet is {lag:.0f} s old")
    return {
        "status": "unhealthy" if is_abandoned else "degraded" if reasons else "healthy",
        "reasons": reasons,
        "version": model.version,
        "folded": model.folded,
        "lag_events": lag_events(model.segments),
        "lag_seconds": lag,
        "parked_keys": parked,
    }


def last_known_health(live: LiveRows[Any]) -> ReadModelHealth:
    """Return the health of a read model whose status in Redis cannot be read."""
    return {
        "status": "degraded",
        "reasons": ["Redis is unavailable: the response contains the last known patterns"],
        "version": live.build.version,
        "folded": None,
        "lag_events": None,
        "lag_seconds": None,
        "parked_keys": None,
    }


def replica_health(queries: RowQueries[Any]) -> ReplicaHealth | None:
    """Return the size of the replica, or None if the queries are not answered from a replica."""
    if not isinstance(queries, Replica):
        return None
    rows, size = len(queries), queries.nbytes
    return {"rows": rows, "bytes": size, "bytes_per_row": size // rows if rows else 0}


def intake_health(intake: IntakeStatus) -> IntakeHealth:
    """Judge the intake.

    Dead letters alone are the producer's fault. The intake is degraded if dead letters had to be deleted.
    """
    dropped = intake.dead_letters_dropped
    return {
        "status": "degraded" if dropped else "healthy",
        "reasons": [f"{dropped} dead letters were deleted because the store was full"] if dropped else [],
        "counts": dict(intake.counts),
        "dead_letters": intake.dead_letters,
        "dead_letters_dropped": dropped,
    }


def archive_health(archive: ArchiveStatus | None) -> ArchiveHealth | None:
    """Judge the archive. It is degraded if it lags, makes no progress or failed its last verification."""
    if archive is None:
        return None
    reasons = [f"the archiving of {log.log} is blocked: {log.error}" for log in archive.logs if log.error]
    reasons += [
        f"the oldest event of {log.log} that is not archived yet is {log.lag_seconds:.0f} s old"
        for log in archive.logs
        if log.lag_seconds > MAX_ARCHIVE_LAG_SECONDS
    ]
    verification = archive.verification
    for verified in verification["logs"] if verification else ():
        if violation := verified["misfit"]:
            reasons.append(
                f"event {violation['position']} of {verified['log']} does not match the hash chain: "
                f"it is {violation['kind']}"
            )
    return {
        "status": "degraded" if reasons else "healthy",
        "reasons": reasons,
        "logs": {
            log.log: ArchivedLogHealth(
                position=log.position, lag_events=log.lag_events, lag_seconds=log.lag_seconds, error=log.error
            )
            for log in archive.logs
        },
        "verified_at": verification["finished_at"] if verification else None,
    }
