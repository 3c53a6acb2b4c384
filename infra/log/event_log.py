"""The event log: the events of many streams in one gapless sequence, stored in one Redis stream.

``docs/event-log.md`` describes the keys, the fields of an entry and the guarantees of an append.
"""

import time
from collections.abc import Sequence
from math import inf
from typing import Any

from eventsourcing.persistence import Tracking

from domain.log import LogEntry
from domain.partitions import Partitions
from infra.log.append import Appended, NewEvent, PendingAppend
from infra.log.archive_port import Archive, StreamRange
from infra.log.bounds import split_by_bytes
from infra.log.entries import entry_id, pair_fields, parse_entries, read_bounded, read_untrimmed, until_gap
from infra.log.handle import DEFAULT_LOG_OPTIONS, LogHandle, LogOptions
from infra.log.history import fill_from_archive, read_archived_batch, read_archived_stream
from infra.log.maintenance import open_without_archive
from infra.redis import functions
from infra.redis.cluster import run_on_key_node
from infra.redis.connections import RedisClient
from infra.redis.sent_commands import SentCommands

MAX_BLOCK_SECONDS = 2.0
"""Highest number of seconds per blocking read. It is shorter than the time-out of a connection, so that a connection
which stays silent until the time-out is dead."""

STREAM_BATCH = 500
"""Highest number of events of one stream per server call. It bounds the time for which one call blocks the server."""

LARGE_SECONDS = 0.5
"""Seconds between two reads of the last position of a large event."""


