"""The partitions of the market log: their status, and the raise of their number."""

from typing import NamedTuple

from domain.errors import TickViewError
from domain.partitions import Partitions
from infra.archive.partitions import merge_archived
from infra.log.directory import LogDirectory
from infra.log.maintenance import log_state
from infra.log.partitions import SEAL, parse_partitions
from infra.postgres.database import Database


class RaiseRefusedError(TickViewError):
    """The number of partitions cannot be raised to this number."""


class PartitionStatus(NamedTuple):
    """One partition of the market log."""

    log: str
    position: int
    """The last position."""
    streams: int
    """The number of streams that began in the partition, and stay there."""
    sealed: str | None
    """The number of partitions with which the partition is sealed. None: it has no seal."""


def read_partition_status(logs: LogDirectory) -> list[PartitionStatus]:
    """Read the status of all partitions in one round trip. Raises RedisError."""
    with logs.client.pipeline(transaction=False) as pipeline:
        for log in logs.market.values():
            pipeline.hmget(log.keys.meta, "position", SEAL)
            pipeline.hlen(log.keys.versions)
        replies = pipeline.execute()
    return [
        PartitionStatus(name, int(position or 0), streams, str(parse_partitions(sealed)) if sealed else None)
        for name, (position, sealed), streams in zip(logs.market, replies[::2], replies[1::2], strict=True)
    ]


def check_raise(logs: LogDirectory, database: Database | None, number: int) -> Partitions:
    """Check that the number of partitions can be raised, and return the raised number.

    Args:
        logs: The logs, with the present number of partitions.
        database: The archive, if there is one.
        number: The wanted number. The present number repeats a raise that was interrupted.

    Raises:
        RaiseRefusedError: The number is lower than the present one, or the archive is missing.
        RedisError: Redis cannot be reached.
    """
    present = logs.partitions
    if number < present.number:
        raise RaiseRefusedError(
            f"The market log has {present.number} partitions. Their number cannot be lowered to {number}, because "
            "streams stay in the partition in which they began."
        )
    if database is None and any(log_state(log).archived for log in logs.market.values()):
        raise RaiseRefusedError("The archive must know the number of partitions, too. Set TICKVIEW_POSTGRES_DSN.")
    return present.merged(Partitions(number, present.created))


def raise_partitions(logs: LogDirectory, database: Database | None, partitions: Partitions) -> None:
    """Raise the number of partitions: in the archive, in Redis, and as the seal of each partition, in this order.

    The archive comes first, so that an empty Redis gets the number back before any stream depends on it. A raise that
    was interrupted is finished by a repetition, or by the next recorder that reads the number.

    Args:
        logs: The logs.
        database: The archive, if there is one.
        partitions: The result of ``check_raise``.

    Raises:
        LogDivergedError: The archive is that of another market log.
        ArchiveUnavailableError: The archive cannot be reached. Nothing was changed in Redis.
        RedisError: Redis cannot be reached.
        NotDurableError: A seal is not yet as durable as the options of the log demand.
    """
    if database is not None:
        with database.connection() as connection:
            partitions = merge_archived(connection, partitions)
    logs.raise_partitions(partitions)
