"""What is done to a log as a whole: see how it stands, put back what it has lost and open it, trim it."""

from collections.abc import Sequence
from secrets import token_urlsafe
from typing import Any, NamedTuple

from domain.log import LogEntry
from infra.log.errors import LogNotOpenError
from infra.log.handle import LogHandle
from infra.redis.cluster import run_on_key_node

TRIM_BATCH = 500
"""Events that the server takes out in one step, so that nobody else waits long for it."""


class LogState(NamedTuple):
    """How a log stands."""

    id: str | None
    """Given when it is first opened; None before."""
    epoch: int
    """How often its end has been put back, and one; 0 before it is first opened."""
    position: int
    """The last, 0 when it is empty."""
    first: int | None
    """The first position that has not been trimmed; None when it is empty."""
    archived: bool
    """Whether there is an archive that may know more of it."""
    opened: bool
    """Whether this server may append: it has been compared with the archive since it was started or took over."""


class EventToRestore(NamedTuple):
    """An event to put back."""

    entry: LogEntry
    store_entry: bool
    """False: only its version and its id are remembered; the archive alone has it."""


class RestoreResult(NamedTuple):
    """What became of a restoration."""

    opened: bool
    position: int
    """The last of the log."""


def log_state(log: LogHandle) -> LogState:
    """How the log stands, in one round trip."""

    def ask(node: Any) -> list[Any]:
        with node.pipeline(transaction=True) as pipeline:
            pipeline.hmget(log.keys.meta, ["id", "epoch", "position", "archived", "reign"])
            pipeline.xrange(log.keys.log, count=1)
            pipeline.info("replication")
            return list(pipeline.execute())

    (identity, epoch, position, archived, reign), first, replication = run_on_key_node(log.client, log.keys.meta, ask)
    return LogState(
        id=identity.decode() if identity else None,
        epoch=int(epoch or 0),
        position=int(position or 0),
        first=int(first[0][0][:-2]) if first else None,
        archived=archived is not None,
        opened=reign is not None and reign.decode() == replication["master_replid"],
    )


def open_without_archive(log: LogHandle) -> None:
    """Open a log that nobody has seen more of than it holds. Raises LogNotOpenError where that is not known."""
    state = log_state(log)
    if state.archived:
        raise LogNotOpenError(
            f"the server of log {log.name} was started or replaced, and the archive, which may know more than it does, "
            "cannot be asked: set TICKVIEW_POSTGRES_DSN"
        )
    restore(log, [], identity=state.id or token_urlsafe(12), epoch=max(state.epoch, 1), position=state.position)


def restore(
    log: LogHandle, events: Sequence[EventToRestore], *, identity: str, epoch: int | None = None, position: int = 0
) -> RestoreResult:
    """Put back events, in order of position, that the log does not have; then open it, if its ``epoch`` is given.

    It is not opened before it has reached ``position``. ``identity`` is for a log that has none. Nothing is done to a
    log that is open.
    """
    streams = {stream: number for number, stream in enumerate(dict.fromkeys(one.entry.stream for one in events), 1)}
    keys = [log.keys.log, log.keys.meta, log.keys.versions, log.keys.trimmed, *map(log.keys.stream, streams)]
    arguments: list[str | bytes | int | float] = [log.keys.ids_prefix, log.dedupe_window, identity]
    arguments += (epoch or 0, position, len(streams), *streams)
    for entry, store_entry in events:
        arguments += (streams[entry.stream], entry.position, entry.version, entry.topic if store_entry else "")
        arguments += (entry.event_id, round(entry.recorded_at * 1000))
        arguments += (entry.state if store_entry else b"", entry.origin)
    outcome, reached = log.functions.call("restore", keys, arguments)
    return RestoreResult(outcome == b"opened", reached)


def mark_archived(log: LogHandle) -> None:
    """Note that there is an archive, without which the log is no longer to be opened."""
    run_on_key_node(log.client, log.keys.meta, lambda node: node.hset(log.keys.meta, "archived", 1))


def trim(log: LogHandle, *, upto: int, surplus: int, oldest: float) -> int:
    """Take out events up to position ``upto`` that stand up to ``surplus`` or were recorded before ``oldest``.

    ``oldest`` is in epoch seconds. Returns how many went, ``TRIM_BATCH`` at most; the last event stays.
    """
    arguments: list[str | bytes | int | float] = [
        log.keys.streams_prefix,
        upto,
        surplus,
        round(oldest * 1000),
        TRIM_BATCH,
    ]
    gone: int = log.functions.call("trim", [log.keys.log, log.keys.trimmed], arguments)
    return gone
