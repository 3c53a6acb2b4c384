"""The exponent of growing costs, and the measurements from which it follows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.bench.growth.measurements import FLAT, LINEAR, Growth, Measurements, Quantity, growth_exponent

SIZES = [1_000, 10_000, 100_000, 1_000_000]


@given(st.floats(-2, 3), st.floats(1e-6, 1e6))
def test_the_exponent_of_a_power_is_the_power(exponent: float, factor: float) -> None:
    costs = [factor * size**exponent for size in SIZES]
    assert growth_exponent(SIZES, costs) == pytest.approx(exponent, abs=1e-6)


def test_the_exponent_averages_costs_that_vary() -> None:
    assert growth_exponent(SIZES, [90, 110, 110, 90]) == pytest.approx(FLAT, abs=0.01)
    assert growth_exponent(SIZES, [1.2, 9, 110, 950]) == pytest.approx(LINEAR, abs=0.05)
    assert growth_exponent([1, 100], [1, 1_000]) == pytest.approx(1.5)


@pytest.mark.parametrize(("sizes", "costs"), [([7], [1.0]), ([7, 7], [1.0, 2.0]), ([1, 10], [0.0, 1.0])])
def test_too_few_sizes_or_costs_that_cannot_be_measured_have_no_exponent(sizes: list[int], costs: list[float]) -> None:
    assert growth_exponent(sizes, costs) is None


def test_a_growth_has_the_median_of_the_costs_at_each_size_in_the_order_of_measurement() -> None:
    measured, scan, fold = Measurements(), Quantity("scan", "µs"), Quantity("fold", "µs/event", LINEAR)
    for cost in (5.0, 1.0, 90.0):
        measured.add(scan, 10, cost)
        measured.add(fold, 10, cost)
        measured.add(scan, 1_000, 10 * cost)
    assert measured.growths() == [Growth(scan, {10: 5.0, 1_000: 50.0}), Growth(fold, {10: 5.0})]
    assert [growth.exponent for growth in measured.growths()] == [pytest.approx(0.5), None]
