"""Charts and their detections: bars in, signals out, each with a confidence that its own past gives it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from infra.demo.bars import Bars, BoolArray, FloatArray, IntArray
from infra.demo.indicators import Indicators, indicators, market_growth
from infra.demo.patterns import PATTERNS, Pattern

SUCCESS = 0.5
"""How far beyond its price a signal must see a close within its horizon, in its day's average true ranges."""


@dataclass(frozen=True, eq=False)
class TrackRecord:
    """How the signals of one pattern in one direction went on, on one chart, oldest first."""

    bars: IntArray
    """The bar of each signal."""
    gains: FloatArray
    """Row: signal; column: trading days since, 0 to the horizon. From close to close along the direction, in
    average true ranges of the signal's day; NaN past the last bar."""

    @property
    def horizon(self) -> int:
        return int(self.gains.shape[1]) - 1


@dataclass(frozen=True, eq=False)
class Signal:
    """A pattern on one bar of a chart."""

    pattern: Pattern
    bar: int
    direction: int
    """1: the price should rise; -1: it should fall."""
    stop: float
    """A close beyond this price, in dollars, shows the signal wrong."""
    record: TrackRecord
    position: int
    """Which signal of its track record this one is."""

    def is_refuted_by(self, close: float) -> bool:
        """Whether a close of a later bar, in dollars, shows the signal wrong."""
        return self.direction * (close - self.stop) < 0

    def confidence(self, age: int = 0) -> float:
        """The share of like signals that succeeded, as known ``age`` trading days after this one: 0..1.

        Like signals are the earlier ones whose horizon is over and which were, at this age, on the same side
        of their price as this one. With few of them the share stays near one half (Laplace's rule of
        succession).
        ``age`` is at most the horizon, and the chart must reach so far.
        """
        record = self.record
        like: BoolArray = record.bars + record.horizon <= self.bar + age
        if age:
            ahead = record.gains[:, age] > 0
            like &= ahead == ahead[self.position]
        succeeded = record.gains[like].max(axis=1) >= SUCCESS
        return float((1 + np.count_nonzero(succeeded)) / (2 + len(succeeded)))


@dataclass(frozen=True, eq=False)
class Chart:
    """One ticker's bars and what is seen in them."""

    ticker: str
    bars: Bars
    indicators: Indicators
    directions: Mapping[str, IntArray]
    """For each pattern's name: 1, -1 or 0 for each bar."""
    signals: Mapping[int, tuple[Signal, ...]]
    """The signals of each bar that has any."""


def charts(tickers: Mapping[str, Bars]) -> dict[str, Chart]:
    """The chart of every ticker."""
    growth = market_growth(tickers)
    return {ticker: chart(ticker, bars, growth[ticker]) for ticker, bars in tickers.items()}


def chart(ticker: str, bars: Bars, growth: FloatArray) -> Chart:
    """The chart of one ticker; ``growth`` is the market's, bar by bar."""
    values = indicators(bars, growth)
    directions = {pattern.name: pattern.directions(bars, values) for pattern in PATTERNS}
    signals: dict[int, tuple[Signal, ...]] = {}
    for pattern in PATTERNS:
        for direction in (1, -1):
            at = np.flatnonzero(directions[pattern.name] == direction)
            record = TrackRecord(at, _gains(bars, values, at, direction, pattern.horizon))
            stops = bars.low[at] if direction > 0 else bars.high[at]
            for position, (bar, stop) in enumerate(zip(at.tolist(), stops.tolist(), strict=True)):
                signal = Signal(pattern, bar, direction, stop, record, position)
                signals[bar] = (*signals.get(bar, ()), signal)
    return Chart(ticker, bars, values, directions, signals)


def _gains(bars: Bars, values: Indicators, at: IntArray, direction: int, horizon: int) -> FloatArray:
    closes = np.concatenate([bars.close, np.full(horizon, np.nan)])
    course = closes[at[:, None] + np.arange(horizon + 1)]
    gains: FloatArray = direction * (course - course[:, :1]) / values.average_true_range[at, None]
    return gains
