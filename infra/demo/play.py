"""The replay of historical bars: one bar after the other, announced as if it was traded now."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from infra.demo.detection import Chart, TradingSignal
from infra.demo.messages import Announcement, Detection, pattern_detected, pattern_expired, pattern_updated
from infra.demo.patterns import WARM_UP

LIFETIME_SECONDS = 60.0
"""Lifetime of a detection, in seconds per trading day of the horizon of its pattern."""

UPDATED_BARS = 2
"""Number of bars after the detection that update a valid detection."""

MIN_BARS_PER_YEAR = 60
"""Lowest number of bars of a year that is played as a symbol of its own."""


@dataclass(eq=False)
class Series:
    """A symbol of the demo: a section of a chart that is played repeatedly."""

    symbol: str
    """The ticker for the whole chart, such as ``AAPL``; ticker and year for one year, such as ``AAPL.2008``."""
    chart: Chart
    first: int
    """Index of the first played bar."""
    last: int
    """Index of the last played bar."""
    bar: int = field(init=False)
    """Index of the next bar."""
    detections: dict[str, Detection] = field(init=False, default_factory=dict)
    """Pattern name -> valid detection."""

    def __post_init__(self) -> None:
        self.bar = self.first

    def play(self, now: float) -> list[Announcement]:
        """Play the next bar at ``now`` (epoch seconds). Return the announcements in order."""
        messages = list(self._begin_again(now)) if self.bar == self.first else []
        messages += self._update(now)
        for signal in self.chart.signals.get(self.bar, ()):
            messages += self._detect(signal, now)
        self.bar = self.first if self.bar == self.last else self.bar + 1
        return messages

    def _begin_again(self, now: float) -> Iterator[Announcement]:
        for detection in self.detections.values():
            if now < detection.expires_at:
                yield pattern_expired(detection, "replayed", now)
        self.detections = {}

    def _update(self, now: float) -> list[Announcement]:
        """Update the valid detections. Remove elapsed detections and detections that the new close refutes."""
        messages = []
        close = float(self.chart.bars.close[self.bar])
        for name, detection in list(self.detections.items()):
            signal = detection.signal
            age = self.bar - signal.bar
            if now >= detection.expires_at:
                del self.detections[name]
            elif age <= signal.pattern.horizon and signal.is_refuted_by(close):
                del self.detections[name]
                messages.append(pattern_expired(detection, "refuted", now))
            elif age <= UPDATED_BARS:
                messages.append(pattern_updated(detection, self.chart, self.bar, now))
        return messages

    def _detect(self, signal: TradingSignal, now: float) -> Iterator[Announcement]:
        name = signal.pattern.name
        if name in self.detections:
            yield pattern_expired(self.detections[name], "superseded", now)
        lifetime = signal.pattern.horizon * LIFETIME_SECONDS
        self.detections[name] = Detection(self.symbol, signal, now, now + lifetime)
        yield pattern_detected(self.detections[name], self.chart)


def series(charts: Iterable[Chart]) -> list[Series]:
    """Return the symbols of the demo: each whole chart, and each year of a chart that has enough bars."""
    return [section for chart in charts for section in _sections(chart)]


def _sections(chart: Chart) -> Iterator[Series]:
    last = len(chart.bars) - 1
    yield Series(chart.ticker, chart, WARM_UP, last)
    years = chart.bars.dates.astype("datetime64[Y]")
    for year in np.unique(years[WARM_UP:]):
        bars = WARM_UP + np.flatnonzero(years[WARM_UP:] == year)
        if len(bars) >= MIN_BARS_PER_YEAR:
            yield Series(f"{chart.ticker}.{year}", chart, int(bars[0]), int(bars[-1]))
