"""A subscription to an application sequence: blocked on the stream, not polling."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING

import structlog
from eventsourcing.persistence import Notification, Subscription

from infra.eventlog.archive import ArchiveUnavailableError
from infra.eventlog.nodes import AWAY

if TYPE_CHECKING:
    from infra.eventlog.recorders import RedisApplicationRecorder

BLOCK_SECONDS = 1.0
"""How long the server lets one read wait: ``stop`` takes effect within it."""

PAUSE_SECONDS = 0.5
"""Between attempts while the server is away."""

CHUNK = 500
"""Events read at once."""

_logger = structlog.get_logger(__name__)


class LogSubscription(Subscription["RedisApplicationRecorder"]):
    """The notifications after ``gt``, of ``topics`` if any are named; goes on after its server was away."""

    def __init__(self, recorder: RedisApplicationRecorder, gt: int | None = None, topics: Sequence[str] = ()) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._position = gt or 0
        self._wanted = frozenset(topics)
        self._ready: deque[Notification] = deque()
        self._stopped = Event()

    def stop(self) -> None:
        """End the iteration, at once or, where another thread is waiting for an event, within a second."""
        super().stop()
        self._stopped.set()

    def __next__(self) -> Notification:
        """The next notification; waits for it in this thread."""
        while not self._stopped.is_set():
            if self._ready:
                return self._ready.popleft()
            self._read()
        raise StopIteration

    def _read(self) -> None:
        try:
            entries = self._recorder.log.wait(self._position, CHUNK, BLOCK_SECONDS)
        except (*AWAY, ArchiveUnavailableError) as error:
            _logger.warning("subscription_waits", log=self._recorder.log.name, reason=str(error))
            self._stopped.wait(PAUSE_SECONDS)
            return
        for entry in entries:
            self._position = entry.position
            if not self._wanted or entry.topic in self._wanted:
                self._ready.append(self._recorder.notification(entry))
