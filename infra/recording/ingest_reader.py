"""Reader of the ingest stream, through a consumer group that loses no message."""

import time
from collections.abc import Iterable
from threading import Event
from typing import Any, NamedTuple

import structlog
from eventsourcing.persistence import PersistenceError
from redis.exceptions import RedisError, ResponseError

from domain.announcements import Message, Receipt
from domain.wire import INGEST_STREAM, Refusal
from domain.wire.values import MIN_SECONDS
from infra.heartbeats.progress import Progress
from infra.log.bounds import BATCH_BYTES, entries_within
from infra.processes.outage import OutageLog
from infra.recording.counters import Counters, count_receipts
from infra.recording.intake import RETRY_SECONDS
from infra.recording.pending import Pending
from infra.recording.recorder import ReadMessages, Recorder
from infra.redis.connections import RedisClient
from infra.redis.server_errors import find_server_error

logger = structlog.get_logger()

GROUP = "tickview"
"""Consumer group of all recorders."""

ATTEMPTS_KEY = f"tickview:{{{INGEST_STREAM}}}:attempts"
"""Redis hash: id of an entry -> number of attempts to record it after its consumer had died or hung.

It is in the slot of the ingest stream, so that a cluster removes both in one transaction.
"""

MAX_ATTEMPTS = 3
"""Highest number of these attempts. After them, the entry becomes a dead letter."""

FIRST_COUNT = 16
"""Highest number of entries of the first batch, whose size is not known."""

POLL_SECONDS = 0.5
"""Longest wait for an entry, in seconds, before the reader checks whether it should stop."""

CLAIM_AFTER_SECONDS = 10.0
"""Seconds after which an unacknowledged entry is claimed from its consumer, which counts as dead."""

DEAD_AFTER_SECONDS = 3_600.0
"""Seconds without a read after which a consumer without pending entries is removed. A living one reads twice a second.
"""

Entry = tuple[bytes, dict[bytes, bytes]]
"""An entry of a Redis stream: its id and its fields. No fields: the entry was trimmed while it was pending."""


class _SentEntries(NamedTuple):
    """Entries whose events were sent to the log."""

    entries: list[Entry]
    pending: Pending[list[Receipt]]


