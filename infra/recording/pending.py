"""Pending work: a server works on it while the caller does something else."""

from collections.abc import Generator
from typing import Generic, TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]
"""The steps of some work: a generator that yields before each wait for a server, at least once, and returns the result.
"""


def complete(steps: Steps[T]) -> T:
    """Run all remaining steps, wait for the servers, and return the result. The errors are those of the steps."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


class Pending(Generic[T]):
    """Work whose first step is done: it is sent to the servers. The errors of the constructor are those of the step.

    Args:
        steps: The steps, not started yet.
    """

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        next(steps)

    def result(self) -> T:
        """Run the other steps and return the result. Call this method at most once."""
        return complete(self._steps)
