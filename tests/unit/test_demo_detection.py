"""Bars, patterns and confidences of the demo: correct on real bars, and not influenced by later bars."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from infra.demo import bars as market
from infra.demo.bars import Bars, adjusted
from infra.demo.detection import SUCCESS_GAIN, Chart, TradingSignal, chart, charts
from infra.demo.indicators import market_growth
from infra.demo.patterns import PATTERNS, WARM_UP

NAMES = {pattern.name for pattern in PATTERNS}

WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""The phases without shrinking: a smaller seed does not make a simpler random walk."""


def walk(seed: int, count: int) -> Bars:
    """Random bars with gaps, quiet days and bursts of volume."""
    generator = np.random.default_rng(seed)
    close = 100 * np.cumprod(1 + generator.normal(0, 0.02, count))
    opened = np.append(100.0, close[:-1]) * (1 + generator.normal(0, 0.01, count))
    high = np.maximum(opened, close) * (1 + generator.exponential(0.005, count))
    low = np.minimum(opened, close) * (1 - generator.uniform(0, 0.02, count))
    dates = np.datetime64("2000-01-03") + np.arange(count)
    return Bars(dates, opened, high, low, close, generator.lognormal(14, 0.6, count))


def joined(past: Bars, future: Bars) -> Bars:
    """Append ``future``, scaled to begin at the last close of ``past``."""
    scale = past.close[-1] / future.open[0]
    columns = (
        np.append(getattr(past, name), scale * getattr(future, name)) for name in ("open", "high", "low", "close")
    )
    dates = past.dates[0] + np.arange(len(past) + len(future))
    return Bars(dates, *columns, np.append(past.volume, future.volume))


def chart_of(bars: Bars) -> Chart:
    return chart("TEST", bars, market_growth({"TEST": bars})["TEST"])


def description(signal: TradingSignal, until: int) -> tuple[str, int, int, float, list[float]]:
    """All data of a signal that is known at the bar ``until``."""
    ages = range(min(signal.pattern.horizon, until - signal.bar) + 1)
    return signal.pattern.name, signal.bar, signal.direction, signal.stop, [signal.confidence(age) for age in ages]


def signals_until(stock: Chart, until: int) -> list[tuple[str, int, int, float, list[float]]]:
    return [
        description(signal, until) for bar in sorted(stock.signals) if bar <= until for signal in stock.signals[bar]
    ]


@pytest.fixture(scope="module")
def real_charts() -> dict[str, Chart]:
    return charts(market.load())


@given(past=st.integers(0, 10_000), futures=st.lists(st.integers(0, 10_000), min_size=2, max_size=2, unique=True))
@settings(max_examples=40, deadline=None, phases=WITHOUT_SHRINKING)
def test_later_bars_do_not_change_earlier_signals(past: int, futures: list[int]) -> None:
    history = walk(past, 200)
    first, second = (chart_of(joined(history, walk(future, 60))) for future in futures)
    last = len(history) - 1
    assert signals_until(first, last)
    assert signals_until(first, last) == signals_until(second, last)
    for name in NAMES:
        assert (first.directions[name][: last + 1] == second.directions[name][: last + 1]).all()


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None, phases=WITHOUT_SHRINKING)
def test_confidence_is_the_share_of_similar_signals_that_succeeded(seed: int) -> None:
    stock = chart_of(walk(seed, 260))
    signals = [signal for bar in sorted(stock.signals) for signal in stock.signals[bar]]
    for signal in signals:
        for age in range(min(3, len(stock.bars) - 1 - signal.bar) + 1):
            confidence = signal.confidence(age)
            assert 0 < confidence < 1
            assert confidence == pytest.approx(confidence_by_counting(stock, signals, signal, age))


def confidence_by_counting(stock: Chart, signals: list[TradingSignal], signal: TradingSignal, age: int) -> float:
    close = stock.bars.close

    def gain(other: TradingSignal, days: int) -> float:
        return float(other.direction * (close[other.bar + days] - close[other.bar]))

    similar = [
        other
        for other in signals
        if (other.pattern, other.direction) == (signal.pattern, signal.direction)
        and other.bar + other.pattern.horizon <= signal.bar + age
        and (age == 0 or (gain(other, age) > 0) == (gain(signal, age) > 0))
    ]
    succeeded = [
        other
        for other in similar
        if max(gain(other, days) for days in range(1, other.pattern.horizon + 1))
        >= SUCCESS_GAIN * stock.indicators.average_true_range[other.bar]
    ]
    return (1 + len(succeeded)) / (2 + len(similar))


def test_every_pattern_appears_in_the_real_bars(real_charts: dict[str, Chart]) -> None:
    names = {
        signal.pattern.name
        for stock in real_charts.values()
        for signals in stock.signals.values()
        for signal in signals
    }
    assert names == NAMES


def test_signals_begin_after_the_warm_up_of_the_indicators(real_charts: dict[str, Chart]) -> None:
    for stock in real_charts.values():
        assert min(stock.signals) >= WARM_UP
        values = stock.indicators
        for series in (values.relative_strength, values.relative_volume, values.rsi, values.sma_20):
            assert np.isfinite(series[list(stock.signals)]).all()
        assert (values.rsi[WARM_UP:] >= 0).all()
        assert (values.rsi[WARM_UP:] <= 100).all()


