"""Expiries that do not name the time of their detection: how they are read, what they end, and in which order."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import wire
from domain.events import Event, PatternExpired, UndatedExpiry
from domain.undated_expiry import DETECTION_FROM, choose_detection, date_expiry
from infra.recording.undated_expiries import in_waves
from tests.events import NOON, pattern_detected, undated_expiry

EXPIRY = {"event_type": "pattern_expired", "symbol": "AAPL", "pattern": "Doji", "tier": "daily"}
BODY = {"symbol": "AAPL", "pattern": "Doji", "source": "daily"}


def read(message: dict[str, Any], channel: str = wire.PATTERNS) -> Event:
    [event] = wire.read(channel, orjson.dumps(message), NOON + 5).events
    return event


@pytest.mark.parametrize(
    ("message", "occurred_at", "detected_by"),
    [
        (EXPIRY, NOON + 5, None),
        ({**EXPIRY, "timestamp": NOON}, NOON, NOON),
        ({"event_type": "pattern_expired", "data": BODY}, NOON + 5, None),
        ({"event_type": "pattern_expired", "timestamp": NOON, "source": "pl", "data": BODY}, NOON, NOON),
    ],
)
def test_an_expiry_without_the_time_of_the_detection_is_undated(
    message: dict[str, Any], occurred_at: float, detected_by: float | None
) -> None:
    event = read(message)
    assert isinstance(event, UndatedExpiry)
    assert (event.symbol, event.pattern, event.tier) == ("AAPL", "Doji", "daily")
    assert (event.occurred_at, event.detected_by) == (occurred_at, detected_by)


@pytest.mark.parametrize(
    "message",
    [
        {**EXPIRY, "detected_at": NOON, "timestamp": NOON + 2},
        {"event_type": "pattern_expired", "timestamp": NOON + 2, "data": {**BODY, "timestamp": NOON}},
        {"event_type": "pattern_expired", "data": {**BODY, "detection_timestamp": NOON}},
    ],
)
def test_an_expiry_that_names_the_time_of_the_detection_is_dated(message: dict[str, Any]) -> None:
    event = read(message)
    assert isinstance(event, PatternExpired)
    assert event.detected_at == NOON


def test_an_expiry_on_two_channels_is_one_event_and_a_detection_two() -> None:
    further = wire.FurtherChannel("tickstock.events.patterns.daily", "patterns")
    known = dict(wire.CHANNELS)
    wire.add_further_channel(further)
    try:
        batch = {"event_type": "patterns_batch", "patterns": [EXPIRY]}
        detection = {**EXPIRY, "event_type": "pattern_detected", "confidence": 0.5}
        ids = [
            {read(message, channel).event_id for channel in (wire.PATTERNS, further.name)}
            for message in (EXPIRY, batch, detection)
        ]
    finally:
        wire.CHANNELS.clear()
        wire.CHANNELS.update(known)
    assert list(map(len, ids)) == [1, 1, 2]


moments = st.integers(0, 12).map(lambda number: NOON + number / 4)


@given(st.none() | moments, st.lists(moments, unique=True))
def test_the_detection_at_the_time_of_the_message_is_ended_or_else_the_latest_before(
    detected_by: float | None, times: list[float]
) -> None:
    chosen = choose_detection(undated_expiry(detected_by=detected_by), times)
    if detected_by in times:
        assert chosen == detected_by
    else:
        before = sorted(time for time in times if detected_by is None or time < detected_by + 1)
        assert chosen == (before[-1] if before else None)


def test_a_dated_expiry_keeps_what_the_message_said_and_tells_that_its_detection_was_chosen() -> None:
    expiry = undated_expiry(tier="daily", source="pl", correlation_id="flow", extra={"why": "refuted"})
    event = date_expiry(expiry, NOON)
    same = {"event_id", "occurred_at", "source", "correlation_id", "symbol", "pattern", "tier"}
    assert event.model_dump(include=same) == expiry.model_dump(include=same)
    assert (event.detected_at, event.reason) == (NOON, "announced")
    assert event.extra == {"why": "refuted", DETECTION_FROM: "latest"}


builders = st.sampled_from((pattern_detected, undated_expiry))
histories = st.lists(st.builds(lambda build, symbol: build(symbol=symbol), builders, st.sampled_from(("A", "B"))))


@given(histories)
def test_waves_keep_the_order_of_each_symbol_and_give_each_undated_expiry_a_wave(events: list[Event]) -> None:
    waves = [[events[number] for number in wave] for wave in in_waves(events)]
    for stream in {event.stream for event in events}:
        own = [event for wave in waves for event in wave if event.stream == stream]
        assert own == [event for event in events if event.stream == stream]
    for wave in waves:
        undated = [event.stream for event in wave if isinstance(event, UndatedExpiry)]
        assert undated in ([], [event.stream for event in wave])
        assert len(undated) == len(set(undated))
    if not any(isinstance(event, UndatedExpiry) for event in events):
        assert waves == [events]
