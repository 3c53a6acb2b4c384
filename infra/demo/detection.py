"""Charts: bars, indicators and trading signals, each signal with a confidence computed from earlier signals."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from infra.demo.bars import Bars, BoolArray, FloatArray, IntArray
from infra.demo.indicators import Indicators, indicators, market_growth
from infra.demo.patterns import PATTERNS, Pattern

SUCCESS_GAIN = 0.5
"""Gain that makes a signal successful, in average true ranges of the day of the signal.

A signal is successful when a close within its horizon reaches this gain.
"""


@dataclass(frozen=True, eq=False)
class SignalOutcomes:
    """The price after each signal of one pattern in one direction on one chart, oldest signal first."""

    bars: IntArray
    """The bar of each signal."""
    gains: FloatArray
    """Gains of the signals (rows) after 0 to ``horizon`` trading days (columns).

    A gain is the change of the close since the signal, positive in the direction of the signal, in average true ranges
    of the day of the signal. It is NaN after the last bar.
    """

    @property
    def horizon(self) -> int:
        """The number of trading days after a signal that are considered."""
        return int(self.gains.shape[1]) - 1


@dataclass(frozen=True, eq=False)
class TradingSignal:
    """The appearance of a pattern on one bar of a chart."""

    pattern: Pattern
    bar: int
    direction: int
    """1 if the price should rise, -1 if it should fall."""
    stop: float
    """Price in dollars. A later close beyond it refutes the signal."""
    outcomes: SignalOutcomes
    """Outcomes of all signals of the same pattern and direction on the chart."""
    position: int
    """Index of this signal in ``outcomes``."""

    def is_refuted_by(self, close: float) -> bool:
        """Return whether the close of a later bar, in dollars, refutes the signal."""
        return self.direction * (close - self.stop) < 0

    def confidence(self, age: int = 0) -> float:
        """Return the share of comparable signals that were successful, 0 to 1.

        A signal is comparable when its horizon ended by the given day and its gain at the same age had the same sign as
        the gain of this signal. With few comparable signals the share stays near one half (Laplace's rule of
        succession).

        Args:
            age: Trading days since the signal, 0 to the horizon. The chart must contain the bar of that day.
        """
        outcomes = self.outcomes
        comparable: BoolArray = outcomes.bars + outcomes.horizon <= self.bar + age
        if age:
            ahead = outcomes.gains[:, age] > 0
            comparable &= ahead == ahead[self.position]
        successful = outcomes.gains[comparable].max(axis=1) >= SUCCESS_GAIN
        return float((1 + np.count_nonzero(successful)) / (2 + len(successful)))


@dataclass(frozen=True, eq=False)
class Chart:
    """The bars of one ticker with their indicators and signals."""

    ticker: str
    bars: Bars
    indicators: Indicators
    directions: Mapping[str, IntArray]
    """Pattern name -> direction at each bar: 1, -1, or 0 where the pattern does not appear."""
    signals: Mapping[int, tuple[TradingSignal, ...]]
    """Index of a bar -> its signals. Bars without a signal are absent."""


def charts(tickers: Mapping[str, Bars]) -> dict[str, Chart]:
    """Return the chart of every ticker."""
    growth = market_growth(tickers)
    return {ticker: chart(ticker, bars, growth[ticker]) for ticker, bars in tickers.items()}


def chart(ticker: str, bars: Bars, growth: FloatArray) -> Chart:
    """Return the chart of one ticker. ``growth`` is the growth of the market at each bar."""
    values = indicators(bars, growth)
    directions = {pattern.name: pattern.directions(bars, values) for pattern in PATTERNS}
    signals: dict[int, tuple[TradingSignal, ...]] = {}
    for pattern in PATTERNS:
        for direction in (1, -1):
            places = np.flatnonzero(directions[pattern.name] == direction)
            gains = direction * _changes_after(bars, places, pattern.horizon) / values.average_true_range[places, None]
            outcomes = SignalOutcomes(places, gains)
            stops = bars.low[places] if direction > 0 else bars.high[places]
            for position, (bar, stop) in enumerate(zip(places.tolist(), stops.tolist(), strict=True)):
                signal = TradingSignal(pattern, bar, direction, stop, outcomes, position)
                signals[bar] = (*signals.get(bar, ()), signal)
    return Chart(ticker, bars, values, directions, signals)


def _changes_after(bars: Bars, places: IntArray, horizon: int) -> FloatArray:
    """Return the change of the close, in dollars, 0 to ``horizon`` bars after each place."""
    padded_closes = np.concatenate([bars.close, np.full(horizon, np.nan)])
    closes = padded_closes[places[:, None] + np.arange(horizon + 1)]
    changes: FloatArray = closes - closes[:, :1]
    return changes
