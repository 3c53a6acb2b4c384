"""Threads that work as long as their process does: one that ends before is a fault, which ends the process."""

from collections.abc import Callable, Sequence
from threading import Event, Thread


def run_threads(threads: Sequence[Thread], stop: Event, every_second: Callable[[], object] = lambda: None) -> None:
    """Run the threads until ``stop`` is set and they have ended. Raises RuntimeError if one ends before."""
    for thread in threads:
        thread.start()
    while not stop.wait(1.0):
        every_second()
        for thread in threads:
            if not thread.is_alive():
                raise RuntimeError(f"the {thread.name} thread ended")
    for thread in threads:
        thread.join()
