"""Samples that a thread takes while the chaos goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

Sample = TypeVar("Sample")

SAMPLE_SECONDS = 0.3
"""Seconds between two samples."""


@contextmanager
def sampling(take_sample: Callable[[], Sample]) -> Iterator[list[Sample]]:
    """Take samples in a thread until the context ends. Yield the list to which the thread adds them."""
    samples: list[Sample] = []
    ends = Event()

    def sample() -> None:
        while not ends.wait(SAMPLE_SECONDS):
            samples.append(take_sample())

    thread = Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ends.set()
        thread.join()
