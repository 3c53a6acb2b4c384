"""The demo's play: what is announced makes a story that a reader can follow, in the producer's wire format."""

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
    """The one event that a reader finds in a message, having found nothing to refuse."""
    reading = wire.read(message.channel, message.encoded(), START)
    assert reading.refusals == ()
    (event,) = reading.events
    assert event.source == "tickview_demo"
    assert event.extra["demo"] is True
    return event


@pytest.fixture(scope="module")
def real() -> dict[str, Chart]:
    return charts(bars.load())


def played(of: Series, days: int, seconds_a_day: float) -> list[tuple[float, Announcement]]:
    """The announcements of so many trading days, with their times."""
    return [
        (START + day * seconds_a_day, message)
        for day in range(days)
        for message in of.play(START + day * seconds_a_day)
    ]


def test_every_symbol_stays_within_its_year(real: dict[str, Chart]) -> None:
    symbols = series(real.values())
    assert len({each.symbol for each in symbols}) == len(symbols) > 40
    for each in symbols:
        dates = each.chart.bars.dates[each.first : each.last + 1]
        assert each.first >= WARM_UP
        ticker, _, year = each.symbol.partition(".")
        assert ticker == each.chart.ticker
        if year:
            assert set(dates.astype("datetime64[Y]").astype(str)) == {year}
            others = np.delete(each.chart.bars.dates, np.arange(each.first, each.last + 1))[WARM_UP:]
            assert year not in set(others.astype("datetime64[Y]").astype(str))
        else:
            assert each.last == len(each.chart.bars) - 1


@pytest.mark.parametrize("seconds_a_day", [0.01, 1.0, 60.0])
def test_updates_and_expiries_speak_of_a_detection_that_is_valid(real: dict[str, Chart], seconds_a_day: float) -> None:
    seen: Counter[str] = Counter()
    for of in [each for each in series(real.values()) if each.symbol.endswith(("FB", ".2005", ".2008"))]:
        valid: dict[tuple[str, float], PatternDetected] = {}
        updates: Counter[tuple[str, float]] = Counter()
        for now, message in played(of, 2 * (of.last - of.first + 1), seconds_a_day):
            event = read(message)
            assert event.occurred_at == now
            if isinstance(event, PatternDetected):
                key = (event.pattern, event.detected_at)
                assert event.symbol == of.symbol
                assert event.detected_at == now
                assert not [
                    other for other in valid.values() if other.pattern == event.pattern and other.expires_at > now
                ]
                valid[key] = event
                seen["detected"] += 1
            elif isinstance(event, PatternUpdated):
                detected = valid[event.pattern, event.detected_at]
                assert now < event.expires_at == detected.expires_at
                assert event.tier == detected.tier
                updates[event.pattern, event.detected_at] += 1
                seen["updated"] += 1
            else:
                assert isinstance(event, PatternExpired)
                detected = valid.pop((event.pattern, event.detected_at))
                assert now < detected.expires_at
                assert event.tier == detected.tier
                seen[event.extra["expiry_reason"]] += 1
        assert max(updates.values()) <= UPDATED_BARS
    assert set(seen) == {"detected", "updated", "refuted", "superseded", "replayed"}


def test_a_detection_says_what_the_bars_say(real: dict[str, Chart]) -> None:
    (of,) = (each for each in series(real.values()) if each.symbol == "AAPL.2008")
    detections = [event for _, message in played(of, 200, 1.0) if isinstance(event := read(message), PatternDetected)]
    assert detections
    for event in detections:
        bar = int(np.searchsorted(of.chart.bars.dates, np.datetime64(event.extra["bar_date"])))
        (signal,) = (each for each in of.chart.signals[bar] if each.pattern.name == event.pattern)
        assert event.confidence == pytest.approx(signal.confidence(), abs=1e-4)
        assert event.extra["direction"] == ("bullish" if signal.direction > 0 else "bearish")
        assert event.tier == signal.pattern.tier
        assert event.current_price == pytest.approx(of.chart.bars.close[bar], abs=0.01)
        assert event.expires_at - event.detected_at == signal.pattern.horizon * LIFETIME_SECONDS
        assert 0 <= event.rsi <= 100
        assert event.relative_strength > 0
        assert event.relative_volume > 0
        assert event.indicators["sma_20"] > 0


def test_a_detection_that_has_elapsed_is_not_spoken_of_again(real: dict[str, Chart]) -> None:
    (of,) = (each for each in series(real.values()) if each.symbol == "IBM.2005")
    kinds = Counter(type(read(message)) for _, message in played(of, 200, 86_400.0))
    assert set(kinds) == {PatternDetected}


def test_a_backtest_is_announced_as_it_goes_and_ends(real: dict[str, Chart]) -> None:
    progress = read(messages.backtest_progress(JOB, "backtest_1_ab", 0.25, START + 5, START))
    assert isinstance(progress, BacktestProgressed)
    assert (progress.job_id, progress.progress, progress.current_symbol) == ("backtest_1_ab", 0.25, "AAPL")
    assert progress.estimated_completion == START + 5

    of = real["AAPL"]
    results = backtest(of.bars, of.directions["Doji"], 3, 5.0)
    assert results is not None
    completed = read(messages.backtest_result(JOB, "backtest_1_ab", results, 12.5, START))
    assert isinstance(completed, BacktestCompleted)
    assert completed.results == pytest.approx(asdict(results), abs=1e-4)
    assert completed.processing_time_seconds == 12.5
    assert completed.extra["pattern"] == "Doji"


def test_a_backtest_without_trades_has_failed(real: dict[str, Chart]) -> None:
    of = real["FB"]
    results = backtest(of.bars, of.directions["Yearly_Breakout"], 20, 5.0)
    failed = read(
        messages.backtest_result(JOB | {"symbol": "FB", "pattern": "Yearly_Breakout"}, "b", results, 1.0, START)
    )
    assert isinstance(failed, BacktestFailed)
    assert failed.error_message == "no Yearly_Breakout to trade on FB"


def test_health_is_readable() -> None:
    report = read(messages.system_health({"cpu_usage": 0.1}, START))
    assert isinstance(report, HealthReported)
    assert (report.status, report.metrics) == ("healthy", {"cpu_usage": 0.1})
