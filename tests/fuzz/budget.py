"""The time that each fuzzer takes."""

import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
"""Minutes for each fuzzer. 0: one round of few examples, as a smoke test."""

EXAMPLES = 1_000 if MINUTES else 100
"""Number of examples of a round. Each round begins with another random seed."""

TIMEOUT_SECONDS = 60 * MINUTES + 300
"""Seconds after which a fuzzer has failed."""


def fuzz(check: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> None:
    """Call ``check`` with random values until the time is over. A failure shows the smallest values that fail."""

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.tuples(*strategies))
    def one_round(values: tuple[Any, ...]) -> None:
        check(*values)

    until = time.monotonic() + 60 * MINUTES
    one_round()
    while time.monotonic() < until:
        one_round()
