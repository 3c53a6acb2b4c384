"""The event log: events of many streams in one sequence without gaps, in one Redis stream.

``docs/event-log.md`` describes the keys, the fields of an entry and what is promised.
"""

import time
from collections.abc import Sequence
from secrets import token_urlsafe
from typing import Any, NamedTuple

from eventsourcing.persistence import Tracking
from redis import Redis, RedisCluster

from domain.log import LogEntry
from infra.log.archive_port import Archive
from infra.log.entries import entry_id, pair_fields, parse_entries, read_untrimmed
from infra.log.errors import LogNotOpenError, TrackingConflictError, VersionConflictError
from infra.log.handle import LogHandle
from infra.log.history import fill_from_archive, read_archived_stream
from infra.log.maintenance import open_without_archive
from infra.redis import functions
from infra.redis.cluster import run_on_key_node
from infra.settings import Durability

BLOCK_SECONDS = 2.0
"""One blocking read at most: a connection that is silent for longer than its time-out counts as dead."""

STREAM_CHUNK = 500
"""Events of one stream that the server collects in one step, so that nobody else waits long for it."""

OPENED_AT_MOST = 3
"""Times that one append opens the log: once, and again where the server is replaced meanwhile."""


class NewEvent(NamedTuple):
    """An event to append."""

    stream: str
    topic: str
    state: bytes
    event_id: str = ""
    """An event whose id is in the log already is dropped; without an id, an event is unlike any other."""
    expected_version: int | None = None
    """The version it must get, or None for whatever comes next."""
    origin: str = ""
    """How it came in: see ``LogEntry``."""


class Appended(NamedTuple):
    """What became of an event; a duplicate carries what the original was given."""

    position: int
    version: int
    duplicate: bool


