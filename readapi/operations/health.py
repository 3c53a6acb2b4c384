"""``/api/health``, ``/api/patterns/health`` and ``/api/pattern-discovery/health``: is it well, and if not, why not."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Literal

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from projections.queries import PatternQueries, ProducerQueries
from readapi.http.answers import send
from readapi.http.identities import identity_of
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.read_model import ReadModel
from readapi.operations.projections import lag_events, lag_seconds, parked_keys
from readapi.ports.archive import ArchiveStatus
from readapi.ports.errors import UnavailableError
from readapi.ports.operations import IntakeStatus, Operations, ReadModelStatus, ServerStatus
from readapi.ports.read_models import LiveBuild
from readapi.replica.replica import PatternReplica

Status = Literal["healthy", "degraded", "unhealthy"]

LAG_ALLOWED_SECONDS = 10.0
"""A read model that is further behind is degraded."""

ARCHIVE_LAG_ALLOWED_SECONDS = 30.0
"""An archive that is further behind is degraded."""

POSTGRES_SLOW_MS = 250.0
"""A PostgreSQL that takes longer to answer that it is there is degraded."""

PRODUCERS = 20
"""Producers shown, at most."""


class Component(TypedDict):
    """One part; ``reasons`` say why it is not healthy."""

    status: Status
    reasons: list[str]


class ReadModelHealth(Component):
    """A read model; its lag and its parked keys are null while Redis, which knows of them, is away."""

    version: int
    lag_events: int | None
    lag_seconds: float | None
    parked_keys: int | None


class ServerHealth(Component):
    """A server behind us; null where it does not answer."""

    version: str | None
    latency_ms: float | None


class IntakeHealth(Component):
    """What came in: ``counts`` are ``<way>.<what>`` -> how many, since the beginning."""

    counts: dict[str, int]
    dead_letters: int
    dead_letters_dropped: int


class ArchivedLogHealth(TypedDict):
    """How far the archive is with a log: up to ``position``; ``lag_seconds`` is the age of the oldest event behind."""

    position: int
    lag_events: int
    lag_seconds: float
    error: str | None


class ArchiveHealth(Component):
    """The archive; ``verified_at`` is when it was last verified (epoch seconds), null if never."""

    logs: dict[str, ArchivedLogHealth]
    verified_at: float | None


class Components(TypedDict):
    """The parts; read models are empty, intake and archive null while the servers that know of them are away. The
    archive is null, too, where there is none.
    """

    servers: dict[str, ServerHealth]
    read_models: dict[str, ReadModelHealth]
    intake: IntakeHealth | None
    archive: ArchiveHealth | None


class StatusOnly(TypedDict):
    """The service as a whole: as well as its least well part."""

    status: Status


class Health(StatusOnly):
    """The service with its parts."""

    components: Components


class ReplicaHealth(TypedDict):
    """What the process that answers keeps in memory: rows, elapsed ones included, and what they take, about."""

    rows: int
    bytes: int
    bytes_per_row: int


class PatternsHealth(ReadModelHealth):
    """The read model ``patterns``; ``replica`` is null where Redis answers: while it loads, or past its bound."""

    total: int
    source: str
    replica: ReplicaHealth | None
    stale: bool
    age_seconds: int | None


class Producer(TypedDict):
    """What a producer last said of itself; ``reported_at`` is in epoch seconds."""

    source: str
    status: str
    reported_at: float


class DiscoveryHealth(Health):
    """The service, the active patterns and those who announce them; null while their read model is away."""

    patterns: int | None
    producers: list[Producer] | None


class HealthResource(Resource):
    """The service."""

    def __init__(self, patterns: ReadModel[PatternQueries], operations: Operations) -> None:
        self._patterns = patterns
        self._operations = operations

    @operation("Health of the service", scope=None, answers={200: Health | StatusOnly, 503: Health | StatusOnly})
    async def on_get(self, req: Request, resp: Response, _query: Parameters) -> None:
        """200 if it is healthy or degraded, else 503; why is told to those who may read."""
        health = await examine(self._operations, self._patterns)
        told = health if "read" in identity_of(req).scopes else StatusOnly(status=health["status"])
        send(resp, told, _http_status(health["status"]))


class PatternsHealthResource(Resource):
    """The read model ``patterns``."""

    def __init__(self, patterns: ReadModel[PatternQueries], operations: Operations, clock: Callable[[], float]) -> None:
        self.read_model = patterns
        self._operations = operations
        self._clock = clock

    @operation("Health of the read model of the patterns", scope="read", answers={200: PatternsHealth}, reads=True)
    async def on_get(self, _req: Request, resp: Response, _query: Parameters, live: LiveBuild[PatternQueries]) -> None:
        """Its lag, its parked keys and its size."""
        health = _last_known(live)
        if self.read_model.age() is None:
            with suppress(UnavailableError):
                models = {model.name: model for model in await self._operations.read_models()}
                health = read_model_health(models[self.read_model.name])
        counted = await live.queries.statistics(self._clock())
        answer = PatternsHealth(
            **health,
            total=counted.total,
            source=live.queries.source,
            replica=replica_health(live.queries),
            **self.read_model.staleness(),
        )
        send(resp, answer)


class DiscoveryHealthResource(Resource):
    """The service as pattern discovery sees it."""

    def __init__(
        self,
        patterns: ReadModel[PatternQueries],
        producers: ReadModel[ProducerQueries],
        operations: Operations,
        clock: Callable[[], float],
    ) -> None:
        self._patterns = patterns
        self._producers = producers
        self._operations = operations
        self._clock = clock

    @operation("Health of pattern discovery", scope="read", answers={200: DiscoveryHealth, 503: DiscoveryHealth})
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """200 if it is healthy or degraded, else 503."""
        health = await examine(self._operations, self._patterns)
        patterns: int | None = None
        producers: list[Producer] | None = None
        if health["status"] != "unhealthy":
            patterns = (await self._patterns.live.queries.statistics(self._clock())).total
        if health["components"]["intake"] is not None:
            latest = await self._producers.live.queries.latest(PRODUCERS)
            producers = [
                Producer(source=row.source, status=row.status, reported_at=row.reported_at) for row, *_ in latest
            ]
        answer = DiscoveryHealth(**health, patterns=patterns, producers=producers)
        send(resp, answer, _http_status(health["status"]))


async def examine(operations: Operations, patterns: ReadModel[PatternQueries]) -> Health:
    """The health of every part and of the whole."""
    replicated = isinstance(patterns.live.queries, PatternReplica)
    up = await operations.servers()
    servers = {name: server_health(name, status, replicated=replicated) for name, status in up.items()}
    read_models: dict[str, ReadModelHealth] = {}
    intake: IntakeHealth | None = None
    archive: ArchiveHealth | None = None
    if up["redis"].up:
        read_models = {model.name: read_model_health(model) for model in await operations.read_models()}
        intake = intake_health(await operations.intake())
        with suppress(UnavailableError):  # which its server says
            archive = archive_health(await operations.archive())
    components = Components(servers=servers, read_models=read_models, intake=intake, archive=archive)
    parts: list[Component] = [*servers.values(), *read_models.values()]
    parts += [part for part in (intake, archive) if part]
    return Health(status=worst(part["status"] for part in parts), components=components)


def worst(statuses: Iterable[Status]) -> Status:
    """The whole is as well as its least well part."""
    found = set(statuses)
    return "unhealthy" if "unhealthy" in found else "degraded" if "degraded" in found else "healthy"


def server_health(name: str, server: ServerStatus, *, replicated: bool) -> ServerHealth:
    """Without Redis, patterns are answered from the replica, if there is one, and nothing else goes on; without
    ``postgres`` all goes on that does not ask for the past.
    """
    reasons = [] if server.up else ["does not answer"]
    if name == "postgres" and server.latency_ms is not None and server.latency_ms > POSTGRES_SLOW_MS:
        reasons.append(f"takes {server.latency_ms:.0f} ms to answer")
    ill: Status = "degraded" if name == "postgres" or replicated else "unhealthy"
    return {
        "status": ill if reasons else "healthy",
        "reasons": reasons,
        "version": server.version,
        "latency_ms": server.latency_ms,
    }


def read_model_health(model: ReadModelStatus) -> ReadModelHealth:
    """A read model that lags, or has parked keys, is degraded."""
    lag, parked = lag_seconds(model), parked_keys(model)
    reasons = []
    if parked:
        reasons.append(f"{parked} keys are parked: their events could not be folded")
    if lag > LAG_ALLOWED_SECONDS:
        reasons.append(f"the oldest event not folded yet is {lag:.0f} s old")
    return {
        "status": "degraded" if reasons else "healthy",
        "reasons": reasons,
        "version": model.version,
        "lag_events": lag_events(model.segments),
        "lag_seconds": lag,
        "parked_keys": parked,
    }


def _last_known(live: LiveBuild[PatternQueries]) -> ReadModelHealth:
    """The read model while Redis is away."""
    return {
        "status": "degraded",
        "reasons": ["Redis is away: what was known before is shown"],
        "version": live.build.version,
        "lag_events": None,
        "lag_seconds": None,
        "parked_keys": None,
    }


def replica_health(queries: PatternQueries) -> ReplicaHealth | None:
    """The size of the replica, if it is one that answers."""
    if not isinstance(queries, PatternReplica):
        return None
    rows, size = len(queries), queries.nbytes
    return {"rows": rows, "bytes": size, "bytes_per_row": size // rows if rows else 0}


def intake_health(intake: IntakeStatus) -> IntakeHealth:
    """Dead letters are for the producer to mend; an intake that had to drop some is degraded."""
    dropped = intake.dead_letters_dropped
    return {
        "status": "degraded" if dropped else "healthy",
        "reasons": [f"{dropped} dead letters were dropped for want of room"] if dropped else [],
        "counts": dict(intake.counts),
        "dead_letters": intake.dead_letters,
        "dead_letters_dropped": dropped,
    }


def archive_health(archive: ArchiveStatus | None) -> ArchiveHealth | None:
    """An archive that lags, is held up, or was found not to fit is degraded."""
    if archive is None:
        return None
    reasons = [f"{one.log} is held up: {one.error}" for one in archive.logs if one.error]
    reasons += [
        f"the oldest event of {one.log} not archived yet is {one.lag_seconds:.0f} s old"
        for one in archive.logs
        if one.lag_seconds > ARCHIVE_LAG_ALLOWED_SECONDS
    ]
    verification = archive.verification
    for log in verification["logs"] if verification else ():
        if misfit := log["misfit"]:
            reasons.append(f"event {misfit['position']} of {log['log']} does not fit its chain: it is {misfit['kind']}")
    return {
        "status": "degraded" if reasons else "healthy",
        "reasons": reasons,
        "logs": {
            one.log: ArchivedLogHealth(
                position=one.position, lag_events=one.lag_events, lag_seconds=one.lag_seconds, error=one.error
            )
            for one in archive.logs
        },
        "verified_at": verification["finished_at"] if verification else None,
    }


def _http_status(status: Status) -> int:
    return 503 if status == "unhealthy" else 200
