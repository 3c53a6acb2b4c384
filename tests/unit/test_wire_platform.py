"""Messages of the platform's producer: each becomes the expected event, or a dead letter with the expected code.

``tests/wire/platform.jsonl`` has the shapes that the producer publishes on each of its channels. ``@now±s`` stands for
epoch seconds, and ``@iso``, ``@iso-z`` and ``@naive`` stand for times as texts.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import wire
from domain.wire.channels import CHANNELS, subscription_of
from tests.unit.test_wire import RECEIVED_AT, check

ROOT = Path(__file__).parents[2]
NOW = 1757009990
ZONE = ZoneInfo("America/New_York")
CONVENTIONS = wire.Conventions.of(ZONE, wire.TIERS)

LINES: dict[str, dict[str, Any]] = {
    line["label"]: line for line in map(json.loads, (ROOT / "tests/wire/platform.jsonl").read_text().splitlines())
}

DETECTED: dict[str, dict[str, Any]] = {
    "s19-conftest": {"tier": "daily", "current_price": 150.25, "source": "unknown", "expires_at": NOW + 3600},
    "s10-sim-flat": {"tier": "unknown", "source": "tickstock_pl"},
    "guide-ticker-flat": {"symbol": "CL03", "pattern": "breakout", "source": "tickstock_pl"},
    "req-doc-nested-flowid-tier": {"tier": "intraday", "correlation_id": "4a8bee11-ee69-45cc-ad42-c0e25d65b707"},
    "req-doc-minimal": {"tier": "test", "price_change": -1.25},
    "s25-double-nested": {"pattern": "MACrossover", "rsi": 65.5, "correlation_id": "f-cl06"},
    "s46-double-nested-tier+source": {"tier": "daily_intraday", "source": "TickStockPL"},
    "s25-dup-event-type": {"pattern": "MACrossover", "extra": {}},
    "legacy-pattern_name": {"pattern": "HeadShoulders"},
    "test-pattern-event-full": {"tier": "intraday", "relative_volume": 2.1},
    "fallback-detector": {"source": "fallback_detector", "tier": "fallback"},
    "flat-source-is-tier": {"tier": "intraday", "source": "unknown", "current_price": 2750.5},
    "no-event-type-tier": {"tier": "daily", "current_price": 150.25, "source": "TickStockPL-Test"},
    "s26-flat-timeframe": {"tier": "Daily", "relative_strength": 75.5, "relative_volume": 2.5, "current_price": 150.25},
    "s17-registry-flat-on-patterns": {"pattern": "WeeklyBO", "tier": "daily", "current_price": 195.45},
    "s17-registry-own-channel": {"pattern": "WeeklyBO", "tier": "daily"},
    "s19-tier-channel-daily": {"tier": "daily"},
    "s19-tier-channel-intraday": {"tier": "intraday"},
    "s19-tier-channel-combo": {"tier": "combo"},
    "s33-streaming": {"pattern": "Hammer", "tier": "1min"},
    "s33-streaming-on-patterns": {"pattern": "Hammer", "tier": "1min"},
    "s33-event-key-on-patterns": {"pattern": "HeadShoulders", "tier": "1min"},
    "redetected-later": {"detected_at": NOW - 120},
    "redetected-later-2": {"detected_at": NOW - 60},
    "pattern-with-space": {"pattern": "Cup and Handle"},
    "confidence-percent": {"confidence": 0.85},
    "no-event-type-nested": {"pattern": "NoEventType", "detected_at": RECEIVED_AT},
}
OTHER_EVENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "s17-system-health": ("HealthReported", {"source": "TickStockPL", "status": "healthy"}),
    "s17-system-health-on-status": ("HealthReported", {"source": "TickStockPL"}),
    "s33-stream-health": ("HealthReported", {"status": "healthy", "metrics": {"active_symbols": 10}}),
    "s33-stream-health-on-status": ("HealthReported", {"metrics": {"active_symbols": 10}}),
    "updated": ("PatternUpdated", {"detected_at": NOW, "occurred_at": NOW + 5, "confidence": 0.92}),
    "expired": ("PatternExpired", {"detected_at": NOW, "tier": "intraday"}),
    "progress": ("BacktestProgressed", {"progress": 0.45, "processed_symbols": 45}),
    "progress-s14-no-type": ("BacktestProgressed", {"progress": 1.0, "status": "completed"}),
    "progress-s26": ("BacktestProgressed", {"processed_symbols": 65, "extra": {"total_symbols": 100}}),
    "progress-percent": ("BacktestProgressed", {"progress": 0.45, "status": "running"}),
    "progress-nested": ("BacktestProgressed", {"job_id": "bt_nest", "progress": 0.3}),
    "result-completed": ("BacktestCompleted", {"processing_time_seconds": 45.2}),
    "result-s14": ("BacktestCompleted", {"results": {"symbols": ["AAPL"], "total_return": 0.11}}),
    "result-failed": ("BacktestFailed", {"error_message": None}),
    "result-failed-error": ("BacktestFailed", {"error_message": "no data for ZZZZ"}),
    "health": ("HealthReported", {"source": "tickstock_pl_cl", "extra": {}}),
    "health-s26-flat": (
        "HealthReported",
        {
            "metrics": {
                "cpu_usage": 45.2,
                "memory_usage": 67.8,
                "active_connections": 25,
                "processing_rate": 1250.5,
            }
        },
    ),
    "health-bare": ("HealthReported", {"source": "unknown", "metrics": {}}),
}
BATCHES = {"s33-batch-on-patterns": ["Harami", "Doji"], "s33-batch-detected": ["Harami"]}
REFUSED = {
    **dict.fromkeys(("empty", "missing-data", "verification-probe"), "missing-field"),
    "malformed": "not-json",
    **dict.fromkeys(("s17-outcome", "s17-outcome-on-patterns"), "unknown-event-type"),
    **dict.fromkeys(
        ("s33-indicator", "s33-alert", "errors", "monitoring", "ticks", "eod", "universe-updated"), "unknown-channel"
    ),
}


@pytest.fixture(autouse=True, scope="module")
def _documented_channels() -> Iterator[None]:
    """Add the channels that the documentation names as the value for this producer."""
    before = dict(CHANNELS)
    [value] = re.findall(r"TICKVIEW_CHANNELS='([^']+)'", (ROOT / "docs/platform.md").read_text())
    for text in value.split(","):
        wire.add_further_channel(wire.FurtherChannel.parse(text))
    yield
    CHANNELS.clear()
    CHANNELS.update(before)


def filled(value: Any) -> Any:
    """Replace the placeholders of times."""
    if isinstance(value, dict):
        return {name: filled(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return list(map(filled, value))
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    if value.startswith("@now"):
        return NOW + int(value.removeprefix("@now"))
    now = datetime.fromtimestamp(NOW, UTC)
    naive = now.astimezone(ZONE).replace(tzinfo=None).isoformat()
    return {"@iso": now.isoformat(), "@iso-z": naive_utc(now) + "Z", "@naive": naive}[value]


def naive_utc(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat()


def read(label: str) -> wire.ReadResult:
    line = LINES[label]
    payload = line["payload"].encode() if isinstance(line["payload"], str) else json.dumps(filled(line["payload"]))
    raw = payload if isinstance(payload, bytes) else payload.encode()
    result = wire.read(line["channel"], raw, RECEIVED_AT, conventions=CONVENTIONS)
    check(result)
    return result


def test_every_message_of_the_platform_has_an_expectation() -> None:
    expected = [*DETECTED, *OTHER_EVENTS, *BATCHES, *REFUSED]
    assert sorted(expected) == sorted(LINES)


@pytest.mark.parametrize("label", [*DETECTED, *OTHER_EVENTS])
def test_a_message_becomes_the_expected_event(label: str) -> None:
    kind, fields = ("PatternDetected", DETECTED[label]) if label in DETECTED else OTHER_EVENTS[label]
    result = read(label)
    assert result.refusals == ()
    [event] = result.events
    assert type(event).__name__ == kind
    assert {name: getattr(event, name) for name in fields} == fields
    if label in DETECTED and label not in ("redetected-later", "redetected-later-2", "no-event-type-nested"):
        assert event.occurred_at == NOW


@pytest.mark.parametrize("label", BATCHES)
def test_a_batch_becomes_an_event_for_each_detection(label: str) -> None:
    result = read(label)
    assert result.refusals == ()
    assert [event.pattern for event in result.events] == BATCHES[label]  # type: ignore[attr-defined]


@pytest.mark.parametrize("label", REFUSED)
def test_a_message_of_another_kind_becomes_the_documented_dead_letter(label: str) -> None:
    result = read(label)
    assert result.events == ()
    assert [refusal.code for refusal in result.refusals] == [REFUSED[label]]


@pytest.mark.parametrize(("label", "field"), [("confidence-percent", "confidence"), ("progress-percent", "progress")])
def test_a_conversion_from_per_cent_is_told(label: str, field: str) -> None:
    assert read(label).percent == (field,)
    assert read("s19-conftest").percent == (None,)


def test_a_channel_is_heard_by_its_name_or_by_the_first_pattern() -> None:
    assert subscription_of("tickstock.events.patterns") == "tickstock.events.patterns"
    assert subscription_of("tickstock.events.patterns.daily") == "tickstock.events.patterns.*"
    assert subscription_of("tickstock.all_ticks") is None


@pytest.mark.parametrize("text", ["a", "a=", "=patterns", "a=ticks", " a=health", "a[b]=health", "a\\*=health"])
def test_a_further_channel_without_a_name_or_a_known_kind_is_refused(text: str) -> None:
    with pytest.raises(wire.ChannelError):
        wire.FurtherChannel.parse(text)


def test_a_channel_cannot_carry_a_second_kind_of_messages() -> None:
    wire.add_further_channel(wire.FurtherChannel(wire.HEALTH, "health"))
    with pytest.raises(wire.ChannelError, match="another kind"):
        wire.add_further_channel(wire.FurtherChannel(wire.HEALTH, "patterns"))


SPELLINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "symbol": ({"symbol": "AAPL"}, {"ticker": "AAPL"}, {"symbol": " AAPL "}, {"symbol": None, "ticker": "AAPL"}),
    "pattern": ({"pattern": "Doji"}, {"pattern_name": "Doji"}, {"pattern_type": "Doji"}),
    "confidence": ({"confidence": 0.85}, {"confidence": "0.85"}, {"confidence": 85}, {"confidence": "85.0"}),
    "price": ({"current_price": 10}, {"price": 10.0}, {"price_at_detection": "10"}),
    "volume": ({"relative_volume": 2}, {"volume_multiple": 2}, {"indicators": {"volume_ratio": "2"}}),
    "rsi": ({}, {"rsi": None}, {"rsi": float("nan")}, {"rsi": float("-inf")}, {"rsi": "NaN"}),
    "tier": ({"tier": "daily"}, {"timeframe": "daily"}, {"source": "daily"}),
    "type": ({"event_type": "pattern_detected"}, {"type": "Pattern_Detected"}, {"event": "pattern_detected"}, {}),
    "time": (
        {"timestamp": NOW},
        {"timestamp": NOW * 1000},
        {"timestamp": "2025-09-04T14:19:50"},
        {"timestamp": "2025-09-04T18:19:50Z"},
        {"timestamp": "20250904141950"},
    ),
}


@given(st.tuples(*map(st.sampled_from, SPELLINGS.values())), st.sampled_from(["flat", "data", "detection"]))
def test_every_spelling_of_a_detection_is_the_same_event(parts: tuple[dict[str, Any], ...], envelope: str) -> None:
    body = {name: value for part in parts for name, value in part.items()}
    message = body if envelope == "flat" else {"flow_id": None, envelope: body}
    [event] = wire.read(wire.PATTERNS, json.dumps(message).encode(), RECEIVED_AT, conventions=CONVENTIONS).events
    [plain] = wire.read(
        wire.PATTERNS,
        json.dumps({name: value for part in SPELLINGS.values() for name, value in part[0].items()}).encode(),
        RECEIVED_AT,
    ).events
    assert event.model_copy(update={"event_id": ""}) == plain.model_copy(update={"event_id": ""})
