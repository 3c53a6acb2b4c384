"""The error of a benchmark that cannot be completed."""

from domain.errors import TickViewError


class BenchmarkError(TickViewError):
    """A benchmark cannot be completed: a process does not start, or its answers are missing or wrong."""
