"""The intake: gathers messages into batches for the recorder, holding no more than a bounded backlog."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, Full, Queue
from threading import Event, Thread

import structlog
from eventsourcing.persistence import PersistenceError
from redis.exceptions import RedisError

from domain.announcements import Message, Receipt
from domain.errors import TickViewError
from infra.processes.outage import OutageLog
from infra.recording.counts import Counts, counted

logger = structlog.get_logger()

RETRY_SECONDS = 0.5
"""Between tries to record while Redis is away."""


Waiting = tuple[Message, "Future[Receipt] | None"]
"""A message, and who waits for its receipt."""


class BacklogFullError(TickViewError):
    """The recorder holds as many unrecorded messages as it may."""


class Intake:
    """A bounded queue in front of a recorder, and the thread that empties it in batches."""

    def __init__(
        self,
        record: Callable[[list[Message]], list[Receipt]],
        *,
        backlog: int,
        batch_size: int,
        batch_seconds: float,
    ) -> None:
        self._record = record
        self._queue: Queue[Waiting] = Queue(backlog)
        self._batch_size = batch_size
        self._batch_seconds = batch_seconds
        self._stop = Event()
        self._outage = OutageLog("could not record, will try again", "messages are recorded again")
        self._thread = Thread(target=self._run, name="intake", daemon=True)
        self.counts = Counts()

    def start(self) -> None:
        """Begin to record."""
        self._thread.start()

    def close(self) -> None:
        """Record what is held, then end."""
        self._stop.set()
        self._thread.join()

    def put(self, message: Message, timeout: float) -> None:
        """Take a message that nobody waits for; it is tried until it is recorded.

        Raises BacklogFullError if there is no room within ``timeout`` seconds.
        """
        self._put(message, None, timeout)

    def submit(self, message: Message) -> "Future[Receipt]":
        """Take a message whose sender waits; the future fails at once if it cannot be recorded now.

        Raises BacklogFullError if there is no room.
        """
        future: Future[Receipt] = Future()
        self._put(message, future, 0)
        return future

    def _put(self, message: Message, future: "Future[Receipt] | None", timeout: float) -> None:
        try:
            self._queue.put((message, future), block=timeout > 0, timeout=timeout or None)
        except Full:
            raise BacklogFullError(f"{self._queue.maxsize} messages wait to be recorded") from None

    def _run(self) -> None:
        while not (self._stop.is_set() and self._queue.empty()):
            batch = self._gather()
            while batch and (batch := self._try(batch)):
                if self._stop.wait(RETRY_SECONDS):
                    logger.error("messages given up at the end, unrecorded", messages=len(batch))
                    break

    def _gather(self) -> list[Waiting]:
        try:
            batch = [self._queue.get(timeout=0.2)]
        except Empty:
            return []
        deadline = time.monotonic() + self._batch_seconds
        while len(batch) < self._batch_size:
            try:
                batch.append(self._queue.get(timeout=max(0.0, deadline - time.monotonic())))
            except Empty:
                break
        # A sender that has gone no longer cancels what is being recorded.
        return [
            (message, future if future and future.set_running_or_notify_cancel() else None) for message, future in batch
        ]

    def _try(self, batch: list[Waiting]) -> list[Waiting]:
        """Record the batch; returns what is to be tried again."""
        try:
            receipts = self._record([message for message, _ in batch])
        except (RedisError, PersistenceError) as error:
            self._outage.failed(error)
            for _, future in batch:
                if future:
                    future.set_exception(error)
            return [(message, None) for message, future in batch if future is None]
        self._outage.recovered()
        for (_, future), receipt in zip(batch, receipts, strict=True):
            if future:
                future.set_result(receipt)
        self.counts.add(counted(receipts))
        return []