class EventLog(LogHandle):
    """One log on the server that holds its hash slot.

    Readers see one sequence: the log itself, and in front of it the events that only the archive still has. Each
    method raises the errors of redis-py and of the archive.

    Args:
        client: A client that does not decode responses. Nothing connects before the first call.
        name: The name of the log. It must be able to be a hash tag.
        durability: When an append is acknowledged.
        replicas: The number of replicas that ``replicated`` waits for, at least 1.
        dedupe_window: Seconds for which an event id is remembered, at least 1, and at most for twice as long.
        archive: The archive behind the log, if there is one.

    Raises:
        ValueError: The name is empty or contains braces.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        name: str,
        *,
        durability: Durability = "fsynced",
        replicas: int = 1,
        dedupe_window: int = 86_400,
        archive: Archive | None = None,
    ) -> None:
        super().__init__(client, name, durability=durability, replicas=replicas, dedupe_window=dedupe_window)
        self._archive = archive

    def append(self, events: Sequence[NewEvent], *, tracking: Tracking | None = None) -> list[Appended]:
        """Add all of the events, and set the tracking position of what they follow from, or nothing at all.

        Raises VersionConflictError, TrackingConflictError or UnsuitableServerError when nothing was added,
        and NotDurableError when all was added and is not yet durable. After that error, or a lost connection,
        the same events may be appended again: those with an ``event_id`` are not doubled. Raises ValueError for
        names with a NUL character, which no archive could hold.
        """
        if not events and tracking is None:
            return []
        for event in events:
            if "\0" in event.stream + event.topic + event.event_id + event.origin:
                raise ValueError(f"a NUL character in the names of an event: {event._replace(state=b'')}")
        streams = {stream: number for number, stream in enumerate(dict.fromkeys(e.stream for e in events), 1)}
        keys = [self.keys.log, self.keys.meta, self.keys.versions, self.keys.tracking, *map(self.keys.stream, streams)]
        arguments: list[functions.Argument] = [self.keys.ids_prefix, self.dedupe_window]
        arguments += (tracking.application_name, tracking.notification_id) if tracking else ("", 0)
        arguments += (token_urlsafe(12), len(streams), *streams)
        for event in events:
            expected = "" if event.expected_version is None else event.expected_version
            # An id of our own making, because the call is repeated when its reply is lost.
            event_id = event.event_id or token_urlsafe(12)
            arguments += (streams[event.stream], event.topic, event_id, expected, event.state, event.origin)
        outcome, *numbers = self._append_opened(keys, arguments)
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

    def open(self) -> None:
        """See that the log has all that was ever read from it, before anything is added to it.

        An append does so by itself where it must. Raises LogNotOpenError and what ``Archive.open`` raises.
        """
        if self._archive is None:
            open_without_archive(self)
        else:
            self._archive.open(self)

    def _append_opened(self, keys: Sequence[str], arguments: Sequence[functions.Argument]) -> Any:
        for _ in range(OPENED_AT_MOST):
            reply = self.functions.call("append", keys, arguments)
            if reply[0] != b"unopened":
                return reply
            self.open()
        raise LogNotOpenError(f"the server of log {self.name} was replaced {OPENED_AT_MOST} times meanwhile: try again")

    def read(self, after: int, limit: int, upto: int | None = None) -> list[LogEntry]:
        """The events with positions > ``after`` and <= ``upto``, ``limit`` at most.

        Raises HistoryGapError for events that are nowhere.
        """
        if upto is not None and upto <= max(after, 0):
            return []
        return self._complete(max(after, 0), limit, read_untrimmed(self, after, limit, upto), upto)

    def wait(self, after: int, limit: int, timeout: float) -> list[LogEntry]:
        """``read``, waiting up to ``timeout`` seconds for the first event; empty when none came."""
        deadline = time.monotonic() + timeout
        while True:
            left = min(deadline - time.monotonic(), BLOCK_SECONDS)
            entries = self._read_next(after, limit, max(int(left * 1000), 0))
            if entries or time.monotonic() >= deadline:
                return self._complete(max(after, 0), limit, entries, None)

    def _complete(self, after: int, limit: int, entries: list[LogEntry], upto: int | None) -> list[LogEntry]:
        """``entries``, which the log has behind ``after``, with those in front that it has no longer.

        Positions have no gaps, and the last event is never trimmed: where the first is not the next, the archive has
        what lies between.
        """
        last_missing = after
        if entries:
            last_missing = entries[0].position - 1
        elif upto is not None:
            last_missing = min(upto, self.head())
        if last_missing <= after:
            return entries
        return fill_from_archive(self._archive, self.name, after, last_missing, limit, entries)

    def read_stream(
        self,
        stream: str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> list[LogEntry]:
        """The events of ``stream`` with versions > ``gt`` and <= ``lte``, by version, ``limit`` at most.

        Raises HistoryGapError for events that are nowhere.
        """
        entries: list[LogEntry] = []
        lowest, highest = 0 if gt is None else gt + 1, lte
        while limit is None or len(entries) < limit:
            chunk = STREAM_CHUNK if limit is None else min(STREAM_CHUNK, limit - len(entries))
            found, ended = self._read_stream(stream, lowest, highest, desc=desc, limit=chunk)
            entries += found
            if ended:
                break
            if desc:
                highest = found[-1].version - 1
            else:
                lowest = found[-1].version + 1
        return entries

    def head(self) -> int:
        """The last position, 0 when the log is empty."""
        return int(
            run_on_key_node(self.client, self.keys.meta, lambda node: node.hget(self.keys.meta, "position")) or 0
        )

    def _read_next(self, after: int, limit: int, milliseconds: int) -> list[LogEntry]:
        # An idle server wakes ten times a second to see whose wait is over: who would not wait must not block.
        replies: Any = run_on_key_node(
            self.client,
            self.keys.log,
            lambda node: node.xread({self.keys.log: entry_id(after)}, count=limit, block=milliseconds or None),
        )
        return parse_entries(replies[0][1]) if replies else []

    def _read_stream(
        self, stream: str, lowest: int, highest: int | None, *, desc: bool, limit: int
    ) -> tuple[list[LogEntry], bool]:
        """The first of these versions, from the log or from the archive; whether that is all."""
        keys = [self.keys.log, self.keys.versions, self.keys.trimmed, self.keys.stream(stream)]
        arguments: list[functions.Argument] = [stream, lowest, "" if highest is None else highest, int(desc), limit]
        command = functions.command("read_stream", keys, arguments, read_only=True)
        trimmed, raw = run_on_key_node(
            self.client,
            self.keys.log,
            lambda node: functions.with_functions(node, lambda: node.execute_command(*command)),
        )
        archived = trimmed if highest is None else min(trimmed, highest)
        if archived < lowest or (desc and raw):
            found = parse_entries((entry_id, pair_fields(fields)) for entry_id, fields in raw)
            return found, len(found) < limit and (archived < lowest or not desc)
        found = read_archived_stream(self._archive, self.name, stream, lowest, archived, desc=desc, limit=limit)
        return found, not found or (desc and len(found) < limit)