class IngestReader:
    """A consumer of the ingest stream. It also claims the entries of consumers that died.

    As long as the stream has full batches, the reader reads a batch while the log appends the batch before.

    A consumer may have died of an entry. Claimed entries are therefore tried a second time one by one, and become dead
    letters after ``MAX_ATTEMPTS``.

    Args:
        client: The client of the server that holds the stream.
        recorder: The recorder of the messages.
        consumer: A name that no other consumer of the group has.
        batch_size: Highest number of entries per batch.
    """

    def __init__(self, client: RedisClient, recorder: Recorder, consumer: str, batch_size: int) -> None:
        self._client = client
        self._recorder = recorder
        self._consumer = consumer
        self._batch_size = batch_size
        self._count = min(batch_size, FIRST_COUNT)
        self._claim_at = 0.0
        self._has_unrecorded = False
        self._sent: _SentEntries | None = None
        self._attempted: set[bytes] = set()
        """Ids of the claimed entries that are not acknowledged yet."""
        self.counts = Counters()
        self.progress = Progress()

    def run(self, stop: Event) -> None:
        """Record entries until ``stop`` is set. An entry that cannot be recorded stays pending and is tried again."""
        outage = OutageLog("ingest stream cannot be recorded", "ingest stream is recorded again")
        while self._sent or not stop.is_set():
            try:
                if stop.is_set():
                    self._finish()
                elif claimed := self._claim():
                    self._record_claimed(claimed)
                else:
                    self._record_next()
                outage.recovered()
                self.progress.made()
            except (RedisError, PersistenceError) as error:
                if "NOGROUP" in str(error):
                    self._create_group()
                    continue
                outage.failed(error)
                self.progress.failed(error)
                self._sent = None
                self._has_unrecorded = True
                stop.wait(RETRY_SECONDS)

    def _create_group(self) -> None:
        """Create the group at the beginning of the stream, before the entries added while no recorder ran."""
        try:
            self._client.xgroup_create(INGEST_STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _read(self) -> list[Entry]:
        """Read the consumer's own pending entries after a failure, otherwise new entries."""
        start = "0" if self._has_unrecorded else ">"
        block = None if self._sent else round(POLL_SECONDS * 1000)
        reply: Any = self._client.xreadgroup(
            GROUP, self._consumer, {INGEST_STREAM: start}, count=self._count, block=block
        )
        entries: list[Entry] = list(reply[0][1]) if reply else []
        self._has_unrecorded = self._has_unrecorded and bool(entries)
        if entries:  # The number grows in steps, because the next entries may be larger than these.
            self._count = min(self._batch_size, 4 * self._count, entries_within(BATCH_BYTES, entries))
        return entries

    def _claim(self) -> list[Entry]:
        """Claim entries that any consumer, this one included, read and did not acknowledge in time."""
        if time.monotonic() < self._claim_at:
            return []
        self._finish()
        idle = round(CLAIM_AFTER_SECONDS * 1000)
        entries: Any
        _, entries, trimmed = self._client.xautoclaim(
            INGEST_STREAM, GROUP, self._consumer, min_idle_time=idle, count=self._count
        )
        self._report_trimmed(trimmed)
        if not entries:
            self._claim_at = time.monotonic() + CLAIM_AFTER_SECONDS / 2
            self._remove_dead_consumers()
        return list(entries)

    def _remove_dead_consumers(self) -> None:
        """Remove the consumers that ended long ago. Their entries were claimed, and their names never come back."""
        consumers: Any = self._client.xinfo_consumers(INGEST_STREAM, GROUP)
        with self._client.pipeline(transaction=False) as pipeline:
            for consumer in consumers:
                if not consumer["pending"] and consumer["idle"] > DEAD_AFTER_SECONDS * 1_000:
                    pipeline.xgroup_delconsumer(INGEST_STREAM, GROUP, consumer["name"])
            pipeline.execute()

    def _record_claimed(self, entries: list[Entry]) -> None:
        """Record claimed entries: together at the first attempt, then one by one, so that only a bad entry remains."""
        ids = [identity for identity, _ in entries]
        attempts: Any = self._client.hmget(ATTEMPTS_KEY, ids)
        self._attempted.update(ids)
        first = [entry for entry, number in zip(entries, attempts, strict=True) if number is None]
        if first:
            self._attempt(first)
        for entry, number in zip(entries, attempts, strict=True):
            if number is None:
                continue
            if int(number) >= MAX_ATTEMPTS:
                self._refuse(entry)
            else:
                self._attempt([entry])

    def _attempt(self, entries: list[Entry]) -> None:
        """Record claimed entries in an attempt that counts, unless a server was away: no entry is to blame for that."""
        ids = [identity for identity, _ in entries]
        self._count_attempts(ids, 1)
        try:
            self._record(entries)
        except (RedisError, PersistenceError) as error:
            if not isinstance(error, ResponseError) or find_server_error(error):
                self._count_attempts(ids, -1)
            raise

    def _count_attempts(self, ids: Iterable[bytes], number: int) -> None:
        with self._client.pipeline(transaction=True) as pipeline:
            for identity in ids:
                pipeline.hincrby(ATTEMPTS_KEY, identity, number)
            pipeline.execute()

    def _refuse(self, entry: Entry) -> None:
        """Store an entry as a dead letter, without reading its message."""
        identity, fields = entry
        if fields:
            reason = f"{MAX_ATTEMPTS + 1} recorders took the message and stopped before they had recorded it"
            self._recorder.refuse(_message(identity, fields), Refusal("reader-failed", reason))
            self.counts.add({"refused": 1})
        self._acknowledge([identity])

    def _record_next(self) -> None:
        """Read the next entries, then finish the entries before, then send those that were read."""
        if self._has_unrecorded:
            self._finish()  # Otherwise the entries that were sent would be read again.
        count = self._count
        entries = self._read()
        read_messages = self._read_messages(entries)
        self._finish()
        self._send(entries, read_messages)
        if len(entries) < count:  # The stream has no more entries.
            self._finish()

    def _record(self, entries: list[Entry]) -> None:
        self._send(entries, self._read_messages(entries))
        self._finish()

    def _read_messages(self, entries: list[Entry]) -> ReadMessages:
        return self._recorder.read([_message(identity, fields) for identity, fields in entries if fields])

    def _send(self, entries: list[Entry], read_messages: ReadMessages) -> None:
        if entries:
            self._sent = _SentEntries(entries, self._recorder.begin(read_messages))

    def _finish(self) -> None:
        """Wait until the events of the entries that were sent are recorded, and acknowledge the entries."""
        if self._sent is None:
            return
        entries, pending = self._sent
        self._sent = None
        receipts = pending.result()
        self._acknowledge([identity for identity, _ in entries])
        self._report_trimmed([identity for identity, fields in entries if not fields])
        self.counts.add(count_receipts(receipts))

    def _acknowledge(self, ids: list[bytes]) -> None:
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.xack(INGEST_STREAM, GROUP, *ids)
            pipeline.xdel(INGEST_STREAM, *ids)
            if attempted := self._attempted.intersection(ids):
                pipeline.hdel(ATTEMPTS_KEY, *attempted)
            pipeline.execute()
        self._attempted.difference_update(ids)

    def _report_trimmed(self, ids: list[bytes]) -> None:
        """Report entries that somebody removed from the stream before they were recorded."""
        if ids:
            self._client.hdel(ATTEMPTS_KEY, *ids)
            self.counts.add({"trimmed": len(ids)})
            logger.error("entries of the ingest stream were trimmed before they were recorded", entries=len(ids))


def _message(identity: bytes, fields: dict[bytes, bytes]) -> Message:
    now = time.time()
    added_at = int(identity.split(b"-")[0]) / 1000
    return Message(
        fields.get(b"channel", b"").decode(errors="replace"),
        fields.get(b"payload", b""),
        # A producer may give ids of its own, which need not be milliseconds.
        added_at if MIN_SECONDS <= added_at <= now else now,
        "stream",
    )
