"""Rate limits: no client exceeds its limit, every client can use its limit, and the table is bounded."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readapi.access.guard import network_of
from readapi.access.rate_limits import MAX_BUCKETS, RateLimits

steps = st.lists(st.tuples(st.floats(0, 10, allow_nan=False), st.sampled_from("ab")), max_size=60)


class Clock:
    """A clock that a test moves by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.floats(0.1, 50), st.integers(1, 20), steps)
def test_no_period_has_more_requests_than_the_rate_and_one_burst(
    rate: float, burst: int, requests: list[tuple[float, str]]
) -> None:
    clock = Clock()
    limits = RateLimits(rate, burst, clock)
    allowed: dict[str, list[float]] = {"a": [], "b": []}
    for pause, client in requests:
        clock.now += pause
        if limits.spend(client) is None:
            allowed[client].append(clock.now)
    for times in allowed.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                assert last - first + 1 <= burst + rate * (times[last] - times[first]) + 1e-6


@given(st.floats(0.1, 50), st.integers(1, 20))
def test_a_client_that_waits_as_long_as_required_is_allowed(rate: float, burst: int) -> None:
    clock = Clock()
    limits = RateLimits(rate, burst, clock)
    assert [limits.spend("a") for _ in range(burst)] == [None] * burst
    wait = limits.spend("a")
    assert wait == ceil(1 / rate)
    assert limits.spend("b") is None
    clock.now += wait + 1e-6
    assert limits.spend("a") is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::/64"),
        ("a:path", "a:path"),
    ],
)
def test_an_ipv6_address_counts_as_its_network(address: str, network: str) -> None:
    assert network_of(address) == network


def test_the_table_is_bounded_and_removes_the_oldest_clients() -> None:
    clock = Clock()
    limits = RateLimits(1, 1, clock)
    assert limits.spend("first") is None
    for number in range(MAX_BUCKETS):
        assert limits.spend(str(number)) is None
    assert limits.spend(str(MAX_BUCKETS - 1)) == 1
    assert limits.spend("first") is None
    assert len(limits.clients) <= MAX_BUCKETS
    # Full buckets are removed first.
    clock.now += 2
    later = {f"later {number}" for number in range(MAX_BUCKETS)}
    assert {limits.spend(client) for client in later} == {None}
    assert limits.clients == later
