"""The default end of detections whose producer names no end.

The end is set where messages come in, and is thus part of the event. So the fold needs no setting: equal events give
equal rows in every build. A mark in the event tells such an end from an end that a producer announced.
"""

from collections.abc import Mapping
from typing import Literal

from domain.events import Event, PatternDetected

EVERY_TIER = "*"
"""Key of the seconds for tiers without seconds of their own."""

EXPIRES_FROM = "tickview:expires_from"
"""Member of ``extra`` that marks a default end. Its value is ``default``."""

EndOrigin = Literal["message", "default"]
"""Origin of the end of a pattern: the producer's message, or the default of the recorder."""


def add_default_end(event: Event, seconds_by_tier: Mapping[str, float]) -> Event:
    """Give a detection without an end the default end of its tier.

    The default counts from the detection or from its announcement, whichever is later. Neither depends on the time of
    receipt if the producer names them, so that a message which is recorded late ends when it would have ended.

    Args:
        event: Any event.
        seconds_by_tier: Tier in small letters -> seconds. ``EVERY_TIER`` stands for all other tiers.

    Returns:
        The detection with its end and the mark. Any other event unchanged.
    """
    if not isinstance(event, PatternDetected) or event.expires_at is not None:
        return event
    seconds = seconds_by_tier.get(event.tier.lower(), seconds_by_tier.get(EVERY_TIER))
    if seconds is None:
        return event
    end = max(event.detected_at, event.occurred_at) + seconds
    return event.model_copy(update={"expires_at": end, "extra": {**event.extra, EXPIRES_FROM: "default"}})


def parse_default_expiry(text: str) -> dict[str, float | str]:
    """Split ``3600`` or ``daily=86400,intraday=3600`` into tiers and seconds. The seconds are not checked.

    Raises:
        ValueError: A tier has two values.
    """
    seconds: dict[str, float | str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        tier, separator, value = part.rpartition("=")
        name = tier.strip().lower() if separator else EVERY_TIER
        if name in seconds:
            raise ValueError(f"{'every other tier' if name == EVERY_TIER else name} has two values")
        seconds[name] = value.strip()
    return seconds
