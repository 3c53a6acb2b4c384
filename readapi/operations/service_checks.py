"""Checks of the running service by an API process: its parts are read from the stores, and then judged."""

from dataclasses import replace
from typing import Any

from projections.queries import RowQueries
from readapi.http.read_model import ReadModel
from readapi.operations.health_checks import ServiceState, judge_service
from readapi.operations.health_documents import ReplicaHealth, ServiceHealth
from readapi.ports.errors import UnavailableError
from readapi.ports.operations import Operations
from readapi.replica.replica import Replica


async def check_service(operations: Operations, patterns: ReadModel[RowQueries[Any]]) -> ServiceHealth:
    """Check every part of the service."""
    return judge_service(await read_service_state(operations), has_replica=has_replica(patterns))


def has_replica(read_model: ReadModel[RowQueries[Any]]) -> bool:
    """Return whether a replica answers the queries to a read model."""
    return isinstance(read_model.live.queries, Replica)


async def read_service_state(operations: Operations) -> ServiceState:
    """Read the state of every part that can be reached."""
    servers = await operations.servers()
    if not servers["redis"].up:
        return ServiceState(servers)
    try:
        archive = await operations.archive()
    except UnavailableError:  # The health of the server ``postgres`` reports this failure.
        archive = None
    try:
        liveness, intake = await operations.liveness(), await operations.intake()
        read_models, alerts = await operations.read_models(), await operations.alerts()
        return ServiceState(servers, liveness, intake, read_models, archive, alerts)
    except UnavailableError as error:
        redis = replace(servers["redis"], warnings=[*servers["redis"].warnings, f"cannot be asked: {error}"])
        return ServiceState({**servers, "redis": redis}, archive=archive)


def replica_health(queries: RowQueries[Any]) -> ReplicaHealth | None:
    """Return the size of the replica, or None if the queries are not answered from a replica."""
    if not isinstance(queries, Replica):
        return None
    rows, size = len(queries), queries.nbytes
    return {"rows": rows, "bytes": size, "bytes_per_row": size // rows if rows else 0}
