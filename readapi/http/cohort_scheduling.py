"""Lets requests that arrive together go through their answers together, one step after the other: cohort scheduling.

What is dear in an answer from memory is less what is done than how much different code does it: each part pushes the
others' instructions and data out of the processor's caches. Where all requests take a step before any takes the next,
the first one pays for all (J. Larus and M. Parkes, "Using Cohort-Scheduling to Enhance Server Performance", USENIX
Annual Technical Conference, 2002).
"""

from collections.abc import Generator
from types import coroutine


@coroutine
def together() -> Generator[None, None, None]:
    """Let all others who are ready come to where they next wait; what is in memory may change meanwhile."""
    yield
