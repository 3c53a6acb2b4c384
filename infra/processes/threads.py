"""Threads that run as long as their process. A thread that ends earlier is a defect and ends the process."""

from collections.abc import Callable, Sequence
from threading import Event, Thread


def run_threads(threads: Sequence[Thread], stop: Event, every_second: Callable[[], object] = lambda: None) -> None:
    """Run the threads until ``stop`` is set, then wait for their ends.

    Args:
        threads: The threads, not yet started. Each must end soon after ``stop`` is set.
        stop: The event that ends the threads.
        every_second: Called once per second in this thread.

    Raises:
        RuntimeError: A thread ended before ``stop`` was set.
    """
    for thread in threads:
        thread.start()
    while not stop.wait(1.0):
        every_second()
        for thread in threads:
            # In this order: a thread may end because the stop was requested meanwhile.
            if not thread.is_alive() and not stop.is_set():
                raise RuntimeError(f"The thread {thread.name} ended before a stop was requested.")
    for thread in threads:
        thread.join()
