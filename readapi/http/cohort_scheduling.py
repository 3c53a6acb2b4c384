"""Cohort scheduling: requests that arrive together take each step of their processing together.

The cost of a response from memory is mostly the variety of code that runs: each part evicts the instructions and data
of the other parts from the processor's caches. If all requests take one step before any request takes the next step,
the caches are filled once for all of them.

Source: J. Larus and M. Parkes, "Using Cohort-Scheduling to Enhance Server Performance", USENIX Annual Technical
Conference, 2002.
"""

from collections.abc import Generator
from types import coroutine


@coroutine
def yield_to_cohort() -> Generator[None, None, None]:
    """Let all tasks that are ready run up to their next wait. Data in memory may change meanwhile."""
    yield
