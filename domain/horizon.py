"""The horizon of times: how far ahead of its receipt an event may claim to happen.

A producer chooses the times of its events. An event from the future would be the latest of its row for ever: the row
would ignore every later event. The recorder bounds the times by the time of receipt, and the fold by the time of
recording.
"""

from typing import Any, NamedTuple

from domain.events import Event

LONGEST_SECONDS = 86_400
"""The longest horizon of an occurrence, in seconds. It covers a local time that was announced as UTC. The fold has this
horizon under every setting, so that equal events give equal rows."""

OCCURRENCES = ("occurred_at", "detected_at")
"""The fields of events with a time that has passed when the event is announced."""

ENDS = ("expires_at", "estimated_completion")
"""The fields of events with a time that is expected."""


class Horizon(NamedTuple):
    """The highest times that an event may claim, in relation to the present.

    Attributes:
        seconds: Seconds by which the times in ``OCCURRENCES`` may be ahead, from 0 to ``LONGEST_SECONDS``. Clocks of
            producers differ.
        end_seconds: Seconds by which the times in ``ENDS`` may be ahead.
        clamps: Whether times beyond the horizon are replaced. Else the event is refused.
    """

    seconds: float = 600.0
    end_seconds: float = 3_652.5 * 86_400
    clamps: bool = False

    def exceeded(self, event: Event, now: float) -> dict[str, float]:
        """Return the fields of the event whose times are beyond the horizon, each with its highest time."""
        exceeded: dict[str, float] = {}
        fields = vars(event)  # getattr() of a field that the event does not have takes as long as all of this.
        for names, limit in ((OCCURRENCES, now + self.seconds), (ENDS, now + self.end_seconds)):
            for name in names:
                if (fields.get(name) or 0.0) > limit:
                    exceeded[name] = limit
        return exceeded


def clamp(event: Event, now: float, exceeded: dict[str, float]) -> Event:
    """Replace the times of an event that are beyond the horizon.

    An occurrence becomes the present, as if the message had no time: so the next event about the row is later. An end
    becomes the highest time. ``extra`` keeps the claimed times under ``tickview:claimed``.

    Args:
        event: The event.
        now: The time of receipt in seconds since the epoch.
        exceeded: The fields, as ``Horizon.exceeded`` returns them.
    """
    claimed = {field: getattr(event, field) for field in exceeded}
    changes: dict[str, Any] = {field: now if field in OCCURRENCES else limit for field, limit in exceeded.items()}
    return event.model_copy(update={**changes, "extra": {**event.extra, "tickview:claimed": claimed}})


def is_from_the_future(time: float, recorded_at: float) -> bool:
    """Return whether a time is beyond the longest horizon. Both times are in seconds since the epoch."""
    return time > recorded_at + LONGEST_SECONDS
