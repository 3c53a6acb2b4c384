"""The event log: events of many streams in one sequence without gaps, in one Redis stream.

``docs/event-log.md`` describes the keys, the fields of an entry and what is promised.
"""

import time
from collections.abc import Iterable, Sequence
from secrets import token_urlsafe
from typing import Any, NamedTuple

from eventsourcing.persistence import IntegrityError, Tracking
from redis import Redis, RedisCluster

from domain.log import LogEntry
from infra import functions
from infra.eventlog.durability import DurableFunctions
from infra.eventlog.nodes import on_node
from infra.settings import Durability

BLOCK_SECONDS = 2.0
"""One blocking read at most: a connection that is silent for longer than its time-out counts as dead."""

STREAM_CHUNK = 500
"""Events of one stream that the server collects in one step, so that nobody else waits long for it."""


RawEntry = tuple[bytes, dict[bytes, bytes]]


class NewEvent(NamedTuple):
    """An event to append."""

    stream: str
    topic: str
    state: bytes
    event_id: str = ""
    """An event whose id is in the log already is dropped; without an id, an event is unlike any other."""
    expected_version: int | None = None
    """The version it must get, or None for whatever comes next."""


class Appended(NamedTuple):
    """What became of an event; a duplicate carries what the original was given."""

    position: int
    version: int
    duplicate: bool


class VersionConflictError(IntegrityError):
    """An event cannot get the version it expects."""


class TrackingConflictError(IntegrityError):
    """A tracking position is not higher than the last."""


