"""Backtests: the result of trading every signal of a pattern, after costs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from infra.demo.bars import Bars, FloatArray, IntArray

TRADING_DAYS_PER_YEAR = 252


@dataclass(frozen=True)
class Results:
    """The results of a backtest, with the field names of the wire format."""

    win_rate: float
    """Share of trades with a gain, 0 to 1."""
    total_trades: int
    winning_trades: int
    """Number of trades with a gain after costs."""
    roi: float
    """Return on investment as a fraction of the capital. -1 is a total loss."""
    sharpe_ratio: float
    """Annualised Sharpe ratio of the daily returns, with a risk-free return of 0."""
    max_drawdown: float
    """Largest loss of capital since an earlier peak, as a fraction of the peak, 0 to 1."""
    duration_days: int
    """Number of tested trading days, including days without a trade."""


def backtest(bars: Bars, directions: IntArray, hold_days: int, cost_basis_points: float) -> Results | None:
    """Trade each signal and return the results.

    A signal is known at the close of its bar. The trade opens at the open of the next bar. It closes at the close of
    the ``hold_days``-th bar after the signal. There is one trade at a time, with the whole capital. A signal during a
    trade is ignored, and so is a signal whose trade would end after the last bar. A trade cannot lose more than the
    capital.

    Args:
        bars: The bars to trade on.
        directions: The signal at each bar: 1 long, -1 short, 0 none.
        hold_days: Duration of a trade, in trading days.
        cost_basis_points: Cost of each opening and of each closing, in basis points of the capital.

    Returns:
        The results; None if there was no trade.
    """
    trades = list(_trades(directions, hold_days))
    if not trades:
        return None
    cost = cost_basis_points / 10_000
    daily_returns = np.zeros(len(bars))
    for first, last, direction in trades:
        daily_returns[first : last + 1] = _trade_returns(bars, first, last, direction, cost)
    gains = [np.prod(1 + daily_returns[first : last + 1]) - 1 for first, last, _ in trades]
    winning_trades = sum(bool(gain > 0) for gain in gains)
    capital = np.cumprod(1 + daily_returns, dtype=np.float64)
    return Results(
        win_rate=winning_trades / len(trades),
        total_trades=len(trades),
        winning_trades=winning_trades,
        roi=float(capital[-1] - 1),
        sharpe_ratio=_sharpe_ratio(daily_returns),
        max_drawdown=_max_drawdown(capital),
        duration_days=len(bars),
    )


def _trades(directions: IntArray, hold_days: int) -> Iterator[tuple[int, int, int]]:
    """Yield the first bar, the last bar and the direction of each trade."""
    free_from = 0
    for signal in np.flatnonzero(directions).tolist():
        first, last = signal + 1, signal + hold_days
        if first >= free_from and last < len(directions):
            free_from = last + 1
            yield first, last, int(directions[signal])


def _trade_returns(bars: Bars, first: int, last: int, direction: int, cost: float) -> FloatArray:
    """Return the daily returns of one trade, as fractions."""
    before = np.append(bars.open[first], bars.close[first:last])
    returns = np.maximum(1 + direction * (bars.close[first : last + 1] / before - 1), 0)
    returns[0] *= 1 - cost
    returns[-1] *= 1 - cost
    daily_returns: FloatArray = returns - 1
    return daily_returns


def _sharpe_ratio(daily_returns: FloatArray) -> float:
    deviation = float(np.std(daily_returns))
    if deviation == 0:
        return 0.0
    return float(np.mean(daily_returns)) / deviation * math.sqrt(TRADING_DAYS_PER_YEAR)


def _max_drawdown(capital: FloatArray) -> float:
    """Return the maximum drawdown of a daily capital that starts at 1."""
    peak = np.maximum(np.maximum.accumulate(capital), 1)
    return float(np.max(1 - capital / peak))
