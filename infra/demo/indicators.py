"""Indicators of a chart. The value at a bar depends only on that bar and on earlier bars."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import talib

from infra.demo.bars import Bars, FloatArray

MONTH, QUARTER = 21, 63
"""Trading days of a month and of a quarter."""

RSI_DAYS, RANGE_DAYS, AVERAGE_DAYS = 14, 14, 20
"""Periods of the relative strength index, the average true range and the moving averages, in trading days."""


@dataclass(frozen=True, eq=False)
class Indicators:
    """Indicators with one value per bar. A value is NaN where there are too few earlier bars."""

    price_change: FloatArray
    """Change since the previous close, in per cent."""
    relative_strength: FloatArray
    """Growth over a quarter, as a ratio to the growth of the market."""
    relative_volume: FloatArray
    """Volume, as a ratio to the mean volume of the 20 bars before."""
    rsi: FloatArray
    """Relative strength index, 0 to 100."""
    sma_20: FloatArray
    """Simple moving average of 20 closes, in dollars."""
    average_true_range: FloatArray
    """Average daily movement of the price, in dollars."""


def previous(values: FloatArray, bars: int = 1) -> FloatArray:
    """Return for each bar the value ``bars`` bars earlier; NaN where there is none."""
    return np.concatenate([np.full(min(bars, len(values)), np.nan), values[:-bars]])


def growth(bars: Bars) -> FloatArray:
    """Return the growth over the last quarter, as the ratio of two closes."""
    return bars.close / previous(bars.close, QUARTER)


def indicators(bars: Bars, market_growth: FloatArray) -> Indicators:
    """Return all indicators of ``bars``. ``market_growth`` is the growth of the market at each bar."""
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
    """Return for each bar of each ticker the mean growth of all tickers on that day."""
    days = np.unique(np.concatenate([bars.dates for bars in tickers.values()]))
    total, count = np.zeros(len(days)), np.zeros(len(days))
    for bars in tickers.values():
        own_growth = growth(bars)
        known = ~np.isnan(own_growth)
        places = np.searchsorted(days, bars.dates[known])
        total[places] += own_growth[known]
        count[places] += 1
    mean = np.divide(total, count, out=np.full(len(days), np.nan), where=count > 0)
    return {ticker: mean[np.searchsorted(days, bars.dates)] for ticker, bars in tickers.items()}
