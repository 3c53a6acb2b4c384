"""Maintenance of a whole log: its state, the restoration of lost events, the opening for appends, and the trim."""

from collections.abc import Sequence
from secrets import token_urlsafe
from typing import Any, NamedTuple

from domain.log import LogEntry
from domain.streams import is_market_log
from infra.log.errors import LogNotOpenError
from infra.log.handle import LogHandle
from infra.log.partitions import seal_if_raised
from infra.redis.cluster import run_on_key_node
from infra.redis.functions import Argument

TRIM_BATCH = 500
"""Highest number of events per trim step. It bounds the time for which one step blocks the server."""


class LogState(NamedTuple):
    """The identity, the range and the status of a log."""

    id: str | None
    """Random id of the log; None before the log is first opened."""
    epoch: int
    """0 before the first opening, 1 after it. Each restoration of a lost end adds 1."""
    position: int
    """Last position; 0 when the log is empty."""
    first: int | None
    """First position that is not trimmed; None when the log is empty."""
    archived: bool
    """Whether the log has an archive, which may hold more events than the log."""
    opened: bool
    """Whether the server accepts appends: the log was opened since the server was started or became the primary."""


class EventToRestore(NamedTuple):
    """An event that a log has lost."""

    entry: LogEntry
    store_entry: bool
    """Whether to store the event itself. If False, the log stores only its version and its id, as for a trimmed
    event."""


class RestoreResult(NamedTuple):
    """The outcome of a restoration."""

    opened: bool
    position: int
    """Last position of the log."""


def log_state(log: LogHandle) -> LogState:
    """Read the state of a log in one round trip."""

    def read(node: Any) -> list[Any]:
        with node.pipeline(transaction=True) as pipeline:
            pipeline.hmget(log.keys.meta, ["id", "epoch", "position", "archived", "reign"])
            pipeline.xrange(log.keys.log, count=1)
            pipeline.info("replication")
            return list(pipeline.execute())

    meta, first, replication = run_on_key_node(log.client, log.keys.meta, read)
    identity, epoch, position, archived, opened_incarnation = meta
    return LogState(
        id=identity.decode() if identity else None,
        epoch=int(epoch or 0),
        position=int(position or 0),
        first=int(first[0][0][:-2]) if first else None,
        archived=archived is not None,
        opened=opened_incarnation is not None and opened_incarnation.decode() == replication["master_replid"],
    )


def open_without_archive(log: LogHandle) -> None:
    """Open a log that has no archive, with the events that it holds. A log that is open stays unchanged.

    Raises:
        LogNotOpenError: The log has an archive, so that only a comparison with the archive may open it.
    """
    state = log_state(log)
    if state.opened:
        # An archiver may have opened the log, and begun its archive, since the caller looked.
        return
    if state.archived:
        raise LogNotOpenError(
            f"The server of log {log.name} was restarted or replaced. The archive may hold events that the log has "
            "lost, and this process has no connection to the archive: set TICKVIEW_POSTGRES_DSN"
        )
    restore(log, [], identity=state.id or token_urlsafe(12), epoch=max(state.epoch, 1), position=state.position)


def restore(
    log: LogHandle, events: Sequence[EventToRestore], *, identity: str, epoch: int | None = None, position: int = 0
) -> RestoreResult:
    """Restore lost events of a log, then open the log if ``epoch`` is given. A log that is open stays unchanged.

    Args:
        log: The log.
        events: The events in order of position. The server skips the events that the log has.
        identity: The id that the log gets if it has none.
        epoch: The epoch under which to open the log; None leaves the log closed.
        position: The position that the log must have reached before it is opened.
    """
    if epoch is not None and is_market_log(log.name):
        seal_if_raised(log)
    streams = {stream: number for number, stream in enumerate(dict.fromkeys(event.entry.stream for event in events), 1)}
    keys = [log.keys.log, log.keys.meta, log.keys.versions, log.keys.trimmed, *map(log.keys.stream, streams)]
    arguments: list[Argument] = [log.keys.ids_prefix, log.dedupe_window, identity]
    arguments += (epoch or 0, position, len(streams), *streams)
    for entry, store_entry in events:
        topic, state = (entry.topic, entry.state) if store_entry else ("", b"")
        arguments += (streams[entry.stream], entry.position, entry.version, topic)
        arguments += (entry.event_id, round(entry.recorded_at * 1000), state, entry.origin)
    outcome, last = log.functions.call("restore", keys, arguments, despite_oom=log.records_when_full)
    return RestoreResult(outcome == b"opened", last)


class ArchivedHead(NamedTuple):
    """The position and the hash of the last event that an archiver has archived, as Redis keeps them."""

    position: int
    hash: bytes


def mark_archived(log: LogHandle) -> None:
    """Record that the log has an archive. From then on only a comparison with the archive opens the log."""
    log.functions.call("mark_archived", [log.keys.meta], [])


def keep_archived_head(log: LogHandle, head: ArchivedHead) -> None:
    """Keep the head of the log's archive in Redis, which also records that the log has an archive."""
    value = f"{head.position} {head.hash.hex()}"
    run_on_key_node(log.client, log.keys.meta, lambda node: node.hset(log.keys.meta, "archived", value))


def kept_archived_head(log: LogHandle) -> ArchivedHead | None:
    """Return the head of the log's archive that Redis keeps, or None if it keeps none."""
    value: Any = run_on_key_node(log.client, log.keys.meta, lambda node: node.hget(log.keys.meta, "archived"))
    position, _, digits = (value or b"").decode().partition(" ")
    return ArchivedHead(int(position), bytes.fromhex(digits)) if digits else None


def trim(log: LogHandle, *, upto: int, surplus: int, oldest: float) -> int:
    """Trim the oldest events of a log, at most ``TRIM_BATCH``. The last event of the log always stays.

    Args:
        log: The log.
        upto: Position up to which events may be trimmed.
        surplus: Position up to which events are trimmed regardless of their age.
        oldest: Time in epoch seconds. Events recorded earlier are trimmed, up to position ``upto``.

    Returns:
        The number of trimmed events.
    """
    arguments: list[Argument] = [log.keys.streams_prefix, upto, surplus, round(oldest * 1000), TRIM_BATCH]
    trimmed: int = log.functions.call("trim", [log.keys.log, log.keys.trimmed], arguments)
    return trimmed