def test_directions_and_signals_agree(real_charts: dict[str, Chart]) -> None:
    for stock in real_charts.values():
        from_signals = {
            (signal.pattern.name, bar, signal.direction) for bar, signals in stock.signals.items() for signal in signals
        }
        from_directions = {
            (name, int(bar), int(directions[bar]))
            for name, directions in stock.directions.items()
            for bar in np.flatnonzero(directions)
        }
        assert from_signals == from_directions


def test_a_price_below_the_low_or_above_the_high_refutes_a_rising_or_falling_pattern(
    real_charts: dict[str, Chart],
) -> None:
    for stock in real_charts.values():
        for bar, signals in stock.signals.items():
            for signal in signals:
                beyond = 0.99 * stock.bars.low[bar] if signal.direction > 0 else 1.01 * stock.bars.high[bar]
                assert signal.is_refuted_by(beyond)
                assert not signal.is_refuted_by(stock.bars.close[bar])


def test_the_rules_equal_a_naive_evaluation_of_the_bars(real_charts: dict[str, Chart]) -> None:
    for stock in real_charts.values():
        bars = stock.bars
        for name, days in (("Weekly_Breakout", 5), ("Monthly_Breakout", 21), ("Yearly_Breakout", 252)):
            above = [bar >= days and bars.close[bar] > bars.high[bar - days : bar].max() for bar in range(len(bars))]
            assert stock.directions[name].tolist() == newly(above), name
        for name, days in (("Monthly_Breakdown", 21), ("Yearly_Breakdown", 252)):
            below = [bar >= days and bars.close[bar] < bars.low[bar - days : bar].min() for bar in range(len(bars))]
            assert stock.directions[name].tolist() == [-begins for begins in newly(below)], name
        for bar in range(WARM_UP, len(bars)):
            usual = bars.volume[bar - 20 : bar].mean()
            change = np.sign(bars.close[bar] - bars.close[bar - 1])
            assert stock.directions["Gap_Up"][bar] == (bars.low[bar] > bars.high[bar - 1])
            assert stock.directions["Gap_Down"][bar] == -int(bars.high[bar] < bars.low[bar - 1])
            assert stock.directions["Volume_Spike"][bar] == (change if bars.volume[bar] >= 2 * usual else 0)
            assert stock.directions["Volume_Breakout"][bar] == (
                stock.directions["Monthly_Breakout"][bar] if bars.volume[bar] >= 1.5 * usual else 0
            )


def newly(conditions: list[bool]) -> list[int]:
    """1 for each bar at which the condition becomes true after the warm-up, otherwise 0."""
    return [int(bar >= WARM_UP and now and not conditions[bar - 1]) for bar, now in enumerate(conditions)]


def test_a_split_does_not_appear_as_a_gap() -> None:
    prices = np.array([100.0, 104.0, 52.0, 53.0])
    traded = Bars(
        np.datetime64("2000-01-03") + np.arange(4),
        prices,
        prices,
        prices,
        prices,
        np.array([10.0, 10.0, 20.0, 20.0]),
    )
    bars = adjusted(traded, np.array([25.0, 26.0, 26.0, 26.5]))
    assert bars.close.tolist() == [50.0, 52.0, 52.0, 53.0]
    assert bars.high.tolist() == bars.close.tolist()
    assert bars.volume.tolist() == [20.0, 20.0, 20.0, 20.0]


def test_a_dividend_moves_the_price_but_not_the_volume() -> None:
    prices = np.array([100.0, 90.0])
    traded = Bars(np.array(["2000-01-03", "2000-01-04"], "datetime64[D]"), *[prices] * 4, np.array([10.0, 10.0]))
    bars = adjusted(traded, np.array([90.0, 90.0]))
    assert bars.close.tolist() == [90.0, 90.0]
    assert bars.volume.tolist() == [10.0, 10.0]


@pytest.mark.parametrize(("ticker", "day"), [("AAPL", "2000-06-21"), ("AAPL", "2005-02-28"), ("MSFT", "2003-02-18")])
def test_real_splits_are_adjusted(real_charts: dict[str, Chart], ticker: str, day: str) -> None:
    stock = real_charts[ticker]
    bar = int(np.searchsorted(stock.bars.dates, np.datetime64(day)))
    assert str(stock.bars.dates[bar]) == day
    assert abs(stock.indicators.price_change[bar]) < 15
    assert stock.indicators.relative_volume[bar] < 2.5


def test_real_bars_are_ordered_and_consistent() -> None:
    for ticker, bars in market.load().items():
        assert (np.diff(bars.dates) > np.timedelta64(0)).all(), ticker
        assert (bars.low <= np.minimum(bars.open, bars.close) * (1 + 1e-9)).all(), ticker
        assert (bars.high >= np.maximum(bars.open, bars.close) * (1 - 1e-9)).all(), ticker
        assert (bars.low > 0).all(), ticker
        assert (bars.volume > 0).all(), ticker
