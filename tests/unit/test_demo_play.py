"""The play of the demo: its messages are valid announcements that refer to patterns or runs announced before."""

from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest

from domain import wire
from domain.events import (
    BacktestCompleted,
    BacktestFailed,
    BacktestProgressed,
    Event,
    HealthReported,
    PatternDetected,
    PatternExpired,
    PatternUpdated,
)
from infra.demo import bars, messages
from infra.demo.backtest import backtest
from infra.demo.detection import Chart, charts
from infra.demo.messages import Announcement
from infra.demo.patterns import WARM_UP
from infra.demo.play import LIFETIME_SECONDS, UPDATED_BARS, Series, series

START = 1_757_001_600.0
JOB = {"symbol": "AAPL", "pattern": "Doji", "hold_days": 3, "cost_basis_points": 5.0}


def read(message: Announcement) -> Event:
    """Read a message and return its only event. Fail if a part of the message is refused."""
    result = wire.read(message.channel, message.encoded(), START)
    assert result.refusals == ()
    (event,) = result.events
    assert event.source == "tickview_demo"
    assert event.extra["demo"] is True
    return event


@pytest.fixture(scope="module")
def real_charts() -> dict[str, Chart]:
    return charts(bars.load())


def play(played: Series, days: int, seconds_a_day: float) -> list[tuple[float, Announcement]]:
    """Return the announcements of the first trading days with their times."""
    return [
        (START + day * seconds_a_day, message)
        for day in range(days)
        for message in played.play(START + day * seconds_a_day)
    ]


def test_every_symbol_plays_the_bars_of_its_year(real_charts: dict[str, Chart]) -> None:
    symbols = series(real_charts.values())
    assert len({played.symbol for played in symbols}) == len(symbols) > 40
    for played in symbols:
        dates = played.chart.bars.dates[played.first : played.last + 1]
        assert played.first >= WARM_UP
        ticker, _, year = played.symbol.partition(".")
        assert ticker == played.chart.ticker
        if year:
            assert set(dates.astype("datetime64[Y]").astype(str)) == {year}
            others = np.delete(played.chart.bars.dates, np.arange(played.first, played.last + 1))[WARM_UP:]
            assert year not in set(others.astype("datetime64[Y]").astype(str))
        else:
            assert played.last == len(played.chart.bars) - 1


@pytest.mark.parametrize("seconds_a_day", [0.01, 1.0, 60.0])
def test_updates_and_expiries_refer_to_a_valid_detection(real_charts: dict[str, Chart], seconds_a_day: float) -> None:
    kinds: Counter[str] = Counter()
    for played in [
        played for played in series(real_charts.values()) if played.symbol.endswith(("FB", ".2005", ".2008"))
    ]:
        valid: dict[tuple[str, float], PatternDetected] = {}
        updates: Counter[tuple[str, float]] = Counter()
        for now, message in play(played, 2 * (played.last - played.first + 1), seconds_a_day):
            event = read(message)
            assert event.occurred_at == now
            if isinstance(event, PatternDetected):
                key = (event.pattern, event.detected_at)
                assert event.symbol == played.symbol
                assert event.detected_at == now
                assert not [
                    other for other in valid.values() if other.pattern == event.pattern and other.expires_at > now
                ]
                valid[key] = event
                kinds["detected"] += 1
            elif isinstance(event, PatternUpdated):
                detected = valid[event.pattern, event.detected_at]
                assert now < event.expires_at == detected.expires_at
                assert event.tier == detected.tier
                updates[event.pattern, event.detected_at] += 1
                kinds["updated"] += 1
            else:
                assert isinstance(event, PatternExpired)
                detected = valid.pop((event.pattern, event.detected_at))
                assert now < detected.expires_at
                assert event.tier == detected.tier
                kinds[event.extra["expiry_reason"]] += 1
        assert max(updates.values()) <= UPDATED_BARS
    assert set(kinds) == {"detected", "updated", "refuted", "superseded", "replayed"}


def test_a_detection_agrees_with_the_bars(real_charts: dict[str, Chart]) -> None:
    (played,) = (played for played in series(real_charts.values()) if played.symbol == "AAPL.2008")
    detections = [event for _, message in play(played, 200, 1.0) if isinstance(event := read(message), PatternDetected)]
    assert detections
    for event in detections:
        bar = int(np.searchsorted(played.chart.bars.dates, np.datetime64(event.extra["bar_date"])))
        (signal,) = (signal for signal in played.chart.signals[bar] if signal.pattern.name == event.pattern)
        assert event.confidence == pytest.approx(signal.confidence(), abs=1e-4)
        assert event.extra["direction"] == ("bullish" if signal.direction > 0 else "bearish")
        assert event.tier == signal.pattern.tier
        assert event.current_price == pytest.approx(played.chart.bars.close[bar], abs=0.01)
        assert event.expires_at - event.detected_at == signal.pattern.horizon * LIFETIME_SECONDS
        assert 0 <= event.rsi <= 100
        assert event.relative_strength > 0
        assert event.relative_volume > 0
        assert event.indicators["sma_20"] > 0


def test_an_elapsed_detection_is_not_announced_again(real_charts: dict[str, Chart]) -> None:
    (played,) = (played for played in series(real_charts.values()) if played.symbol == "IBM.2005")
    event_types = Counter(type(read(message)) for _, message in play(played, 200, 86_400.0))
    assert set(event_types) == {PatternDetected}


def test_a_backtest_announces_its_progress_and_its_result(real_charts: dict[str, Chart]) -> None:
    progress = read(messages.backtest_progress(JOB, "backtest_1_ab", 0.25, START + 5, START))
    assert isinstance(progress, BacktestProgressed)
    assert (progress.job_id, progress.progress, progress.current_symbol) == ("backtest_1_ab", 0.25, "AAPL")
    assert progress.estimated_completion == START + 5

    stock = real_charts["AAPL"]
    results = backtest(stock.bars, stock.directions["Doji"], 3, 5.0)
    assert results is not None
    completed = read(messages.backtest_result(JOB, "backtest_1_ab", results, 12.5, START))
    assert isinstance(completed, BacktestCompleted)
    assert completed.results == pytest.approx(asdict(results), abs=1e-4)
    assert completed.processing_time_seconds == 12.5
    assert completed.extra["pattern"] == "Doji"


def test_a_backtest_without_trades_is_announced_as_failed(real_charts: dict[str, Chart]) -> None:
    stock = real_charts["FB"]
    results = backtest(stock.bars, stock.directions["Yearly_Breakout"], 20, 5.0)
    failed = read(
        messages.backtest_result(JOB | {"symbol": "FB", "pattern": "Yearly_Breakout"}, "b", results, 1.0, START)
    )
    assert isinstance(failed, BacktestFailed)
    assert failed.error_message == "no Yearly_Breakout to trade on FB"


def test_a_health_report_is_announced() -> None:
    report = read(messages.system_health({"cpu_usage": 0.1}, START))
    assert isinstance(report, HealthReported)
    assert (report.status, report.metrics) == ("healthy", {"cpu_usage": 0.1})
