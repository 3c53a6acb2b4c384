"""The progress of a thread that must work as long as its process."""

import time
from collections.abc import Callable
from threading import Event


class Progress:
    """When a thread last did its work, and the error that has prevented the work since then.

    The thread calls ``made`` and ``failed``. Other threads read the progress.
    """

    def __init__(self) -> None:
        self._made: float | None = None
        self.error = ""
        """Why the last attempt failed. Empty: it did not fail."""
        self.begin()

    def begin(self) -> None:
        """Note that the thread begins now, if that is later than the creation of this object."""
        self._begun = time.monotonic()

    def made(self, until: float | None = None) -> None:
        """Record that the thread has done its work, or had nothing to do.

        Args:
            until: Moment on the monotonic clock up to which the thread has done its work. None: now.
        """
        self._made = time.monotonic() if until is None else until
        self.error = ""

    def failed(self, error: Exception) -> None:
        """Record that the thread could not do its work."""
        self.error = " ".join(f"{type(error).__name__}: {error}".split())

    @property
    def has_begun(self) -> bool:
        """True once the thread has done its work for the first time."""
        return self._made is not None

    @property
    def age(self) -> float:
        """Seconds since the thread last did its work, or since its beginning."""
        return time.monotonic() - (self._begun if self._made is None else self._made)

    def wait(self, stop: Event, seconds: float, every_second: Callable[[], object] = lambda: None) -> None:
        """Wait for the next work, at most until ``stop`` is set. Unless the last attempt failed, waiting is progress.

        Args:
            stop: The event that ends the wait.
            seconds: Longest wait.
            every_second: Called at the beginning and once per second.
        """
        end = time.monotonic() + seconds
        while not stop.is_set() and (left := end - time.monotonic()) > 0:
            if not self.error:
                self.made()
            every_second()
            stop.wait(min(1.0, left))
