"""The messages of Socket.IO: filters that clients send, and events that they receive."""

from typing import Any

import orjson
import pytest

from readapi.push.messages import message
from readapi.socket_io.events import FRAMINGS, PATTERN_FIELDS, Feed
from readapi.socket_io.subscription_messages import requested_filters

KNOWN = ("symbols", "pattern_types", "confidence_min", "timeframe", "rsi_range")

ROW = {**dict.fromkeys(PATTERN_FIELDS), "id": "S:Doji:daily:1", "pattern": "Doji", "tier": "daily"}


@pytest.mark.parametrize(
    ("feed", "sent", "parameters", "ignored"),
    [
        ("patterns", None, {}, []),
        ("patterns", 7, {}, []),
        ("patterns", "AAPL", {"symbols": "AAPL"}, []),
        ("patterns", ["AAPL", "MSFT"], {"symbols": ["AAPL", "MSFT"]}, []),
        ("tier_patterns", ["daily"], {"timeframe": ["daily"]}, []),
        ("pattern_alerts", {"min_confidence": 0.5, "x": 1}, {"confidence_min": "0.5"}, ["x"]),
        ("patterns", {"filters": {"patterns": ["Doji"], "rsi_range": [30, 70]}}, None, []),
        ("patterns", {"symbols": [], "tier": None}, {}, []),
    ],
)
def test_filters_are_read_from_each_form(feed: Feed, sent: Any, parameters: Any, ignored: list[str]) -> None:
    expected = {"pattern_types": ["Doji"], "rsi_range": "30,70"} if parameters is None else parameters
    assert requested_filters(feed, sent, KNOWN) == (expected, ignored)


def events(feed: Feed, kind: str, **members: Any) -> list[tuple[str, Any]]:
    """Return the events that clients of a feed receive for a message of the hub."""
    return [(name, data) for name, data in orjson.loads(FRAMINGS[feed](message(kind, "id", **members)))]


def test_each_feed_has_its_events_of_a_pattern() -> None:
    changes = [{"op": "set", "pattern": ROW}, {"op": "remove", "id": "gone"}]
    names = {
        feed: [name for name, _ in events(feed, "changes", topic="patterns", changes=changes)]
        for feed in FRAMINGS
        if feed != "updates"
    }
    assert names == {
        "patterns": ["pattern_detected", "pattern_removed"],
        "pattern_alerts": ["pattern_alert", "pattern_removed"],
        "tier_patterns": ["tier_pattern_daily", "pattern_removed"],
    }


def test_several_patterns_are_sent_as_a_batch_too() -> None:
    changes = [{"op": "set", "pattern": {**ROW, "id": str(number)}} for number in range(3)]
    *single, (name, batch) = events("patterns", "changes", topic="patterns", changes=changes)
    assert [data["id"] for _, data in single] == ["0", "1", "2"]
    assert (name, batch) == ("pattern_batch_update", {"patterns": [data for _, data in single], "count": 3})


def test_a_run_that_has_ended_is_a_result() -> None:
    changes = [{"op": "set", "backtest": {"job_id": "1", "status": status}} for status in ("processing", "failed")]
    assert [name for name, _ in events("updates", "changes", topic="backtests", changes=changes)] == [
        "backtest_progress",
        "backtest_result",
    ]


def test_a_producer_that_has_not_reported_has_no_health() -> None:
    rows = [{"source": source, "status": "healthy", "reports": reports} for source, reports in (("a", 0), ("b", 1))]
    changes = [{"op": "set", "row": row} for row in rows]
    assert events("updates", "changes", topic="producers", changes=changes) == [
        ("system_health", {"health_data": rows[1]})
    ]


def test_resets_and_drops_are_events_and_heartbeats_are_not() -> None:
    assert events("updates", "heartbeat") == events("patterns", "ready", resumed=False) == []
    assert events("patterns", "reset", reason="lost") == [("reset", {"id": "id", "reason": "lost"})]


def test_an_alert_is_an_event_of_the_one_feed_that_every_client_has() -> None:
    alert = {"type": "pattern.detected", "data": {"id": "msg_1"}}
    received = {feed: events(feed, "alert", alert=alert) for feed in FRAMINGS}
    [(name, data)] = received.pop("updates")
    assert (name, data["alert"]) == ("alert", alert)
    assert set(map(len, received.values())) == {0}
