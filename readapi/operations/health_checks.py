"""Health checks: the rules by which a component, and thus the service, is healthy, degraded or unhealthy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from readapi.operations.health_documents import (
    ArchivedLogHealth,
    ArchiveHealth,
    ComponentHealth,
    GapDocument,
    HealthStatus,
    IntakeHealth,
    ReadModelHealth,
    RoleHealth,
    ServerHealth,
    ServiceHealth,
    VerificationHealth,
    WayHealth,
)
from readapi.operations.read_model_documents import lag_events, lag_seconds, parked_keys
from readapi.ports.archive import ArchiveStatus
from readapi.ports.operations import (
    ROLES,
    WAYS,
    AlertStatus,
    Gap,
    IntakeStatus,
    Liveness,
    ReadModelStatus,
    ServerStatus,
)
from readapi.ports.read_models import LiveRows

MAX_LAG_SECONDS = 10.0
"""Lag in seconds above which a read model is degraded."""

MAX_ARCHIVE_LAG_SECONDS = 30.0
"""Lag in seconds above which the archive is degraded."""

MAX_POSTGRES_LATENCY_MS = 250.0
"""Latency in milliseconds above which PostgreSQL is degraded."""


@dataclass(frozen=True)
class ServiceState:
    """The state of all parts of the service. Without Redis, only ``servers`` is known."""

    servers: Mapping[str, ServerStatus]
    liveness: Mapping[str, Liveness] | None = None
    intake: IntakeStatus | None = None
    read_models: Sequence[ReadModelStatus] = ()
    archive: ArchiveStatus | None = None
    alerts: AlertStatus | None = None


def judge_service(state: ServiceState, *, has_replica: bool) -> ServiceHealth:
    """Judge every part of the service. ``has_replica`` says whether a replica can answer scans without Redis."""
    servers = {name: server_health(name, status, has_replica=has_replica) for name, status in state.servers.items()}
    roles: dict[str, RoleHealth] = {}
    intake: IntakeHealth | None = None
    if state.liveness is not None and state.intake is not None:
        expected = expected_roles(state.liveness, has_archive="postgres" in state.servers)
        roles = {role: role_health(role, state.liveness[role]) for role in expected}
        intake = intake_health(state.intake, state.liveness)
    read_models = {model.name: read_model_health(model) for model in state.read_models}
    archive = archive_health(state.archive)
    verification = verification_health(state.archive)
    parts: list[ComponentHealth] = [*servers.values(), *roles.values(), *read_models.values()]
    parts += [part for part in (intake, archive, verification) if part]
    return ServiceHealth(
        status=worst(part["status"] for part in parts),
        servers=servers,
        roles=roles,
        intake=intake,
        read_models=read_models,
        archive=archive,
        verification=verification,
    )


def expected_roles(liveness: Mapping[str, Liveness], *, has_archive: bool) -> list[str]:
    """Return the roles that must run: ``archive`` with an archive, ``catalogue`` and ``alert`` where they have run."""
    optional = {role: liveness[role].age_seconds is not None for role in ("catalogue", "alert")}
    optional["archive"] = has_archive
    return [role for role in ROLES if optional.get(role, True)]


def role_health(role: str, liveness: Liveness) -> RoleHealth:
    """Judge a role. Without a worker, answers become wrong: the service is unhealthy. Else it is degraded."""
    reasons = stalled_reasons(liveness, "runs, but does not work")
    if not liveness.processes:
        age = liveness.age_seconds
        last = "" if age is None else f": the last heartbeat is {age:.0f} s old"
        reasons.insert(0, f"no process does the work of this role{last}")
    impaired: HealthStatus = "unhealthy" if role == "project" and not liveness.processes else "degraded"
    return {
        "status": impaired if reasons else "healthy",
        "reasons": reasons,
        "processes": liveness.processes,
        "age_seconds": liveness.age_seconds,
    }


def stalled_reasons(liveness: Liveness, fault: str) -> list[str]:
    """Return a reason for each process that has the fault, with its last error."""
    return [f"process {process} {fault}: {error or 'a thread hangs'}" for process, error in liveness.stalled.items()]


def worst(statuses: Iterable[HealthStatus]) -> HealthStatus:
    """Return the worst of these statuses."""
    distinct = set(statuses)
    return "unhealthy" if "unhealthy" in distinct else "degraded" if "degraded" in distinct else "healthy"


def server_health(name: str, server: ServerStatus, *, has_replica: bool) -> ServerHealth:
    """Judge a database server.

    Without PostgreSQL, only requests for the past fail: the service is degraded. Without Redis, the service is
    degraded if a replica answers scans, and unhealthy otherwise. A Redis that deletes data makes it unhealthy.
    """
    reasons = [*([] if server.up else ["does not answer"]), *server.failures, *server.warnings]
    is_postgres = name != "redis"
    if is_postgres and server.latency_ms is not None and server.latency_ms > MAX_POSTGRES_LATENCY_MS:
        reasons.append(f"takes {server.latency_ms:.0f} ms to answer")
    can_answer = is_postgres or has_replica or server.up
    impaired: HealthStatus = "degraded" if can_answer and not server.failures else "unhealthy"
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


def intake_health(intake: IntakeStatus, liveness: Mapping[str, Liveness]) -> IntakeHealth:
    """Judge the intake.

    Dead letters alone are the producer's fault. The intake is degraded if a way is not heard, or if dead letters had to
    be deleted.
    """
    dropped = intake.dead_letters_dropped
    reasons = [f"{dropped} dead letters were deleted because the store was full"] if dropped else []
    reasons += [reason for way in WAYS for reason in _reasons_not_heard(way, liveness[way])]
    return {
        "status": "degraded" if reasons else "healthy",
        "reasons": reasons,
        "pubsub": _way_health("pubsub", intake, liveness),
        "stream": _way_health("stream", intake, liveness),
        "http": _way_health("http", intake, liveness),
        "gaps": [_gap_document(gap) for gap in intake.gaps],
        "counts": dict(intake.counts),
        "dead_letters": intake.dead_letters,
        "dead_letters_dropped": dropped,
    }


def _gap_document(gap: Gap) -> GapDocument:
    return {
        "way": gap.way,
        "recorder": gap.recorder,
        "began_at": gap.began_at,
        "ended_at": gap.ended_at,
        "reason": gap.reason,
        "others": gap.others,
    }


def _way_health(way: str, intake: IntakeStatus, liveness: Mapping[str, Liveness]) -> WayHealth:
    hearing = liveness[way]
    gaps = intake.counts.get(f"{way}.gaps", 0)
    return {"heard": hearing.processes > 0, "age_seconds": hearing.age_seconds, "gaps": gaps}


def _reasons_not_heard(way: str, liveness: Liveness) -> list[str]:
    reasons = stalled_reasons(liveness, f"does not hear {way}")
    if not liveness.processes:
        reasons.insert(0, f"no process hears {way}")
    return reasons


def archive_health(archive: ArchiveStatus | None) -> ArchiveHealth | None:
    """Judge the archive. It is degraded if it lags or makes no progress."""
    if archive is None:
        return None
    reasons = [f"the archiving of {log.log} is blocked: {log.error}" for log in archive.logs if log.error]
    reasons += [
        f"the oldest event of {log.log} that is not archived yet is {log.lag_seconds:.0f} s old"
        for log in archive.logs
        if log.lag_seconds > MAX_ARCHIVE_LAG_SECONDS
    ]
    return {
        "status": "degraded" if reasons else "healthy",
        "reasons": reasons,
        "logs": {
            log.log: ArchivedLogHealth(
                position=log.position, lag_events=log.lag_events, lag_seconds=log.lag_seconds, error=log.error
            )
            for log in archive.logs
        },
    }


def verification_health(archive: ArchiveStatus | None) -> VerificationHealth | None:
    """Judge the last verification. The service is degraded if an event or a row of a history does not match."""
    if archive is None or archive.verification is None:
        return None
    verification = archive.verification
    reasons = [
        f"event {violation['position']} of {verified['log']} does not match the hash chain: it is {violation['kind']}"
        for verified in verification["logs"]
        if (violation := verified["misfit"])
    ]
    reasons += [
        f"the row {difference['key']} of {verified['history']} does not follow from the events: it is "
        f"{difference['kind']}. `tickview audit rebuild {verified['history']}` folds the history again"
        for verified in verification["histories"]
        if (difference := verified["misfit"])
    ]
    reasons += [f"{source['origin']}: {source['misfit']}" for source in verification["heads"] if source["misfit"]]
    return {
        "status": "healthy" if verification["ok"] else "degraded",
        "reasons": reasons,
        "ok": verification["ok"],
        "events": verification["events"],
        "finished_at": verification["finished_at"],
    }
