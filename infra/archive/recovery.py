"""Opening of a log: the log is compared with its archive, lost events are restored, and the log accepts appends again.

A server that comes back, or a replica that takes over, may have fewer events than the archive and the read models. The
log refuses appends until it has been opened (``infra/redis/functions/restore.lua``), so that no position is used twice.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

import structlog
from psycopg import Connection

from domain.codec import encode, topic_of
from domain.events import OWN_IDS, PositionLost
from domain.log import LogEntry
from domain.partitions import Partitions
from domain.streams import USERS_LOG, is_market_log, log_stream
from infra.archive.partitions import merge_archived
from infra.archive.row_format import parse_row, received_rows
from infra.log.entries import read_untrimmed
from infra.log.errors import LogDivergedError, LogNotOpenError
from infra.log.handle import LogHandle
from infra.log.maintenance import EventToRestore, LogState, log_state, open_without_archive, restore, trim
from infra.log.partitions import read_partitions, store_partitions
from infra.postgres.database import Database
from infra.postgres.statements import load_statements
from infra.read_models.checkpoints import fence_log, request_rebuilds
from infra.redis.cluster import run_on_key_node
from infra.redis.connections import RedisClient
from infra.user_keys.archived_keys import restore_keys
from infra.user_keys.key_store import UserKeys

logger = structlog.get_logger()

RESTORE_BATCH = 500
"""Highest number of events that the server restores in one step."""

_statements = load_statements(__package__)
_FENCE_ARCHIVER = _statements["fence_archiver"]
_LOCK_LOG_OPENING = _statements["lock_log_opening"]
_SELECT_EVENT_ID = _statements["select_event_id"]
_INSERT_LOSS = _statements["insert_loss"]
_COPY_REMEMBERED_EVENTS = _statements["copy_remembered_events"]
_COPY_LAST_EVENTS = _statements["copy_last_events"]


class ArchivedState(NamedTuple):
    """The state of a log according to the archive."""

    id: str
    epoch: int
    position: int
    """The last archived position."""


def open_log(database: Database, client: RedisClient, log: LogHandle, *, restore_limit: int, partitions: int) -> None:
    """Compare a log with the archive and the read models, restore lost events, and open the log.

    Several processes may open a log at the same time.

    Args:
        database: The archive.
        client: The Redis server that holds the read models.
        log: The log.
        restore_limit: Highest number of lost events that the log gets back in full. Readers find the events before
            them in the archive.
        partitions: The configured number of partitions of the market log. It counts if Redis has no number.

    Raises:
        LogDivergedError: The log and the archive hold different events, or the number of partitions differs.
        ArchiveUnavailableError: The archive cannot be reached.
        LogNotOpenError: Another process changed the log at the same time. Another attempt may succeed.
    """
    state = log_state(log)
    if state.opened:
        return
    with database.connection() as connection:
        row = connection.execute(_FENCE_ARCHIVER, [log.name]).fetchone()
        archived = ArchivedState(*row) if row else None
        if is_market_log(log.name):
            _check_partitions(connection, client, partitions)
    if archived is None:
        if state.archived:
            raise unknown_log_error(log.name)
        fence_log(client, log.name)
        open_without_archive(log)
        return
    with database.connection() as connection:
        # The second of two processes finds the log open, and does not record the loss again.
        connection.execute(_LOCK_LOG_OPENING, [f"open {log.name}"])
        state = log_state(log)
        if state.opened:
            return
        _check_same_history(connection, log, state, archived)
        _restore(connection, client, log, state, archived, restore_limit)


def unknown_log_error(log: str) -> LogDivergedError:
    """Return the error for a log that has an archive which is not in this database."""
    return LogDivergedError(
        f"Log {log} has an archive, but this PostgreSQL database does not know the log. Is it the right database? "
        "docs/archive.md says how to begin a new archive where the former is lost."
    )


def different_log_error(log: str, log_id: str | None, archived_id: str) -> LogDivergedError:
    """Return the error for a log that has the name of an archived log but another id."""
    return LogDivergedError(
        f"Log {log} in Redis has the id {log_id}, but the archive has another log of that name with the id "
        f"{archived_id}: is this the right Redis, and the right PostgreSQL?"
    )


def _check_partitions(connection: Connection, client: RedisClient, configured: int) -> None:
    """Bring the numbers of partitions in Redis and in the archive to the same state. Either can have lost a raise."""
    known = read_partitions(client) or Partitions.of(configured)
    merged = merge_archived(connection, known)
    if merged != known:
        store_partitions(client, merged)
        logger.warning("number of partitions restored from the archive", found=str(known), restored=str(merged))


def _check_same_history(connection: Connection, log: LogHandle, state: LogState, archived: ArchivedState) -> None:
    """Compare the ids of log and archive, and the event at the last position that both have."""
    if state.id not in (None, archived.id):
        raise different_log_error(log.name, state.id, archived.id)
    position = min(state.position, archived.position)
    if not position or state.first is None or position < state.first:
        return
    [entry] = read_untrimmed(log, position - 1, 1)
    row = connection.execute(_SELECT_EVENT_ID, [log.name, position]).fetchone()
    if row and row[0] != entry.event_id:
        raise LogDivergedError(
            f"At position {position}, log {log.name} has event {entry.event_id} in Redis, but event {row[0]} in the "
            "archive. An event was appended before the log was compared with the archive."
        )


def _restore(
    connection: Connection,
    client: RedisClient,
    log: LogHandle,
    state: LogState,
    archived: ArchivedState,
    restore_limit: int,
) -> None:
    checkpoints = fence_log(client, log.name)
    restored = max(state.position, archived.position)
    ahead = [checkpoint for checkpoint in checkpoints if checkpoint.position > restored]
    seen = max((checkpoint.position for checkpoint in ahead), default=restored)
    rebuilt = request_rebuilds(client, ahead)
    epoch = max(state.epoch, archived.epoch)
    if seen > state.position:
        epoch += 1
        loss = {"log": log.name, "epoch": epoch, "found": state.position, "restored": restored, "seen": seen}
        connection.execute(_INSERT_LOSS, {**loss, "rebuilt": " ".join(rebuilt)})
        logger.warning("log lost its end", **loss, rebuilt=rebuilt)
    if log.name == USERS_LOG:  # Before the events, because a worker parks an event without a key.
        restore_keys(connection, UserKeys(log))
    for batch in _batches(_archived_events(connection, log, state.position, archived.position, restore_limit)):
        restore(log, batch, identity=archived.id)
    if archived.position - restore_limit > state.position:
        # The log has a gap between the events that survived and the restored events. Readers find the events before the
        # restored ones in the archive.
        while trim(log, upto=state.position, surplus=state.position, oldest=0.0):
            pass
    for batch in _batches(_placeholders(log, restored, seen)):
        restore(log, batch, identity=archived.id)
    result = restore(log, [], identity=archived.id, epoch=epoch, position=seen)
    if not result.opened:
        raise LogNotOpenError(
            f"Log {log.name} was restored up to position {result.position} instead of {seen}. Try again."
        )


def _archived_events(
    connection: Connection, log: LogHandle, after: int, upto: int, restore_limit: int
) -> Iterator[EventToRestore]:
    """Read the archived events behind ``after``, the last ``restore_limit`` of them in full."""
    full_after = max(after, upto - restore_limit)
    # Twice the window of the log, because some time passes until the log is open.
    remembered = datetime.now(UTC).timestamp() - 2 * log.dedupe_window
    values: dict[str, Any] = {"log": log.name, "after": after, "upto": full_after}
    values["remembered"] = datetime.fromtimestamp(remembered, UTC)
    if full_after > after:
        with connection.cursor().copy(_COPY_REMEMBERED_EVENTS, values) as copy:
            yield from (EventToRestore(parse_row(row).entry, store_entry=False) for row in received_rows(copy))
    if upto > full_after:
        with connection.cursor().copy(_COPY_LAST_EVENTS, {"log": log.name, "after": full_after}) as copy:
            yield from (EventToRestore(parse_row(row).entry, store_entry=True) for row in received_rows(copy))


def _placeholders(log: LogHandle, after: int, upto: int) -> Iterator[EventToRestore]:
    """Create a ``PositionLost`` event for every position that read models have seen and no store has any more."""
    stream = log_stream(log.name)
    now = datetime.now(UTC).timestamp()
    versions: Any = run_on_key_node(log.client, log.keys.versions, lambda node: node.hget(log.keys.versions, stream))
    for version, position in enumerate(range(after + 1, upto + 1), int(versions or 0) + 1):
        event = PositionLost(
            event_id=f"{OWN_IDS}lost-{log.name}-{position}", occurred_at=now, source="tickview", log=log.name
        )
        entry = LogEntry(position, stream, version, topic_of(PositionLost), event.event_id, now, encode(event))
        yield EventToRestore(entry, store_entry=True)


def _batches(events: Iterator[EventToRestore]) -> Iterator[list[EventToRestore]]:
    while batch := list(islice(events, RESTORE_BATCH)):
        yield batch
