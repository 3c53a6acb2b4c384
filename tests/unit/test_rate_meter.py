"""The rate of folding over the last seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.projecting import rate_meter
from infra.projecting.rate_meter import RATE_SECONDS, RateMeter


@given(batches=st.lists(st.tuples(st.floats(0, 2 * RATE_SECONDS), st.integers(0, 1_000)), min_size=1))
def test_the_rate_counts_the_batches_of_the_last_seconds(batches: list[tuple[float, int]]) -> None:
    now = 100.0
    recorded = [(now, 0)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_meter.time, "monotonic", lambda: now)
        meter = RateMeter()
        for seconds, events in batches:
            now += seconds
            recorded.append((now, events))
            rate = meter.record(events)
            recent = [batch for batch in recorded if batch[0] >= now - RATE_SECONDS]
            since = min(recent[0][0], now - 1.0)
            assert rate == sum(number for _, number in recent) / (now - since)
