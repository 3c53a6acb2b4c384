"""Memory of a process: objects that the garbage collector ignores, and the return of free memory to the system."""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def permanent_objects() -> Iterator[None]:
    """Let the garbage collector ignore all objects that exist at the end of the context: those of modules, above all.

    They live as long as the process. The collector would visit them again and again, which takes a seventh of the time
    of the imports. It would also write to them, so that forked processes could not share their memory.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _find_trim() -> Callable[[int], int] | None:
    """Return ``malloc_trim`` of the GNU C library, or None where there is none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


_trim = _find_trim()


def return_free_memory() -> None:
    """Return the memory of freed objects to the operating system.

    The C library keeps the memory below the highest block that is in use: after a burst, hundreds of megabytes. A call
    takes less than a millisecond, or about 0.15 ms for each megabyte that it returns.
    """
    if _trim is not None:
        _trim(0)


BATCH_OBJECTS = 50_000
"""Number of new objects after which the garbage collector looks for cycles: about those of 1,000 events."""


def collect_garbage_by_batch() -> None:
    """Let the garbage collector run about once per batch of events, and ignore the objects that exist now.

    The objects of a batch have no cycles and are freed without the collector. By default it would nevertheless visit
    them dozens of times per batch, which takes a tenth of the time of folding, and a fifth of that of recording.
    """
    gc.freeze()
    gc.set_threshold(BATCH_OBJECTS)