class EventLog:
    """One log, on the server, or the node of a cluster, that holds its hash slot.

    ``client`` must not decode responses. ``replicas`` counts for ``replicated`` only. ``dedupe_window`` is in
    seconds, at least 1: an event id is remembered for that long, and at most for twice as long. Raises
    ValueError for a name that cannot be a hash tag. Nothing connects before the first call; each method
    raises what redis-py raises.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        name: str,
        *,
        durability: Durability = "fsynced",
        replicas: int = 1,
        dedupe_window: int = 86_400,
    ) -> None:
        self.client = client
        self.name = name
        self._functions = DurableFunctions(client, durability, replicas)
        self._dedupe_window = dedupe_window
        self._log = key(name, "log")
        self._meta = key(name, "meta")
        self._versions = key(name, "versions")

    def append(self, events: Sequence[NewEvent], *, tracking: Tracking | None = None) -> list[Appended]:
        """Add all of the events, and set the tracking position of what they follow from, or nothing at all.

        Raises VersionConflictError, TrackingConflictError or UnsuitableServerError when nothing was added,
        and NotDurableError when all was added and is not yet durable. After that error, or a lost connection,
        the same events may be appended again: those with an ``event_id`` are not doubled.
        """
        if not events and tracking is None:
            return []
        streams = {stream: number for number, stream in enumerate(dict.fromkeys(e.stream for e in events), 1)}
        keys = [
            self._log,
            self._meta,
            self._versions,
            key(self.name, "tracking"),
            *map(self._stream, streams),
        ]
        arguments: list[functions.Argument] = [token_urlsafe(12), key(self.name, "ids:"), self._dedupe_window]
        arguments += (tracking.application_name, tracking.notification_id) if tracking else ("", 0)
        arguments += (token_urlsafe(12), len(streams), *streams)
        for event in events:
            expected = "" if event.expected_version is None else event.expected_version
            # An id of our own making, because the call is repeated when its reply is lost.
            event_id = event.event_id or token_urlsafe(12)
            arguments += (streams[event.stream], event.topic, event_id, expected, event.state)
        outcome, *numbers = self._functions.call("append", keys, arguments)
        if outcome == b"appended":
            triples = zip(*[iter(numbers)] * 3, strict=True)
            return [Appended(position, version, bool(duplicate)) for position, version, duplicate in triples]
        if outcome == b"tracked":
            raise TrackingConflictError(f"{tracking} is not after {numbers[0]} in log {self.name}")
        event, last = events[numbers[0]], numbers[1]
        state = "is empty" if last < 0 else f"is at version {last}"
        raise VersionConflictError(
            f"stream {event.stream} of log {self.name} {state}: its next event cannot be version "
            f"{event.expected_version}"
        )

    def read(self, after: int, limit: int, upto: int | None = None) -> list[LogEntry]:
        """The events with positions > ``after`` and <= ``upto``, ``limit`` at most."""
        if upto is not None and upto <= max(after, 0):
            return []
        first, last = _id(after + 1), "+" if upto is None else _id(upto)
        found: Any = on_node(self.client, self._log, lambda node: node.xrange(self._log, first, last, count=limit))
        return _entries(found)

    def wait(self, after: int, limit: int, timeout: float) -> list[LogEntry]:
        """``read``, waiting up to ``timeout`` seconds for the first event; empty when none came."""
        deadline = time.monotonic() + timeout
        while True:
            left = min(deadline - time.monotonic(), BLOCK_SECONDS)
            entries = self._blocking_read(after, limit, max(int(left * 1000), 1))
            if entries or time.monotonic() >= deadline:
                return entries

    def read_stream(
        self,
        stream: str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> list[LogEntry]:
        """The events of ``stream`` with versions > ``gt`` and <= ``lte``, by version, ``limit`` at most."""
        entries: list[LogEntry] = []
        lowest = 0 if gt is None else gt + 1
        while limit is None or len(entries) < limit:
            chunk = STREAM_CHUNK if limit is None else min(STREAM_CHUNK, limit - len(entries))
            found = self._read_stream(stream, lowest, lte, desc=desc, limit=chunk)
            entries += found
            if len(found) < chunk:
                break
            if desc:
                lte = found[-1].version - 1
            else:
                lowest = found[-1].version + 1
        return entries

    def head(self) -> int:
        """The last position, 0 when the log is empty."""
        return int(on_node(self.client, self._meta, lambda node: node.hget(self._meta, "position")) or 0)

    def _stream(self, stream: str) -> str:
        return key(self.name, f"stream:{stream}")

    def _blocking_read(self, after: int, limit: int, milliseconds: int) -> list[LogEntry]:
        replies: Any = on_node(
            self.client,
            self._log,
            lambda node: node.xread({self._log: _id(after)}, count=limit, block=milliseconds),
        )
        return _entries(replies[0][1]) if replies else []

    def _read_stream(self, stream: str, lowest: int, highest: int | None, *, desc: bool, limit: int) -> list[LogEntry]:
        keys = [self._log, self._versions, self._stream(stream)]
        arguments: list[functions.Argument] = [
            stream,
            lowest,
            "" if highest is None else highest,
            int(desc),
            limit,
        ]
        command = functions.command("read_stream", keys, arguments, read_only=True)
        found = on_node(
            self.client,
            self._log,
            lambda node: functions.with_functions(node, lambda: node.execute_command(*command)),
        )
        return _entries((entry_id, _pairs(fields)) for entry_id, fields in found)


def key(name: str, part: str) -> str:
    """The key of one part of what is kept under ``name``; all of them share a hash slot.

    Raises ValueError for a name that cannot be a hash tag.
    """
    if not name or "{" in name or "}" in name:
        raise ValueError(f"{name!r} cannot name a log: it must be neither empty nor contain braces")
    return f"tickview:{{{name}}}:{part}"


def _id(position: int) -> str:
    return f"{max(position, 0)}-0"


def _pairs(fields: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _entries(raw: Iterable[RawEntry]) -> list[LogEntry]:
    return [
        LogEntry(
            position=int(entry_id[:-2]),
            stream=fields[b"stream"].decode(),
            version=int(fields[b"version"]),
            topic=fields[b"topic"].decode(),
            event_id=fields[b"event_id"].decode(),
            recorded_at=int(fields[b"recorded_at"]) / 1000,
            state=fields[b"state"],
        )
        for entry_id, fields in raw
    ]
