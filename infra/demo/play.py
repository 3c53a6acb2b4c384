"""The play: bars of the past, one after the other, announced as if they were traded now."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from infra.demo.detection import Chart, Signal
from infra.demo.messages import Detection, Message, pattern_detected, pattern_expired, pattern_updated
from infra.demo.patterns import WARM_UP

LIFETIME_SECONDS = 60.0
"""How long a detection lasts, in present time, for each trading day of its pattern's horizon."""

UPDATED_BARS = 2
"""How many bars after its own a detection is updated, while it lasts."""

SHORTEST_YEAR = 60
"""A year with fewer bars is not played as a symbol of its own."""


@dataclass(eq=False)
class Series:
    """A symbol of the demo: a stretch of a chart that is played over and over."""

    symbol: str
    """The ticker for all of its bars, ``AAPL.2008`` for those of one year."""
    chart: Chart
    first: int
    last: int
    """The bars played, both included."""
    bar: int = field(init=False)
    """The bar to be played next."""
    detections: dict[str, Detection] = field(init=False, default_factory=dict)
    """For each pattern's name the one detection that is valid."""

    def __post_init__(self) -> None:
        self.bar = self.first

    def play(self, now: float) -> list[Message]:
        """Play the next bar, at ``now`` in epoch seconds; what there is to announce, in order."""
        messages = list(self._begin_again(now)) if self.bar == self.first else []
        messages += self._follow(now)
        for signal in self.chart.signals.get(self.bar, ()):
            messages += self._detect(signal, now)
        self.bar = self.first if self.bar == self.last else self.bar + 1
        return messages

    def _begin_again(self, now: float) -> Iterator[Message]:
        for detection in self.detections.values():
            if now < detection.expires_at:
                yield pattern_expired(detection, "replayed", now)
        self.detections = {}

    def _follow(self, now: float) -> list[Message]:
        """Time, the new bar's close, or neither may end each valid detection."""
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

    def _detect(self, signal: Signal, now: float) -> Iterator[Message]:
        name = signal.pattern.name
        if name in self.detections:
            yield pattern_expired(self.detections[name], "superseded", now)
        lifetime = signal.pattern.horizon * LIFETIME_SECONDS
        self.detections[name] = Detection(self.symbol, signal, now, now + lifetime)
        yield pattern_detected(self.detections[name], self.chart)


def series(charts: Iterable[Chart]) -> list[Series]:
    """Every symbol of the demo: each chart as a whole, and each of its years that has enough bars."""
    return [stretch for chart in charts for stretch in _stretches(chart)]


def _stretches(chart: Chart) -> Iterator[Series]:
    last = len(chart.bars) - 1
    yield Series(chart.ticker, chart, WARM_UP, last)
    years = chart.bars.dates.astype("datetime64[Y]")
    for year in np.unique(years[WARM_UP:]):
        bars = WARM_UP + np.flatnonzero(years[WARM_UP:] == year)
        if len(bars) >= SHORTEST_YEAR:
            yield Series(f"{chart.ticker}.{year}", chart, int(bars[0]), int(bars[-1]))
