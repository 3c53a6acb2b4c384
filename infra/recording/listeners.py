"""Listeners for messages over Redis: from pub/sub, and from the ingest stream, which loses no message."""

import time
from threading import Event
from typing import Any

import structlog
from eventsourcing.persistence import PersistenceError
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from domain.announcements import Message
from domain.wire import CHANNELS, INGEST_STREAM
from infra.processes.outage import OutageLog
from infra.recording.counters import Counters, count_receipts
from infra.recording.intake import RETRY_SECONDS, BacklogFullError, Intake
from infra.recording.recorder import Recorder

logger = structlog.get_logger()

GROUP = "tickview"
"""Consumer group of all recorders."""

BACKLOG_WAIT_SECONDS = 2.0
"""Longest wait for room in the backlog, in seconds, before a pub/sub message is dropped. Redis buffers only little."""

POLL_SECONDS = 0.5
"""Longest wait for a message, in seconds, before the listener checks whether it should stop."""

CLAIM_AFTER_SECONDS = 10.0
"""Seconds after which an unacknowledged entry is claimed from its consumer, which counts as dead."""

Entries = list[tuple[bytes, dict[bytes, bytes]]]
"""Entries of a Redis stream: id and fields."""


def listen(client: Redis, intake: Intake, stop: Event) -> None:
    """Put the messages on the producer's channels into the intake until ``stop`` is set.

    Counts the messages ``dropped`` because the backlog was full, and the ``gaps``: interruptions of the connection
    during which messages may have been missed.
    """
    outage = OutageLog("pub/sub interrupted, messages may be missed", "pub/sub resumed")
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(*CHANNELS)
        while not stop.is_set():
            try:
                published = pubsub.get_message(timeout=POLL_SECONDS)
            except RedisError as error:
                intake.counts.add({"gaps": 1})
                outage.failed(error)
                stop.wait(RETRY_SECONDS)
                continue
            outage.recovered()
            if published is None:
                continue
            message = Message(published["channel"].decode(), published["data"], time.time(), "pubsub")
            try:
                intake.put(message, BACKLOG_WAIT_SECONDS)
            except BacklogFullError as error:
                intake.counts.add({"dropped": 1})
                logger.error("pub/sub message dropped", channel=message.channel, error=str(error))


class IngestReader:
    """A consumer of the ingest stream. It also claims the entries of consumers that died.

    Args:
        client: The client of the server that holds the stream.
        recorder: The recorder of the messages.
        consumer: A name that no other consumer of the group has.
        batch_size: Highest number of entries per batch.
    """

    def __init__(self, client: Redis, recorder: Recorder, consumer: str, batch_size: int) -> None:
        self._client = client
        self._recorder = recorder
        self._consumer = consumer
        self._batch_size = batch_size
        self._claim_at = 0.0
        self._has_unrecorded = False
        self.counts = Counters()

    def run(self, stop: Event) -> None:
        """Record entries until ``stop`` is set. An entry that cannot be recorded stays pending and is tried again."""
        outage = OutageLog("ingest stream cannot be recorded", "ingest stream is recorded again")
        while not stop.is_set():
            try:
                self._record(self._claim() or self._read())
                outage.recovered()
            except (RedisError, PersistenceError) as error:
                if "NOGROUP" in str(error):
                    self._create_group()
                    continue
                outage.failed(error)
                self._has_unrecorded = True
                stop.wait(RETRY_SECONDS)

    def _create_group(self) -> None:
        """Create the group at the beginning of the stream, before the entries added while no recorder ran."""
        try:
            self._client.xgroup_create(INGEST_STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _read(self) -> Entries:
        """Read the consumer's own pending entries after a failure, otherwise new entries."""
        start = "0" if self._has_unrecorded else ">"
        reply: Any = self._client.xreadgroup(
            GROUP, self._consumer, {INGEST_STREAM: start}, count=self._batch_size, block=round(POLL_SECONDS * 1000)
        )
        entries = reply[0][1] if reply else []
        self._has_unrecorded = self._has_unrecorded and bool(entries)
        return list(entries)

    def _claim(self) -> Entries:
        """Claim entries that any consumer, this one included, read and did not acknowledge in time."""
        if time.monotonic() < self._claim_at:
            return []
        idle = round(CLAIM_AFTER_SECONDS * 1000)
        entries: Any
        _, entries, *_ = self._client.xautoclaim(
            INGEST_STREAM, GROUP, self._consumer, min_idle_time=idle, count=self._batch_size
        )
        if not entries:
            self._claim_at = time.monotonic() + CLAIM_AFTER_SECONDS / 2
        return list(entries)

    def _record(self, entries: Entries) -> None:
        if not entries:
            return
        messages = [
            Message(
                fields.get(b"channel", b"").decode(errors="replace"),
                fields.get(b"payload", b""),
                int(identity.split(b"-")[0]) / 1000,
                "stream",
            )
            for identity, fields in entries
        ]
        receipts = self._recorder.record(messages)
        ids = [identity for identity, _ in entries]
        with self._client.pipeline() as pipeline:
            pipeline.xack(INGEST_STREAM, GROUP, *ids)
            pipeline.xdel(INGEST_STREAM, *ids)
            pipeline.execute()
        self.counts.add(count_receipts(receipts))
