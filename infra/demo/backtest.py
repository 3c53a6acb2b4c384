"""Backtests: what trading every signal of a pattern would have brought, after costs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from infra.demo.bars import Bars, FloatArray, IntArray

TRADING_DAYS_A_YEAR = 252


@dataclass(frozen=True)
class Results:
    """How a backtest ended, under the names that producers announce."""

    win_rate: float
    """0..1."""
    total_trades: int
    winning_trades: int
    """Trades that gained after costs."""
    roi: float
    """Gain on the capital, as a fraction; -1 is the loss of all."""
    sharpe_ratio: float
    """Of the daily returns, annualised, against a riskless return of 0."""
    max_drawdown: float
    """The deepest fall of the capital from a peak before it, 0..1."""
    duration_days: int
    """Trading days tested, in the market or not."""


def backtest(bars: Bars, directions: IntArray, hold_days: int, cost_basis_points: float) -> Results | None:
    """The results of following each signal in ``directions``: 1 long, -1 short, 0 none. None without a trade.

    A signal is known at the close of its bar: the trade opens at the next bar's open and closes at the close
    of the ``hold_days``-th bar after the signal. One trade at a time, with all the capital; a signal during a
    trade is left out, and so is one whose trade would not be over by the last bar. Each opening and each
    closing costs ``cost_basis_points``. A trade that has lost everything loses no more.
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
    """First bar, last bar and direction of each trade."""
    free_from = 0
    for signal in np.flatnonzero(directions).tolist():
        first, last = signal + 1, signal + hold_days
        if first >= free_from and last < len(directions):
            free_from = last + 1
            yield first, last, int(directions[signal])


def _trade_returns(bars: Bars, first: int, last: int, direction: int, cost: float) -> FloatArray:
    """The return of each day of one trade, as fractions."""
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
    return float(np.mean(daily_returns)) / deviation * math.sqrt(TRADING_DAYS_A_YEAR)


def _max_drawdown(capital: FloatArray) -> float:
    """``capital`` day by day, having been 1 at the start."""
    peak = np.maximum(np.maximum.accumulate(capital), 1)
    return float(np.max(1 - capital / peak))
