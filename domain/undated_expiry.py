"""Expiries that do not name the time of their detection: the choice of the detection that such an expiry ends.

The choice is made where messages are recorded, and is thus part of the event. So the fold needs no search: equal events
give equal rows in every build. A mark in the event tells such an expiry from an expiry that names its detection.
"""

from collections.abc import Iterable

from domain.events import PatternExpired, UndatedExpiry

DETECTION_FROM = "tickview:detection_from"
"""Member of ``extra`` that marks an expiry whose detection TickView has chosen. Its value is ``latest``."""

CLOCK_STEP_SECONDS = 1.0
"""Coarsest step of the times in messages. A message in whole seconds may seem to precede its detection by less."""


def choose_detection(expiry: UndatedExpiry, times: Iterable[float]) -> float | None:
    """Choose the detection that an expiry ends: the one at the time of the message, else the latest one before it.

    Args:
        expiry: The expiry.
        times: The times of the active detections of the expiry's symbol, pattern and tier, in epoch seconds.

    Returns:
        The time of the detection. None: there is no such detection.
    """
    latest = expiry.detected_by
    if latest is None:
        return max(times, default=None)
    candidates = [time for time in times if time < latest + CLOCK_STEP_SECONDS]
    named = (time for time in candidates if _milliseconds(time) == _milliseconds(latest))
    return next(named, max(candidates, default=None))


def date_expiry(expiry: UndatedExpiry, detected_at: float) -> PatternExpired:
    """Return the expiry of the detection at ``detected_at`` (epoch seconds), with the mark ``DETECTION_FROM``."""
    fields = expiry.model_dump(exclude={"detected_by", "extra"})
    extra = {**expiry.extra, DETECTION_FROM: "latest"}
    return PatternExpired(**fields, detected_at=detected_at, extra=extra)


def _milliseconds(time: float) -> int:
    """Return a time as the ids of patterns have it."""
    return round(time * 1000)
