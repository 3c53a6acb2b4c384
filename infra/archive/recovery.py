"""A log that lost its end: noticed before a position is given out twice, and put right.

A server that comes back, or a replica that takes over, may know less than the archive and the read models do. Until
its log has been compared with them and opened, nothing is appended (``infra/redis/functions/restore.lua``).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
from psycopg import Connection
from redis import Redis

from domain.codec import encode, topic_of
from domain.events import PositionLost
from domain.log import LogEntry
from domain.streams import MARKET_LOG, is_market_log, log_stream
from infra.archive.row_format import parse_row, received_rows
from infra.log.entries import read_untrimmed
from infra.log.errors import LogDivergedError, LogNotOpenError
from infra.log.handle import LogHandle
from infra.log.maintenance import EventToRestore, LogState, log_state, open_without_archive, restore
from infra.postgres.database import Database
from infra.read_models.checkpoints import fence_log, request_rebuilds
from infra.redis.cluster import run_on_key_node

logger = structlog.get_logger()

PUT_BACK_AT_ONCE = 500
"""Events that the server puts back in one step."""


UNKNOWN_ARCHIVE = (
    "log {log} has an archive, and this PostgreSQL does not know the log: is it the right one? "
    "docs/archive.md says how to begin a new archive where the former is lost"
)


class Known(NamedTuple):
    """What the archive knows of a log."""

    id: str
    epoch: int
    position: int


# Whoever archives at this moment ends first, and whoever has read events but not archived them yet is refused.
_FENCE = """
UPDATE tickview.segments AS segment SET epoch = segment.epoch + 1, leased_until = '-infinity'
FROM tickview.logs WHERE logs.log = segment.log AND segment.name = 'archive' AND segment.log = %s
RETURNING logs.id, logs.epoch, segment.position
"""

_PARTITIONS = """
WITH first AS (INSERT INTO tickview.families VALUES (%(family)s, %(partitions)s) ON CONFLICT DO NOTHING)
SELECT partitions FROM tickview.families WHERE family = %(family)s
"""

_NOTE = """
WITH noted AS (UPDATE tickview.logs SET epoch = %(epoch)s WHERE log = %(log)s)
INSERT INTO tickview.losses (log, epoch, found, restored, seen, rebuilt)
VALUES (%(log)s, %(epoch)s, %(found)s, %(restored)s, %(seen)s, %(rebuilt)s) ON CONFLICT (log, epoch) DO NOTHING
"""

_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"

_EVENT_AT = "SELECT event_id FROM tickview.events WHERE log = %s AND position = %s"

# The last event of each stream, for its version, and all whose ids must still be remembered.
_REMEMBERED = """
COPY (
    SELECT * FROM tickview.events WHERE log = %(log)s AND position > %(after)s AND position <= %(upto)s AND (
        recorded_at >= %(remembered)s
        OR (log, position) IN (
            SELECT DISTINCT ON (stream) log, position FROM tickview.events
            WHERE log = %(log)s AND position > %(after)s AND position <= %(upto)s ORDER BY stream, version DESC
        )
    ) ORDER BY position
) TO STDOUT (FORMAT binary)
"""

_WHOLE = """
COPY (
    SELECT * FROM tickview.events WHERE log = %(log)s AND position > %(after)s ORDER BY position
) TO STDOUT (FORMAT binary)
"""


def open_log(database: Database, client: Redis, log: LogHandle, *, keep: int, partitions: int) -> None:
    """Compare a log with the archive and the read models, put back what it has lost, and open it.

    Of a long loss, the last ``keep`` events are put back; those before stay in the archive, where readers find them.
    ``client`` is of the server that has the read models, ``partitions`` how many the market log has. Several may do
    this at once. Raises LogDivergedError where archive and log tell different histories, and ArchiveUnavailableError.
    """
    state = log_state(log)
    if state.opened:
        return
    with database.connection() as connection:
        found = connection.execute(_FENCE, [log.name]).fetchone()
        known = Known(*found) if found else None
        if is_market_log(log.name):
            _check_partitions(connection, partitions)
    if known is None:
        if state.archived:
            raise LogDivergedError(UNKNOWN_ARCHIVE.format(log=log.name))
        fence_log(client, log.name)
        open_without_archive(log)
        return
    with database.connection() as connection:
        # One after the other: who comes late finds the log open, and notes no loss that is made good already.
        connection.execute(_ONE_AT_A_TIME, [f"open {log.name}"])
        state = log_state(log)
        if state.opened:
            return
        _check_same_history(connection, log, state, known)
        _restore(connection, client, log, state, known, keep)


def _check_partitions(connection: Connection, partitions: int) -> None:
    known = connection.execute(_PARTITIONS, {"family": MARKET_LOG, "partitions": partitions}).fetchone()
    if known and known[0] != partitions:
        raise LogDivergedError(
            f"the archive has {known[0]} partitions of the market log, which cannot change: "
            f"set TICKVIEW_PARTITIONS={known[0]} instead of {partitions}"
        )


def _check_same_history(connection: Connection, log: LogHandle, state: LogState, known: Known) -> None:
    if state.id not in (None, known.id):
        raise LogDivergedError(
            f"log {log.name} in Redis is {state.id}, the archive has another of that name, {known.id}: "
            "is this the right Redis, and the right PostgreSQL?"
        )
    position = min(state.position, known.position)
    if not position or state.first is None or position < state.first:
        return
    [entry] = read_untrimmed(log, position - 1, 1)
    archived = connection.execute(_EVENT_AT, [log.name, position]).fetchone()
    if archived and archived[0] != entry.event_id:
        raise LogDivergedError(
            f"at {position}, log {log.name} has event {entry.event_id} in Redis and {archived[0]} in the archive: "
            "something was appended without asking the archive"
        )


def _restore(connection: Connection, client: Redis, log: LogHandle, state: LogState, known: Known, keep: int) -> None:
    checkpoints = fence_log(client, log.name)
    restored = max(state.position, known.position)
    ahead = [one for one in checkpoints if one.position > restored]
    seen = max((one.position for one in ahead), default=restored)
    rebuilt = request_rebuilds(client, ahead)
    epoch = max(state.epoch, known.epoch)
    if seen > state.position:
        epoch += 1
        loss = {"log": log.name, "epoch": epoch, "found": state.position, "restored": restored, "seen": seen}
        connection.execute(_NOTE, {**loss, "rebuilt": " ".join(rebuilt)})
        logger.warning("log lost its end", **loss, rebuilt=rebuilt)
    for part in _in_parts(_archived(connection, log, state.position, known.position, keep)):
        restore(log, part, identity=known.id)
    for part in _in_parts(_lost(log, restored, seen)):
        restore(log, part, identity=known.id)
    reached = restore(log, [], identity=known.id, epoch=epoch, position=seen)
    if not reached.opened:
        raise LogNotOpenError(f"log {log.name} was restored up to {reached.position} instead of {seen}: try again")


def _archived(connection: Connection, log: LogHandle, after: int, upto: int, keep: int) -> Iterator[EventToRestore]:
    """What the archive has behind ``after``: the last ``keep`` events whole."""
    whole_after = max(after, upto - keep)
    remembered = datetime.now(UTC).timestamp() - 2 * log.dedupe_window
    values: dict[str, Any] = {"log": log.name, "after": after, "upto": whole_after}
    values["remembered"] = datetime.fromtimestamp(remembered, UTC)
    if whole_after > after:
        with connection.cursor().copy(_REMEMBERED, values) as copy:
            yield from (EventToRestore(parse_row(row).entry, store_entry=False) for row in received_rows(copy))
    if upto > whole_after:
        with connection.cursor().copy(_WHOLE, {"log": log.name, "after": whole_after}) as copy:
            yield from (EventToRestore(parse_row(row).entry, store_entry=True) for row in received_rows(copy))


def _lost(log: LogHandle, after: int, upto: int) -> Iterator[EventToRestore]:
    """An event in the place of each that nobody has kept."""
    stream = log_stream(log.name)
    now = datetime.now(UTC).timestamp()
    versions: Any = run_on_key_node(log.client, log.keys.versions, lambda node: node.hget(log.keys.versions, stream))
    for version, position in enumerate(range(after + 1, upto + 1), int(versions or 0) + 1):
        event = PositionLost(event_id=f"lost-{log.name}-{position}", occurred_at=now, source="tickview", log=log.name)
        entry = LogEntry(position, stream, version, topic_of(PositionLost), event.event_id, now, encode(event))
        yield EventToRestore(entry, store_entry=True)


def _in_parts(events: Iterator[EventToRestore]) -> Iterator[list[EventToRestore]]:
    part: list[EventToRestore] = []
    for event in events:
        part.append(event)
        if len(part) == PUT_BACK_AT_ONCE:
            yield part
            part = []
    if part:
        yield part
