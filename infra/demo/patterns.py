"""The patterns: for each, on which bars of a chart it appears and in which direction it points.

Candlesticks are found by TA-Lib, breakouts, gaps and volume spikes by the rules below. A pattern is seen on
the bar that completes it: nothing here looks ahead.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import talib

from infra.demo.bars import Bars, BoolArray, FloatArray, IntArray
from infra.demo.indicators import MONTH, QUARTER, Indicators, previous

WEEK, YEAR = 5, 252
"""Trading days."""

WARM_UP = QUARTER
"""Bars before the first detection, so that every indicator has its value."""

SPIKE_VOLUME = 2.0
BREAKOUT_VOLUME = 1.5
"""Ratios to the usual volume."""

Finder = Callable[[Bars, Indicators], IntArray]
"""For each bar 1 where the pattern points up, -1 where it points down, 0 where there is none."""


@dataclass(frozen=True)
class Pattern:
    """One kind of pattern."""

    name: str
    tier: str
    horizon: int
    """Trading days for which the pattern says something about the price."""
    find: Finder

    def directions(self, bars: Bars, values: Indicators) -> IntArray:
        """1, -1 or 0 for each bar; 0 during the warm-up."""
        found = self.find(bars, values)
        found[:WARM_UP] = 0
        return found


def _candle(function: str) -> Finder:
    def find(bars: Bars, _: Indicators) -> IntArray:
        found = getattr(talib, function)(bars.open, bars.high, bars.low, bars.close)
        return _where(found != 0, np.sign(found))

    return find


def _doji(bars: Bars, values: Indicators) -> IntArray:
    """A doji points against the week before it, where that week went farther than an ordinary day."""
    moved = bars.close - previous(bars.close, WEEK)
    trend = _where(np.abs(moved) > values.average_true_range, np.sign(moved))
    return -trend * _candle("CDLDOJI")(bars, values)


def _fresh(condition: BoolArray) -> IntArray:
    """1 where a condition has become true, having been false on the bar before."""
    return _where(condition & ~np.append([False], condition[:-1]), 1)


def _breakout(days: int) -> Finder:
    return lambda bars, _: _fresh(bars.close > previous(talib.MAX(bars.high, days)))


def _breakdown(days: int) -> Finder:
    return lambda bars, _: -_fresh(bars.close < previous(talib.MIN(bars.low, days)))


def _gap_up(bars: Bars, _: Indicators) -> IntArray:
    return _where(bars.low > previous(bars.high), 1)


def _gap_down(bars: Bars, _: Indicators) -> IntArray:
    return _where(bars.high < previous(bars.low), -1)


def _volume_spike(_: Bars, values: Indicators) -> IntArray:
    """Points the way the price went."""
    return _where(values.relative_volume >= SPIKE_VOLUME, np.sign(values.price_change))


def _volume_breakout(bars: Bars, values: Indicators) -> IntArray:
    return _where(values.relative_volume >= BREAKOUT_VOLUME, _breakout(MONTH)(bars, values))


def _where(condition: BoolArray, directions: FloatArray | IntArray | int) -> IntArray:
    return np.where(condition, directions, 0).astype(np.int64)


PATTERNS = (
    Pattern("Doji", "daily", 3, _doji),
    Pattern("Hammer", "daily", 3, _candle("CDLHAMMER")),
    Pattern("Inverted_Hammer", "daily", 3, _candle("CDLINVERTEDHAMMER")),
    Pattern("Hanging_Man", "daily", 3, _candle("CDLHANGINGMAN")),
    Pattern("Shooting_Star", "daily", 3, _candle("CDLSHOOTINGSTAR")),
    Pattern("Marubozu", "daily", 3, _candle("CDLMARUBOZU")),
    Pattern("Engulfing", "daily", 5, _candle("CDLENGULFING")),
    Pattern("Harami", "daily", 5, _candle("CDLHARAMI")),
    Pattern("Piercing_Line", "daily", 5, _candle("CDLPIERCING")),
    Pattern("Dark_Cloud_Cover", "daily", 5, _candle("CDLDARKCLOUDCOVER")),
    Pattern("Morning_Star", "daily", 10, _candle("CDLMORNINGSTAR")),
    Pattern("Evening_Star", "daily", 10, _candle("CDLEVENINGSTAR")),
    Pattern("Three_Inside", "daily", 10, _candle("CDL3INSIDE")),
    Pattern("Three_Outside", "daily", 10, _candle("CDL3OUTSIDE")),
    Pattern("Gap_Up", "daily", 5, _gap_up),
    Pattern("Gap_Down", "daily", 5, _gap_down),
    Pattern("Volume_Spike", "daily", 5, _volume_spike),
    Pattern("Weekly_Breakout", "daily", 5, _breakout(WEEK)),
    Pattern("Monthly_Breakout", "daily", 10, _breakout(MONTH)),
    Pattern("Monthly_Breakdown", "daily", 10, _breakdown(MONTH)),
    Pattern("Yearly_Breakout", "daily", 20, _breakout(YEAR)),
    Pattern("Yearly_Breakdown", "daily", 20, _breakdown(YEAR)),
    Pattern("Volume_Breakout", "combo", 20, _volume_breakout),
)
"""Every pattern that the demo looks for; ``combo`` is the tier of those that join price and volume."""
