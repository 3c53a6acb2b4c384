"""Leases, fences and checkpoints of work in PostgreSQL: what the archive and ``pattern_history`` have done of each log.

As in Redis: a lease has an epoch that grows with every new owner; a commit names the epoch and the position at which it
begins, and changes nothing where either is no longer so.
"""

from dataclasses import dataclass

from psycopg import Connection
from psycopg.errors import LockNotAvailable

from domain.errors import TickViewError

STALLED_SECONDS = 10
"""The server ends a transaction that holds a segment and of which nothing has been heard for so long: else a process
that stalls in one would hold up all others, lease or not."""

COPY_SECONDS = 30
"""A ``COPY`` that lasts so long and waits for its sender is ended by whoever asks for the segment. To the server, a
process that stalls in one is at work, and neither this nor any other limit of time ends it while it waits."""

LOCK_SECONDS = 15
"""How long to wait for a segment that somebody holds, before it is looked again what has become of them."""


class LeaseLostError(TickViewError):
    """The segment belongs to somebody else now; nothing was committed."""


@dataclass
class PostgresLease:
    """The right to commit for a segment, until it is given to another owner under a higher epoch."""

    name: str
    version: int
    log: str
    owner: str
    epoch: int
    checkpoint: int
    """The checkpoint: of the last event that has been dealt with."""


_BOUND = r"""
SELECT
    set_config('idle_in_transaction_session_timeout', %(stalled)s, true),
    set_config('lock_timeout', %(lock)s, true),
(
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND query ~ '^\s*COPY tickview\.'
        AND state = 'active' AND wait_event = 'ClientRead' AND query_start < now() - %(copy)s * interval '1 second'
)
"""

_TAKE = """
INSERT INTO tickview.segments AS segment (name, version, log, owner, epoch, leased_until)
VALUES (%(name)s, %(version)s, %(log)s, %(owner)s, 1, now() + %(seconds)s * interval '1 second')
ON CONFLICT (name, version, log) DO UPDATE SET
    epoch = segment.epoch + CASE
        WHEN segment.owner = excluded.owner AND segment.leased_until > now() THEN 0 ELSE 1 END,
    owner = excluded.owner,
    leased_until = excluded.leased_until
WHERE segment.owner = excluded.owner OR segment.leased_until <= now()
RETURNING epoch, position
"""

_RELEASE = """
UPDATE tickview.segments SET leased_until = '-infinity'
WHERE name = %s AND version = %s AND log = %s AND owner = %s AND epoch = %s
RETURNING set_config('idle_in_transaction_session_timeout', %s, true)
"""

_ADVANCE = """
UPDATE tickview.segments SET position = %(upto)s, recorded_at = to_timestamp(%(recorded_at)s), error = NULL
WHERE name = %(name)s AND version = %(version)s AND log = %(log)s AND epoch = %(epoch)s AND position = %(checkpoint)s
RETURNING set_config('idle_in_transaction_session_timeout', %(stalled)s, true)
"""

_NOTE = """
INSERT INTO tickview.segments (name, version, log, error) VALUES (%s, %s, %s, %s)
ON CONFLICT (name, version, log) DO UPDATE SET error = excluded.error
"""


def limit_waiting(connection: Connection) -> None:
    """See that this transaction neither holds up others for long nor is held up; those that stall in a COPY are ended.

    First of all: to find a segment leased to another locks it, too. Whatever waits longer raises LockNotAvailable.
    """
    values = {"stalled": f"{STALLED_SECONDS}s", "lock": f"{LOCK_SECONDS}s", "copy": COPY_SECONDS}
    connection.execute(_BOUND, values)


def acquire_lease(
    connection: Connection, name: str, version: int, log: str, owner: str, seconds: float
) -> PostgresLease | None:
    """Take or prolong the lease on a segment by the server's clock.

    None where another owner has it, or holds it; then the transaction is rolled back.
    """
    values = {"name": name, "version": version, "log": log, "owner": owner, "seconds": seconds}
    try:
        limit_waiting(connection)
        taken = connection.execute(_TAKE, values).fetchone()
    except LockNotAvailable:
        connection.rollback()
        return None
    return PostgresLease(name, version, log, owner, *taken[:2]) if taken else None


def release_lease(connection: Connection, lease: PostgresLease) -> None:
    """Give the lease back, so that another owner need not wait for its end."""
    values = [lease.name, lease.version, lease.log, lease.owner, lease.epoch, f"{STALLED_SECONDS}s"]
    connection.execute(_RELEASE, values)


def advance_checkpoint(connection: Connection, lease: PostgresLease, upto: int, recorded_at: float) -> None:
    """Move the checkpoint to the event at ``upto``, in the transaction of what has been done of it.

    ``recorded_at`` is that event's, in epoch seconds. The caller sets ``lease.checkpoint`` once that is committed.
    Raises LeaseLostError.
    """
    values = {**lease.__dict__, "upto": upto, "recorded_at": recorded_at, "stalled": f"{STALLED_SECONDS}s"}
    if connection.execute(_ADVANCE, values).rowcount != 1:
        raise LeaseLostError(f"{lease.name} of {lease.log} is no longer leased to {lease.owner} at {lease.checkpoint}")


def record_error(connection: Connection, name: str, version: int, log: str, error: str | None) -> None:
    """Say what holds the segment up, or that nothing does; the next commit says so too. That needs no lease.

    Raises LockNotAvailable where somebody holds it.
    """
    limit_waiting(connection)
    connection.execute(_NOTE, [name, version, log, error])
