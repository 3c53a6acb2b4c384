"""The events of Socket.IO, made from the messages of the hub.

A framing encodes the events of one message once for all clients with equal subscriptions, as a JSON list of names and
data.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import orjson

from projections.backtests import ENDED
from readapi.push.messages import Framing, PushMessage

Feed = Literal["updates", "patterns", "pattern_alerts", "tier_patterns"]
"""The subscriptions of a client. Every client has ``updates``: backtests and health of the producers."""

PATTERN_FIELDS = (
    "id",
    "symbol",
    "pattern",
    "tier",
    "confidence",
    "detected_at",
    "updated_at",
    "expires_at",
    "current_price",
    "price_change",
    "relative_strength",
    "relative_volume",
    "rsi",
    "indicators",
)
"""The columns of a pattern that its events contain."""

ALERT_FEED: Feed = "updates"
"""The subscription that carries the alerts of the user. Every client has it, and has it once."""

Event = tuple[str, Any]
"""Name and data of an event."""


def pattern_data(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a pattern, with the further names that the UI reads. ``source`` is the tier, as in a scan."""
    return {
        **row,
        "pattern_type": row["pattern"],
        "type": row["pattern"],
        "source": row["tier"],
        "price": row["current_price"],
        "change_percent": row["price_change"],
        "rs": row["relative_strength"],
        "volume": row["relative_volume"],
        "timestamp": row["detected_at"],
    }


def _updates(message: Mapping[str, Any]) -> Iterator[Event]:
    for change in message["changes"]:
        if change["op"] == "remove":
            continue
        if message["topic"] == "backtests":
            run = change["backtest"]
            name = "backtest_result" if run["status"] in ENDED else "backtest_progress"
            yield name, {"event": {"type": name, "data": run}}
        elif change["row"]["reports"]:
            yield "system_health", {"health_data": change["row"]}


def _patterns(message: Mapping[str, Any]) -> Iterator[Event]:
    rows = [pattern_data(change["pattern"]) for change in message["changes"] if change["op"] == "set"]
    for row in rows:
        yield "pattern_detected", row
    if len(rows) > 1:
        yield "pattern_batch_update", {"patterns": rows, "count": len(rows)}
    yield from _removals(message)


def _pattern_alerts(message: Mapping[str, Any]) -> Iterator[Event]:
    for change in message["changes"]:
        if change["op"] == "set":
            yield "pattern_alert", {"event": {"type": "pattern_detected", "data": pattern_data(change["pattern"])}}
    yield from _removals(message)


def _tier_patterns(message: Mapping[str, Any]) -> Iterator[Event]:
    for change in message["changes"]:
        if change["op"] == "set":
            row = pattern_data(change["pattern"])
            yield f"tier_pattern_{row['tier']}", row
    yield from _removals(message)


def _removals(message: Mapping[str, Any]) -> Iterator[Event]:
    for change in message["changes"]:
        if change["op"] == "remove":
            yield "pattern_removed", {"id": change["id"]}


def _frame(message: PushMessage, feed: Feed) -> bytes:
    content: dict[str, Any] = orjson.loads(message.body)
    events: list[Event] = []
    if message.type == "changes":
        events = list(_CHANGES[feed](content))
    elif message.type in ("reset", "dropped") or (message.type == "alert" and feed == ALERT_FEED):
        events = [(content.pop("type"), content)]
    return orjson.dumps(events)


_CHANGES: Mapping[Feed, Callable[[Mapping[str, Any]], Iterator[Event]]] = {
    "updates": _updates,
    "patterns": _patterns,
    "pattern_alerts": _pattern_alerts,
    "tier_patterns": _tier_patterns,
}


FRAMINGS: Mapping[Feed, Framing] = {feed: partial(_frame, feed=feed) for feed in _CHANGES}
"""The framing of each feed."""
