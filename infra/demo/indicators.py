"""The indicators that go with a detection; the value at a bar depends on that bar and earlier ones alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import talib

from infra.demo.bars import Bars, FloatArray

MONTH, QUARTER = 21, 63
"""Trading days."""

RSI_DAYS, RANGE_DAYS, AVERAGE_DAYS = 14, 14, 20


@dataclass(frozen=True, eq=False)
class Indicators:
    """One value per bar; NaN where there are too few earlier bars."""

    price_change: FloatArray
    """Per cent against the previous close."""
    relative_strength: FloatArray
    """Growth over a quarter as a ratio to the market's; 1 is as strong as the market."""
    relative_volume: FloatArray
    """Volume as a ratio to the mean of the 20 bars before."""
    rsi: FloatArray
    """0 to 100."""
    sma_20: FloatArray
    """Dollars."""
    average_true_range: FloatArray
    """Dollars: how far the price moves in an ordinary day."""


def previous(values: FloatArray, bars: int = 1) -> FloatArray:
    """The values of so many bars before; NaN for the first ones."""
    return np.concatenate([np.full(min(bars, len(values)), np.nan), values[:-bars]])


def growth(bars: Bars) -> FloatArray:
    """Growth over the last quarter, as a ratio."""
    return bars.close / previous(bars.close, QUARTER)


def indicators(bars: Bars, market_growth: FloatArray) -> Indicators:
    """All indicators of ``bars``; ``market_growth`` is what ``growth`` is compared with, bar by bar."""
    average_volume = previous(talib.SMA(bars.volume, AVERAGE_DAYS))
    return Indicators(
        price_change=100 * (bars.close / previous(bars.close) - 1),
        relative_strength=growth(bars) / market_growth,
        relative_volume=bars.volume / average_volume,
        rsi=talib.RSI(bars.close, RSI_DAYS),
        sma_20=talib.SMA(bars.close, AVERAGE_DAYS),
        average_true_range=talib.ATR(bars.high, bars.low, bars.close, RANGE_DAYS),
    )


def market_growth(tickers: Mapping[str, Bars]) -> dict[str, FloatArray]:
    """For each ticker and each of its bars: the mean growth of all tickers that have a growth on that day."""
    days = np.unique(np.concatenate([bars.dates for bars in tickers.values()]))
    total, count = np.zeros(len(days)), np.zeros(len(days))
    for bars in tickers.values():
        own_growth = growth(bars)
        known = ~np.isnan(own_growth)
        at = np.searchsorted(days, bars.dates[known])
        total[at] += own_growth[known]
        count[at] += 1
    mean = np.divide(total, count, out=np.full(len(days), np.nan), where=count > 0)
    return {ticker: mean[np.searchsorted(days, bars.dates)] for ticker, bars in tickers.items()}
