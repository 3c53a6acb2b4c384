"""How messages come in over Redis: by pub/sub, and by the ingest stream, where nothing is lost."""

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
from infra.recording.counts import Counts, counted
from infra.recording.intake import RETRY_SECONDS, BacklogFullError, Intake
from infra.recording.recorder import Recorder

logger = structlog.get_logger()

GROUP = "tickview"
"""The consumer group of all recorders."""

PATIENCE_SECONDS = 2.0
"""How long a full backlog holds up pub/sub before messages are dropped: Redis itself buffers little."""

Entries = list[tuple[bytes, dict[bytes, bytes]]]
"""Entries of a stream: id and fields."""

CLAIM_AFTER_SECONDS = 10.0
"""A consumer that has not dealt with an entry for so long counts as dead."""


def listen(client: Redis, intake: Intake, stop: Event) -> None:
    """Put what is published on the producer's channels into the intake, until ``stop`` is set.

    Counts messages ``dropped`` because the backlog was full, and connection ``gaps``, in which messages may be missed.
    """
    outage = OutageLog("pub/sub interrupted, messages may be missed", "pub/sub goes on")
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(*CHANNELS)
        while not stop.is_set():
            try:
                heard = pubsub.get_message(timeout=0.5)
            except RedisError as error:
                intake.counts.add({"gaps": 1})
                outage.failed(error)
                stop.wait(RETRY_SECONDS)
                continue
            outage.recovered()
            if heard is None:
                continue
            message = Message(heard["channel"].decode(), heard["data"], time.time(), "pubsub")
            try:
                intake.put(message, PATIENCE_SECONDS)
            except BacklogFullError as error:
                intake.counts.add({"dropped": 1})
                logger.error("pub/sub message dropped", channel=message.channel, error=str(error))


class IngestReader:
    """One consumer of the ingest stream's group: reads, records, acknowledges; and claims from consumers that died."""

    def __init__(self, client: Redis, recorder: Recorder, consumer: str, batch_size: int) -> None:
        self._client = client
        self._recorder = recorder
        self._consumer = consumer
        self._batch_size = batch_size
        self._claim_at = 0.0
        self._unfinished = False
        self.counts = Counts()

    def run(self, stop: Event) -> None:
        """Until ``stop`` is set. An entry that could not be recorded stays pending and is tried again."""
        outage = OutageLog("could not record from the ingest stream, will try again", "the ingest stream is recorded")
        while not stop.is_set():
            try:
                self._record(self._claim() or self._read())
                outage.recovered()
            except (RedisError, PersistenceError) as error:
                if "NOGROUP" in str(error):
                    self._create_group()
                    continue
                outage.failed(error)
                self._unfinished = True
                stop.wait(RETRY_SECONDS)

    def _create_group(self) -> None:
        """From the stream's beginning: what was added before the first recorder ran counts too."""
        try:
            self._client.xgroup_create(INGEST_STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _read(self) -> Entries:
        """New entries, or first our own that could not be recorded."""
        start = "0" if self._unfinished else ">"
        reply: Any = self._client.xreadgroup(
            GROUP, self._consumer, {INGEST_STREAM: start}, count=self._batch_size, block=500
        )
        entries = reply[0][1] if reply else []
        self._unfinished = self._unfinished and bool(entries)
        return list(entries)

    def _claim(self) -> Entries:
        """Entries that a consumer, perhaps ourselves, read but did not deal with."""
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
        self.counts.add(counted(receipts))
