"""Leases and checkpoints of work in PostgreSQL: of the archive and of the histories of read models.

The protocol is that of the read models in Redis. The epoch of a lease grows with every new owner. A commit names the
epoch and the checkpoint at which its batch begins, and changes nothing if one of the two is out of date.
"""

from dataclasses import dataclass

from psycopg import Connection
from psycopg.errors import LockNotAvailable

from domain.errors import TickViewError
from infra.postgres.statements import load_statements

STALLED_SECONDS = 10
"""Seconds of silence after which the server ends a transaction that locks a segment. Without the limit, a process that
stalls in a transaction would hold up all others, whether or not its lease has ended."""

COPY_SECONDS = 30
"""Seconds after which a process that asks for a segment ends a ``COPY`` that waits for its sender. The server regards a
process that stalls in a ``COPY`` as active, and none of its time limits applies."""

LOCK_SECONDS = 15
"""Seconds to wait for a segment that another transaction locks, before stalled transactions are ended."""

_statements = load_statements(__package__)
_LIMIT_WAITING = _statements["limit_waiting"]
_ACQUIRE_LEASE = _statements["acquire_lease"]
_RELEASE_LEASE = _statements["release_lease"]
_ADVANCE_CHECKPOINT = _statements["advance_checkpoint"]
_RECORD_ERROR = _statements["record_error"]


class LeaseLostError(TickViewError):
    """Another owner has the lease on the segment now. Nothing was committed."""


@dataclass
class PostgresLease:
    """The right to commit for a row of ``tickview.segments``, until another owner gets it under a higher epoch.

    ``projections.ports.Lease`` is the same right for a build of a read model in Redis. Work in PostgreSQL has a version
    but no builds, and no parked keys to retry.
    """

    name: str
    """``archive`` or the name of a history."""
    version: int
    log: str
    owner: str
    epoch: int
    checkpoint: int
    """The position of the last event that was processed."""


def limit_waiting(connection: Connection) -> None:
    """Limit how long this transaction holds up others and waits for others.

    Also ends the sessions that stall in a ``COPY``. Every transaction that touches a segment begins with this call,
    because even an attempt to acquire a lease locks the row. A wait beyond the limit raises LockNotAvailable.
    """
    values = {"stalled": f"{STALLED_SECONDS}s", "lock": f"{LOCK_SECONDS}s", "copy": COPY_SECONDS}
    connection.execute(_LIMIT_WAITING, values)


def acquire_lease(
    connection: Connection, name: str, version: int, log: str, owner: str, seconds: float
) -> PostgresLease | None:
    """Acquire or extend the lease on a segment by the clock of the server.

    Returns:
        The lease. None if another owner has the lease, or if another transaction locks the segment; the transaction is
        rolled back in the second case.
    """
    values = {"name": name, "version": version, "log": log, "owner": owner, "seconds": seconds}
    try:
        limit_waiting(connection)
        row = connection.execute(_ACQUIRE_LEASE, values).fetchone()
    except LockNotAvailable:
        connection.rollback()
        return None
    return PostgresLease(name, version, log, owner, *row[:2]) if row else None


def release_lease(connection: Connection, lease: PostgresLease) -> None:
    """Release a lease, so that another owner need not wait for its end."""
    connection.execute(_RELEASE_LEASE, {**lease.__dict__, "stalled": f"{STALLED_SECONDS}s"})


def advance_checkpoint(connection: Connection, lease: PostgresLease, upto: int, recorded_at: float) -> None:
    """Move the checkpoint in the transaction that stores the results of a batch.

    The caller sets ``lease.checkpoint`` after the transaction is committed.

    Args:
        connection: A connection in a transaction.
        lease: The lease under which the batch was processed.
        upto: The position of the last event of the batch.
        recorded_at: The time at which that event was recorded, in epoch seconds.

    Raises:
        LeaseLostError: Another owner has the lease, or the checkpoint has moved.
    """
    values = {**lease.__dict__, "upto": upto, "recorded_at": recorded_at, "stalled": f"{STALLED_SECONDS}s"}
    if connection.execute(_ADVANCE_CHECKPOINT, values).rowcount != 1:
        raise LeaseLostError(
            f"{lease.owner} no longer has the lease on {lease.name} of {lease.log} at position {lease.checkpoint}"
        )


def record_error(connection: Connection, name: str, version: int, log: str, error: str | None) -> None:
    """Record the error that holds up a segment, or None when nothing holds it up. The caller needs no lease.

    The next commit clears the error. Raises LockNotAvailable if another transaction locks the segment.
    """
    limit_waiting(connection)
    connection.execute(_RECORD_ERROR, {"name": name, "version": version, "log": log, "error": error})
