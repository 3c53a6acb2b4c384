"""Backtests of the demo: results equal a naive day-by-day account, and later bars have no influence."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.demo.backtest import Results, backtest
from infra.demo.bars import Bars, IntArray

prices = st.floats(1, 200, allow_nan=False)
cases = st.integers(2, 40).flatmap(
    lambda count: st.tuples(
        st.lists(prices, min_size=count, max_size=count),
        st.lists(prices, min_size=count, max_size=count),
        st.lists(st.sampled_from((0, 0, 1, -1)), min_size=count, max_size=count),
    )
)


def bars_of(opens: list[float], closes: list[float]) -> Bars:
    opened, closed = np.array(opens), np.array(closes)
    dates = np.datetime64("2000-01-03") + np.arange(len(opens))
    return Bars(dates, opened, np.maximum(opened, closed), np.minimum(opened, closed), closed, np.full(len(opens), 1e6))


def results_by_account(bars: Bars, directions: IntArray, hold_days: int, cost_basis_points: float) -> Results | None:
    """Compute the results day by day with the capital of an account."""
    capital, paid, entry, direction = 1.0, 1.0, -1, 0
    account, gains = [1.0], []
    for day in range(len(bars)):
        if not direction and day and directions[day - 1] and day - 1 + hold_days < len(bars):
            entry, direction, paid = day, int(directions[day - 1]), capital
            capital *= 1 - cost_basis_points / 10_000
        if direction:
            before = bars.open[day] if day == entry else bars.close[day - 1]
            capital *= max(0.0, 1 + direction * (bars.close[day] / before - 1))
            if day == entry + hold_days - 1:
                capital *= 1 - cost_basis_points / 10_000
                gains.append(capital / paid - 1 if paid else 0.0)
                direction = 0
        account.append(capital)
    if not gains:
        return None
    returns = [now / before - 1 if before else 0.0 for before, now in pairwise(account)]
    deviation = float(np.std(returns))
    return Results(
        win_rate=sum(gain > 0 for gain in gains) / len(gains),
        total_trades=len(gains),
        winning_trades=sum(gain > 0 for gain in gains),
        roi=capital - 1,
        sharpe_ratio=float(np.mean(returns)) / deviation * 252**0.5 if deviation else 0.0,
        max_drawdown=max(1 - now / max(account[: day + 1]) for day, now in enumerate(account)),
        duration_days=len(bars),
    )


@given(case=cases, hold_days=st.integers(1, 5), cost=st.sampled_from((0.0, 5.0, 20.0)))
@settings(max_examples=300, deadline=None)
def test_results_equal_a_day_by_day_account(
    case: tuple[list[float], list[float], list[int]], hold_days: int, cost: float
) -> None:
    opens, closes, signals = case
    bars, directions = bars_of(opens, closes), np.array(signals)
    results = backtest(bars, directions, hold_days, cost)
    expected = results_by_account(bars, directions, hold_days, cost)
    if results is None or expected is None:
        assert results == expected
        return
    assert results.total_trades == expected.total_trades
    assert results.roi == pytest.approx(expected.roi, rel=1e-6, abs=1e-9)
    assert results.max_drawdown == pytest.approx(expected.max_drawdown, rel=1e-6, abs=1e-9)
    assert 0 <= results.win_rate <= 1
    assert results.win_rate == results.winning_trades / results.total_trades
    assert results.roi >= -1
    assert 0 <= results.max_drawdown <= 1
    assert np.isfinite(results.sharpe_ratio)


def test_a_long_and_a_short_trade_computed_by_hand() -> None:
    bars = bars_of([10, 20, 21, 40, 30, 30], [10, 22, 22, 44, 36, 27])
    results = backtest(bars, np.array([1, 0, -1, 0, 0, 0]), hold_days=2, cost_basis_points=0)
    # Bought at 20, sold at 22: +10 %. Sold at 40, 44 after a day (-10 %), 36 after two (+18.18 %).
    assert results is not None
    assert (results.total_trades, results.winning_trades, results.win_rate) == (2, 2, 1.0)
    assert results.roi == pytest.approx(1.1 * 0.9 * (1 + 8 / 44) - 1)
    assert results.max_drawdown == pytest.approx(0.1)
    returns = [0, 0.1, 0, -0.1, 8 / 44, 0]
    assert results.sharpe_ratio == pytest.approx(np.mean(returns) / np.std(returns) * 252**0.5)
    assert results.duration_days == 6


def test_costs_are_paid_at_the_entry_and_the_exit() -> None:
    bars = bars_of([100, 100, 100], [100, 100, 100])
    results = backtest(bars, np.array([1, 0, 0]), hold_days=2, cost_basis_points=100)
    assert results is not None
    assert results.roi == pytest.approx(0.99**2 - 1)
    assert results.winning_trades == 0


def test_a_short_trade_loses_at_most_all_capital() -> None:
    results = backtest(bars_of([10, 10, 10], [10, 50, 5]), np.array([-1, 0, 0]), hold_days=2, cost_basis_points=5)
    assert results is not None
    assert (results.roi, results.max_drawdown) == (-1.0, 1.0)


def test_without_a_finished_trade_there_are_no_results() -> None:
    bars = bars_of([10, 11, 12], [10, 11, 12])
    assert backtest(bars, np.array([0, 0, 0]), hold_days=1, cost_basis_points=5) is None
    assert backtest(bars, np.array([0, 1, 0]), hold_days=2, cost_basis_points=5) is None


@given(case=cases, hold_days=st.integers(1, 5), data=st.data())
@settings(max_examples=200, deadline=None)
def test_prices_up_to_the_day_of_the_first_signal_have_no_influence(
    case: tuple[list[float], list[float], list[int]], hold_days: int, data: st.DataObject
) -> None:
    opens, closes, signals = case
    directions = np.array(signals)
    first = int(np.argmax(directions != 0)) if directions.any() else 0
    others = data.draw(st.lists(prices, min_size=first + 1, max_size=first + 1))
    changed = bars_of(others + opens[first + 1 :], others + closes[first + 1 :])
    assert backtest(bars_of(opens, closes), directions, hold_days, 5) == backtest(changed, directions, hold_days, 5)


@given(case=cases, hold_days=st.integers(1, 5), data=st.data())
@settings(max_examples=200, deadline=None)
def test_later_bars_do_not_change_earlier_trades(
    case: tuple[list[float], list[float], list[int]], hold_days: int, data: st.DataObject
) -> None:
    """A backtest of all bars without the later signals has the trades of a backtest that ends before them."""
    opens, closes, signals = case
    end = data.draw(st.integers(1, len(opens)))
    bars, directions = bars_of(opens, closes), np.array(signals)
    early = backtest(bars.first(end), directions[:end], hold_days, 5)
    traded = np.where(np.arange(len(opens)) + hold_days < end, directions, 0)
    late = backtest(bars, traded, hold_days, 5)
    if early is None or late is None:
        assert early == late
        return
    compared = ("total_trades", "winning_trades", "win_rate", "roi", "max_drawdown")
    assert {name: dataclasses.asdict(early)[name] for name in compared} == pytest.approx(
        {name: dataclasses.asdict(late)[name] for name in compared}
    )
