"""Intake: a bounded queue of messages in front of the recorder, which records them in batches."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import NamedTuple

import structlog
from eventsourcing.persistence import PersistenceError
from redis.exceptions import RedisError

from domain.announcements import Message, Receipt
from domain.errors import TickViewError
from infra.heartbeats.progress import Progress
from infra.log.bounds import BATCH_BYTES
from infra.processes.outage import OutageLog
from infra.recording.counters import Counters, count_receipts

logger = structlog.get_logger()

RETRY_SECONDS = 0.5
"""Seconds between two attempts to record while Redis is unavailable."""

POLL_SECONDS = 0.2
"""Longest wait for a message, in seconds, before the thread checks whether it should stop."""


class QueuedMessage(NamedTuple):
    """A message in the queue."""

    message: Message
    receipt: "Future[Receipt] | None"
    """The future of a sender that waits for the receipt. None: no sender waits."""
    put_at: float
    """Moment on the monotonic clock at which the message was put into the queue."""


class BacklogFullError(TickViewError):
    """The queue is full of messages that are not recorded yet."""


class Intake:
    """A bounded queue in front of a recorder, with a thread that records the messages in batches.

    Args:
        record: Records a batch. It raises RedisError or PersistenceError if it cannot record now.
        backlog: Highest number of messages in the queue.
        batch_size: Highest number of messages per batch.
        batch_seconds: Seconds after the first message of a batch within which others join the batch.
    """

    def __init__(
        self,
        record: Callable[[list[Message]], list[Receipt]],
        *,
        backlog: int,
        batch_size: int,
        batch_seconds: float,
    ) -> None:
        self._record = record
        self._queue: Queue[QueuedMessage] = Queue(backlog)
        self._batch_size = batch_size
        self._batch_seconds = batch_seconds
        self._stop = Event()
        self._outage = OutageLog("messages cannot be recorded", "messages are recorded again")
        self._thread: Thread | None = None
        self.counts = Counters()
        self.progress = Progress()

    def start(self) -> None:
        """Start the thread. It belongs to the process that calls this method, not to the process that created this."""
        self.progress.begin()
        self._thread = Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """True while the thread that records messages runs."""
        return self._thread is not None and self._thread.is_alive()

    def check_thread(self) -> None:
        """Raise RuntimeError if the thread has ended before ``close``."""
        if not self.is_running:
            raise RuntimeError("The thread of the intake ended before a stop was requested.")

    def close(self) -> None:
        """Record the messages in the queue, then end the thread. Do nothing if it was not started."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def put(self, message: Message, timeout: float) -> None:
        """Add a message without a waiting sender. The intake tries to record it until it succeeds.

        Raises:
            BacklogFullError: The queue has no room within ``timeout`` seconds.
        """
        self._put(message, None, timeout)

    def submit(self, message: Message) -> "Future[Receipt]":
        """Add a message whose sender waits. The future fails at once if the message cannot be recorded now.

        Raises:
            BacklogFullError: The queue has no room.
        """
        future: Future[Receipt] = Future()
        self._put(message, future, 0)
        return future

    def _put(self, message: Message, receipt: "Future[Receipt] | None", timeout: float) -> None:
        queued = QueuedMessage(message, receipt, time.monotonic())
        try:
            self._queue.put(queued, block=timeout > 0, timeout=timeout or None)
        except Full:
            raise BacklogFullError(
                f"{self._queue.maxsize} messages already wait to be recorded. Send the message again later."
            ) from None

    def _run(self) -> None:
        while not (self._stop.is_set() and self._queue.empty()):
            batch = self._gather()
            if not batch:
                self.progress.made()
            while batch and (batch := self._record_batch(batch)):
                if self._stop.wait(RETRY_SECONDS):
                    logger.error("messages lost at shutdown", messages=len(batch))
                    break

    def _gather(self) -> list[QueuedMessage]:
        """Wait for a first message, then gather the messages of its batch."""
        try:
            batch = [self._queue.get(timeout=POLL_SECONDS)]
        except Empty:
            return []
        deadline = time.monotonic() + self._batch_seconds
        size = len(batch[0].message.payload)
        while len(batch) < self._batch_size and size < BATCH_BYTES:
            try:
                batch.append(self._queue.get(timeout=max(0.0, deadline - time.monotonic())))
            except Empty:
                break
            size += len(batch[-1].message.payload)
        # From here on, a sender that disconnects cannot cancel the recording of its message.
        return [
            QueuedMessage(message, future if future and future.set_running_or_notify_cancel() else None, put_at)
            for message, future, put_at in batch
        ]

    def _record_batch(self, batch: list[QueuedMessage]) -> list[QueuedMessage]:
        """Record a batch. Return the messages to try again."""
        try:
            receipts = self._record([queued.message for queued in batch])
        except (RedisError, PersistenceError) as error:
            self._outage.failed(error)
            self.progress.failed(error)
            for queued in batch:
                if queued.receipt:
                    queued.receipt.set_exception(error)
            return [queued for queued in batch if queued.receipt is None]
        self._outage.recovered()
        # The messages behind the batch are lost if this process is killed.
        self.progress.made(until=batch[-1].put_at)
        for queued, receipt in zip(batch, receipts, strict=True):
            if queued.receipt:
                queued.receipt.set_result(receipt)
        self.counts.add(count_receipts(receipts))
        return []