class EventLog(LogHandle):
    """One log on the server that holds its hash slot.

    Readers see one sequence of events: the events that only the archive still has, then the events of the log. Every
    method raises the errors of redis-py, and ArchiveUnavailableError when it needs an archive that cannot be reached.

    Args:
        client: A client that does not decode responses. It connects on first use.
        name: The name of the log. It becomes the hash tag of the log's keys.
        options: The durability and the deduplication of the log.
        archive: The archive behind the log, if there is one.

    Raises:
        ValueError: The name is empty or contains braces.
    """

    def __init__(
        self,
        client: RedisClient,
        name: str,
        options: LogOptions = DEFAULT_LOG_OPTIONS,
        *,
        archive: Archive | None = None,
    ) -> None:
        super().__init__(client, name, options)
        self._archive = archive
        self._last_large = 0
        self._large_read_at = -inf

    def append(
        self,
        events: Sequence[NewEvent],
        *,
        tracking: Tracking | None = None,
        partitions: Partitions | None = None,
    ) -> list[Appended]:
        """Append all events and move the tracking position, or do neither.

        After NotDurableError or a lost connection the caller may append the same events again. The log drops an
        event that it has already, if the event has an ``event_id``.

        Args:
            events: The events in the order in which they get their positions.
            tracking: The position of another application from which the events follow.
            partitions: The number of partitions of the market log by which the caller has found this log
                (``StreamRouter``). None if the streams are those of this log.

        Returns:
            The position and the version of each event.

        Raises:
            VersionConflictError: An event cannot get its expected version. Nothing was appended.
            TrackingConflictError: The tracking position is not higher than the stored position. Nothing was appended.
            StreamElsewhereError: A new stream may be in another partition. Nothing was appended.
            UnsuitableServerError: The server cannot provide the durability. Nothing was appended.
            NotDurableError: All events were appended, but are not yet as durable as the options demand.
            LogNotOpenError: The log cannot be opened. Nothing was appended.
            LogDivergedError: The log and its archive hold different events. Nothing was appended.
            ValueError: A name of an event contains a NUL character, which PostgreSQL cannot store.
        """
        if not events and tracking is None:
            return []
        return self.begin_append(events, tracking=tracking, partitions=partitions).result()

    def begin_append(
        self, events: Sequence[NewEvent], *, tracking: Tracking | None = None, partitions: Partitions | None = None
    ) -> PendingAppend:
        """Send an append, and return without waiting. The parameters are those of ``append``.

        The next append to this log must not begin before the result of this one: appends that are under way at the same
        time have no order.

        Raises:
            UnsuitableServerError: The server cannot provide the durability. Nothing was appended.
            ValueError: A name of an event contains a NUL character, which PostgreSQL cannot store.
        """
        return PendingAppend(self, self.open, events, tracking, partitions)

    def open(self) -> None:
        """Restore the events that the server has lost, and open the log for appends.

        An append opens a log that is not open.

        Raises:
            LogNotOpenError: The log has an archive, and this process has no connection to it.
            LogDivergedError: The log and its archive hold different events.
        """
        if self._archive is None:
            open_without_archive(self)
        else:
            self._archive.open(self)

    def read(self, after: int, limit: int, upto: int | None = None) -> list[LogEntry]:
        """Return the events with positions > ``after`` and <= ``upto``, at most ``limit``.

        Raises:
            HistoryGapError: Neither the log nor the archive has an event of the range.
        """
        after = max(after, 0)
        if upto is not None and upto <= after:
            return []
        untrimmed = read_untrimmed(self, after, limit, upto)
        last_missing = after
        if not untrimmed and upto is not None:
            # The head is read before the entries, because events may be appended in between: they are not missing.
            last_missing = min(upto, self.head())
            untrimmed = read_untrimmed(self, after, limit, upto)
        entries = until_gap(untrimmed)
        is_cut = len(entries) < len(untrimmed)
        if entries:
            last_missing = entries[0].position - 1
        if last_missing > after:
            # Positions have no gaps, and the last event is never trimmed: the archive has the missing events.
            entries = fill_from_archive(self._archive, self.name, after, last_missing, limit, entries)
        if is_cut and len(entries) < limit:
            entries += self.read(entries[-1].position, limit - len(entries), upto)
        return entries

    def wait(self, after: int, limit: int, timeout: float) -> list[LogEntry]:
        """Return a batch of the events with positions > ``after``, and wait for the first event.

        Args:
            after: The last position that the caller has read.
            limit: The highest number of events to return. There are fewer if they have more than ``BATCH_BYTES``.
            timeout: Seconds to wait, 0 for no wait. If no event arrives, the result is empty.

        Raises:
            HistoryGapError: Neither the log nor the archive has an event of the range.
        """
        after = max(after, 0)
        deadline = time.monotonic() + timeout
        while True:
            seconds = min(deadline - time.monotonic(), MAX_BLOCK_SECONDS)
            if after < self._last_large_position():
                entries = until_gap(read_bounded(self, after, limit))
            else:
                entries = until_gap(self._read_next(after, limit, max(int(seconds * 1000), 0)))
            if entries and entries[0].position > after + 1:
                last_missing = entries[0].position - 1
                archived = read_archived_batch(self._archive, self.name, after, last_missing, limit)
                if archived[-1].position < last_missing:
                    return archived
                return next(split_by_bytes([*archived, *entries]))[:limit]
            if entries or time.monotonic() >= deadline:
                return entries

    def begin_read(self, after: int, limit: int) -> "PendingRead":
        """Request a batch of the events with positions > ``after``, and return without waiting.

        The parameters and the result are those of ``wait`` without a timeout.
        """
        if after < self._last_large_position():
            return PendingRead(self, after, limit, None)
        words: list[functions.Argument] = ["XRANGE", self.keys.log, entry_id(after + 1), "+", "COUNT", limit]
        return PendingRead(self, after, limit, SentCommands(self.client, self.keys.log, [words]))

    def _last_large_position(self) -> int:
        """Return the last position known to hold a large event. Batches before it are bounded by the server.

        The position is read anew at most twice per second: what is appended in between is no large backlog.
        """
        now = time.monotonic()
        if now > self._large_read_at + LARGE_SECONDS:
            key = self.keys.meta
            self._last_large = int(run_on_key_node(self.client, key, lambda node: node.hget(key, "large")) or 0)
            self._large_read_at = now
        return self._last_large

    def read_stream(
        self,
        stream: str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> list[LogEntry]:
        """Return the events of a stream with versions > ``gt`` and <= ``lte``, ordered by version.

        The parameters are the same as for ``Recorder.select_events`` in the ``eventsourcing`` library.

        Raises:
            HistoryGapError: Neither the log nor the archive has an event of the range.
        """
        entries: list[LogEntry] = []
        lowest, highest = 0 if gt is None else gt + 1, lte
        while limit is None or len(entries) < limit:
            size = STREAM_BATCH if limit is None else min(STREAM_BATCH, limit - len(entries))
            batch, ended = self._read_stream_batch(stream, lowest, highest, desc=desc, limit=size)
            entries += batch
            if ended:
                break
            if desc:
                highest = batch[-1].version - 1
            else:
                lowest = batch[-1].version + 1
        return entries

    def head(self) -> int:
        """Return the last position of the log, 0 when the log is empty."""
        key = self.keys.meta
        return int(run_on_key_node(self.client, key, lambda node: node.hget(key, "position")) or 0)

    def _read_next(self, after: int, limit: int, milliseconds: int) -> list[LogEntry]:
        # A read without a timeout must not block: an idle server checks blocked clients only ten times a second.
        replies: Any = run_on_key_node(
            self.client,
            self.keys.log,
            lambda node: node.xread({self.keys.log: entry_id(after)}, count=limit, block=milliseconds or None),
        )
        return parse_entries(replies[0][1]) if replies else []

    def _read_stream_batch(
        self, stream: str, lowest: int, highest: int | None, *, desc: bool, limit: int
    ) -> tuple[list[LogEntry], bool]:
        """Return a batch of events from either the log or the archive, and whether it is the last batch."""
        keys = [self.keys.log, self.keys.versions, self.keys.trimmed, self.keys.stream(stream)]
        arguments: list[functions.Argument] = [stream, lowest, "" if highest is None else highest, int(desc), limit]
        command = functions.command("read_stream", keys, arguments, read_only=True)
        trimmed, raw = run_on_key_node(
            self.client,
            self.keys.log,
            lambda node: functions.with_functions(node, lambda: node.execute_command(*command)),
        )
        last_archived = trimmed if highest is None else min(trimmed, highest)
        if last_archived < lowest or (desc and raw):
            entries = parse_entries((entry_id, pair_fields(fields)) for entry_id, fields in raw)
            return entries, len(entries) < limit and (last_archived < lowest or not desc)
        versions = StreamRange(stream, lowest, last_archived, desc, limit)
        entries = read_archived_stream(self._archive, self.name, versions)
        return entries, not entries or (desc and len(entries) < limit)


class PendingRead:
    """A read of a batch of events that is under way.

    Args:
        log: The log.
        after: The last position that the caller has read.
        limit: The highest number of events to return.
        sent: The command that was sent. None: the server must bound the bytes of the batch, when the result is needed.
    """

    def __init__(self, log: EventLog, after: int, limit: int, sent: SentCommands | None) -> None:
        self._log = log
        self._after = after
        self._limit = limit
        self._sent = sent

    def wait(self) -> None:
        """Receive the events without decoding them."""
        if self._sent:
            self._sent.receive()

    def result(self) -> list[LogEntry]:
        """Wait for the events, and decode them. The errors are those of ``EventLog.wait``."""
        replies = self._sent.receive() if self._sent else None
        if replies is not None and not isinstance(replies[0], Exception):
            entries = until_gap(parse_entries((identity, pair_fields(fields)) for identity, fields in replies[0]))
            if not entries or entries[0].position == self._after + 1:
                return entries
        return self._log.wait(self._after, self._limit, timeout=0)
