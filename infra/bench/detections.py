"""Synthetic pattern detections for thousands of symbols. Equal seeds give equal detections."""

import random
from collections.abc import Iterator

import orjson

from domain.announcements import Message
from domain.wire import PATTERNS

PATTERN_TYPES = (
    *("Doji", "Hammer", "Engulfing", "Harami", "Morning_Star", "Shooting_Star", "Weekly_Breakout"),
    *("Daily_Breakout", "Bull_Flag", "Ascending_Triangle", "Volume_Spike", "Gap_Up", "Gap_Down"),
)
TIERS = ("daily", "intraday", "combo")


def symbol(number: int) -> str:
    """Return the synthetic symbol of this number: AAAA, AAAB, and so on."""
    letters = ""
    for _ in range(4):
        number, letter = divmod(number, 26)
        letters = chr(ord("A") + letter) + letters
    return letters


def detections(count: int, symbols: int, now: float, seed: int = 1) -> Iterator[Message]:
    """Yield messages of detections with distinct times in the hour before ``now``. They expire 12 to 24 hours after it.

    Args:
        count: Number of detections.
        symbols: Number of symbols over which the detections are spread.
        now: Epoch seconds.
        seed: Seed of the random values.
    """
    chance = random.Random(seed)  # noqa: S311 not for security
    for number in range(count):
        detected_at = now - 3600 * (1 - number / count)
        data = {
            "symbol": symbol(chance.randrange(symbols)),
            "pattern": chance.choice(PATTERN_TYPES),
            "confidence": round(chance.uniform(0.3, 1), 4),
            "current_price": round(chance.uniform(5, 500), 2),
            "price_change": round(chance.gauss(0, 2), 2),
            "timestamp": round(detected_at, 3),
            "expires_at": round(now + 86_400 * chance.uniform(0.5, 1), 3),
            "indicators": {
                "relative_strength": round(chance.uniform(0.3, 3), 3),
                "relative_volume": round(chance.uniform(0.2, 5), 3),
                "rsi": round(chance.uniform(10, 90), 2),
                "sma_20": round(chance.uniform(5, 500), 2),
            },
            "source": chance.choice(TIERS),
        }
        payload = {"event_type": "pattern_detected", "source": "bench", "timestamp": data["timestamp"], "data": data}
        yield Message(PATTERNS, orjson.dumps(payload), now, "stream")


def expiry(detection: Message) -> Message:
    """Return the message that ends the detection of another message of ``detections``."""
    body = orjson.loads(detection.payload)
    data = {name: body["data"][name] for name in ("symbol", "pattern", "timestamp", "source")}
    payload = {**body, "event_type": "pattern_expired", "data": data}
    return detection._replace(payload=orjson.dumps(payload))
