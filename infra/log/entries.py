"""The entries of a log's Redis stream: their ids, their fields, and a read of those that the log still has."""

from collections.abc import Iterable
from typing import Any

from domain.log import LogEntry
from infra.log.handle import LogHandle
from infra.redis.cluster import run_on_key_node

RawEntry = tuple[bytes, dict[bytes, bytes]]
"""Id and fields, as redis-py returns an entry of a stream."""


def read_untrimmed(log: LogHandle, after: int, limit: int, upto: int | None = None) -> list[LogEntry]:
    """Return the events with positions > ``after`` and <= ``upto`` that are not trimmed, at most ``limit``."""
    first, last = entry_id(after + 1), "+" if upto is None else entry_id(upto)
    raw: Any = run_on_key_node(
        log.client, log.keys.log, lambda node: node.xrange(log.keys.log, first, last, count=limit)
    )
    return parse_entries(raw)


def entry_id(position: int) -> str:
    """Return the id of the entry at a position; that of position 0 for a negative one."""
    return f"{max(position, 0)}-0"


def pair_fields(fields: list[bytes]) -> dict[bytes, bytes]:
    """Return the fields of an entry that a server-side function returns as a flat list."""
    return dict(zip(fields[::2], fields[1::2], strict=True))


def parse_entries(raw: Iterable[RawEntry]) -> list[LogEntry]:
    """Return raw entries of a stream as log entries."""
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
