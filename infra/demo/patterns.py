"""The patterns: functions that find the bars on which a pattern appears, and the direction in which it points.

TA-Lib finds candlestick patterns. The functions below find breakouts, gaps and volume spikes. A pattern appears on the
bar that completes it. No function uses later bars.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import talib

from infra.demo.bars import Bars, BoolArray, FloatArray, IntArray
from infra.demo.indicators import MONTH, QUARTER, Indicators, previous

WEEK, YEAR = 5, 252
"""Trading days of a week and of a year."""

WARM_UP = QUARTER
"""Number of bars before the first detection. After them every indicator has a value."""

SPIKE_VOLUME = 2.0
"""Lowest volume of a volume spike, as a ratio to the mean volume of the 20 bars before."""

BREAKOUT_VOLUME = 1.5
"""Lowest volume of a volume breakout, as a ratio to the mean volume of the 20 bars before."""

Finder = Callable[[Bars, Indicators], IntArray]
"""Function that returns for each bar 1 if the pattern points up, -1 if it points down, 0 if it does not appear."""


@dataclass(frozen=True)
class Pattern:
    """A pattern that the demo detects."""

    name: str
    tier: str
    horizon: int
    """Number of trading days for which the pattern predicts the price."""
    find: Finder

    def directions(self, bars: Bars, values: Indicators) -> IntArray:
        """Return the direction of the pattern at each bar: 1, -1 or 0. It is 0 during the warm-up."""
        directions = self.find(bars, values)
        directions[:WARM_UP] = 0
        return directions


def _candle(function: str) -> Finder:
    """Return a finder that calls a candlestick function of TA-Lib."""

    def find(bars: Bars, _: Indicators) -> IntArray:
        strengths = getattr(talib, function)(bars.open, bars.high, bars.low, bars.close)
        return _where(strengths != 0, np.sign(strengths))

    return find


def _doji(bars: Bars, values: Indicators) -> IntArray:
    """Find dojis. A doji points against the change of the week before, if that exceeds one average true range."""
    moved = bars.close - previous(bars.close, WEEK)
    trend = _where(np.abs(moved) > values.average_true_range, np.sign(moved))
    return -trend * _candle("CDLDOJI")(bars, values)


def _fresh(condition: BoolArray) -> IntArray:
    """Return 1 at each bar where the condition is true and was false on the bar before."""
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
    """Find volume spikes. They point in the direction of the price change of the day."""
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
"""All patterns that the demo detects. Patterns that combine price and volume are in the tier ``combo``."""
