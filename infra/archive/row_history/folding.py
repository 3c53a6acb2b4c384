"""The thread that folds the histories of one log, beside the thread of the archiver."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Lock, Thread

import structlog
from eventsourcing.persistence import PersistenceError
from psycopg import Error as DatabaseError

from domain.log import LogEntry
from infra.archive.row_history.worker import HistoryWorker
from infra.heartbeats.progress import Progress

logger = structlog.get_logger()

ROUND_SECONDS = 0.5
"""Seconds after which a history that is behind lets the next one fold."""

WAIT_SECONDS = 1.0
"""Longest wait for new events, in seconds. The leases must be extended between two waits."""


GATHER_SECONDS = 0.1
"""Seconds to wait for further events after a round, unless a history is behind. Each round costs some round trips."""

KEPT_EVENTS = 2_000
"""Highest number of archived events that wait in memory. A history that is further behind reads the archive."""


class HistoryFolding:
    """Folds the histories of one log as its archiver goes on. Neither of the two waits for the other.

    Args:
        log: The name of the log.
        histories: The workers of its histories, which this object alone uses.
    """

    def __init__(self, log: str, histories: Sequence[HistoryWorker]) -> None:
        self.progress = Progress()
        self._log = log
        self._histories = histories
        self._archived: list[LogEntry] = []
        self._lock = Lock()
        self._news = Event()
        self._stop = Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Fold until the context ends. The leases are then released."""
        self._stop.clear()
        self.progress.begin()
        thread = Thread(target=self._run, name=f"{self._log} histories", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._news.set()
            thread.join()

    def tell(self, archived: Sequence[LogEntry]) -> None:
        """Tell the thread which events were archived last, each once and in order."""
        with self._lock:
            self._archived = [*self._archived, *archived] if len(self._archived) < KEPT_EVENTS else []
        self._news.set()

    def _take(self) -> list[LogEntry] | None:
        """Return the events that were archived since the last call.

        Returns:
            The events, or an empty list if they were too many to keep. None: no events were archived.
        """
        if not self._news.is_set():
            return None
        self._news.clear()
        with self._lock:
            archived, self._archived = self._archived, []
        return archived

    def _run(self) -> None:
        while not self._stop.is_set():
            archived = self._take()
            for history in self._histories:
                history.run_round(ROUND_SECONDS, archived)
                self.progress.made()
            if not any(history.behind for history in self._histories):
                self._stop.wait(GATHER_SECONDS)
                self._news.wait(WAIT_SECONDS)
        try:
            for history in self._histories:
                history.release()
        except (PersistenceError, DatabaseError) as error:
            logger.warning("leases of histories not released", log=self._log, reason=str(error))
