"""Threads that run beside a test until a context ends."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event


@contextmanager
def running_threads(loops: Sequence[Callable[[Event], None]]) -> Iterator[None]:
    """Run each loop in a thread until the context ends. A loop ends when its event is set, and its error is raised."""
    stop = Event()
    with ThreadPoolExecutor(len(loops)) as threads:
        running = [threads.submit(loop, stop) for loop in loops]
        try:
            yield
        finally:
            stop.set()
        for loop in running:
            loop.result()
