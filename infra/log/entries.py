"""The entries of a log's Redis stream: their ids, their fields, and a read of the entries that are not trimmed."""

from collections.abc import Iterable
from typing import Any

from domain.log import LogEntry
from infra.log.bounds import BATCH_BYTES
from infra.log.handle import LogHandle
from infra.redis import functions
from infra.redis.cluster import run_on_key_node

RawEntry = tuple[bytes, dict[bytes, bytes]]
"""The id and the fields of a stream entry, as redis-py returns them."""


def read_untrimmed(log: LogHandle, after: int, limit: int, upto: int | None = None) -> list[LogEntry]:
    """Return the events with positions > ``after`` and <= ``upto`` that are not trimmed, at most ``limit``."""
    key, first, last = log.keys.log, entry_id(after + 1), "+" if upto is None else entry_id(upto)
    raw: Any = run_on_key_node(log.client, key, lambda node: node.xrange(key, first, last, count=limit))
    return parse_entries(raw)


def read_bounded(log: LogHandle, after: int, limit: int) -> list[LogEntry]:
    """Return the first events after ``after`` that are not trimmed: at most ``limit`` and ``BATCH_BYTES``, or one."""
    command = functions.command("read_log", [log.keys.log], [after, limit, BATCH_BYTES], read_only=True)
    raw: Any = run_on_key_node(
        log.client,
        log.keys.log,
        lambda node: functions.with_functions(node, lambda: node.execute_command(*command)),
    )
    return parse_entries((identity, pair_fields(fields)) for identity, fields in raw)


def until_gap(entries: list[LogEntry]) -> list[LogEntry]:
    """Return the entries before the first missing position.

    While a server gets back many lost events, its log lacks those between its own and the last ones.
    """
    if not entries or entries[-1].position - entries[0].position == len(entries) - 1:
        return entries
    first = entries[0].position
    return [entry for number, entry in enumerate(entries) if entry.position == first + number]


def entry_id(position: int) -> str:
    """Return the id of the stream entry at a position. A negative position counts as 0."""
    return f"{max(position, 0)}-0"


def pair_fields(fields: list[bytes]) -> dict[bytes, bytes]:
    """Convert the flat list of names and values that a server-side function returns."""
    return dict(zip(fields[::2], fields[1::2], strict=True))


def parse_entries(raw: Iterable[RawEntry]) -> list[LogEntry]:
    """Convert raw stream entries to log entries."""
    return [
        LogEntry(
            position=int(entry_id[:-2]),
            stream=fields[b"stream"].decode(),
            version=int(fields[b"version"]),
            topic=fields[b"topic"].decode(),
            event_id=fields[b"event_id"].decode(),
            recorded_at=int(fields[b"recorded_at"]) / 1000,
            state=fields[b"state"],
            origin=fields.get(b"origin", b"").decode(),
        )
        for entry_id, fields in raw
    ]
