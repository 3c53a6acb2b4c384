"""A subscription to an application sequence. It blocks on the Redis stream and does not poll."""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Event

import structlog
from eventsourcing.persistence import ApplicationRecorder, Notification, Subscription

from domain.log import LogEntry
from infra.log.errors import ArchiveUnavailableError
from infra.log.event_log import EventLog
from infra.redis.cluster import UNREACHABLE_ERRORS

BLOCK_SECONDS = 1.0
"""Seconds for which one read waits for an event. ``stop`` takes effect within this time."""

RETRY_SECONDS = 0.5
"""Seconds between two attempts while the server cannot be reached."""

BATCH_SIZE = 500
"""Highest number of events per read."""

_logger = structlog.get_logger(__name__)


class LogSubscription(Subscription[ApplicationRecorder]):
    """An endless iterator over the notifications of a log. It resumes by itself after an outage of the server.

    Args:
        recorder: The recorder that the library's base class refers to.
        log: The log to read.
        to_notification: Converts a log entry.
        gt: The position after which to begin.
        topics: The topics to return. An empty sequence selects all topics.
    """

    def __init__(
        self,
        recorder: ApplicationRecorder,
        log: EventLog,
        to_notification: Callable[[LogEntry], Notification],
        gt: int | None = None,
        topics: Sequence[str] = (),
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._log = log
        self._to_notification = to_notification
        self._position = gt or 0
        self._selected_topics = frozenset(topics)
        self._ready: deque[Notification] = deque()
        self._stopped = Event()

    def stop(self) -> None:
        """End the iteration. A thread that waits for an event ends its iteration within a second."""
        super().stop()
        self._stopped.set()

    def __next__(self) -> Notification:
        """Return the next notification, and wait for it in this thread."""
        while not self._stopped.is_set():
            if self._ready:
                return self._ready.popleft()
            self._read()
        raise StopIteration

    def _read(self) -> None:
        try:
            entries = self._log.wait(self._position, BATCH_SIZE, BLOCK_SECONDS)
        except (*UNREACHABLE_ERRORS, ArchiveUnavailableError) as error:
            _logger.warning("subscription interrupted", log=self._log.name, reason=str(error))
            self._stopped.wait(RETRY_SECONDS)
            return
        for entry in entries:
            self._position = entry.position
            if not self._selected_topics or entry.topic in self._selected_topics:
                self._ready.append(self._to_notification(entry))
