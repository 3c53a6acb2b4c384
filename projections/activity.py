"""The read model ``activity``: numbers of events by day, type and source, for the dashboard's statistics."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated

from domain.event_types import EVENT_TYPES
from domain.events import Event
from projections.base import Projection
from projections.columns import EPOCH_SECONDS, Column

KEPT_MINUTES = 60
"""Highest number of minutes for which a row has the number of events."""

_MINUTES = [f"{hour:02}:{minute:02}" for hour in range(24) for minute in range(60)]
"""The minutes of a day."""


@dataclass(frozen=True, slots=True)
class ActivityRow:
    """The number of events of one type from one source on one day, in one partition of the market log."""

    day: Annotated[str, Column(equality=True, sort=True)]
    """Day in UTC, for example ``2026-11-23``."""
    event_type: Annotated[str, Column(equality=True)]
    """Name of the event class."""
    source: Annotated[str, Column(equality=True)]
    """Name of the producer."""
    events: Annotated[int, Column(range=True, sort=True)]
    """Number of events, from 1."""
    first_at: Annotated[float, Column(range=True, sort=True, unit=EPOCH_SECONDS)]
    """Time of the earliest event."""
    latest_at: Annotated[float, Column(range=True, sort=True, unit=EPOCH_SECONDS)]
    """Time of the latest event."""
    minutes: dict[str, int] = field(default_factory=dict)
    """Numbers of events in the latest 60 minutes of the day that have events, by the minute in UTC: ``10:05``."""


def day_of(moment: float) -> str:
    """Return the day of a time in seconds since the epoch, in UTC: ``2026-11-23``."""
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


def minute_of(moment: float) -> str:
    """Return the minute of a time in seconds since the epoch, in UTC: ``10:05``."""
    return _MINUTES[int(moment // 60) % len(_MINUTES)]


class Activity(Projection[ActivityRow, Event]):
    """The projection that counts events by day of occurrence, type and source."""

    name = "activity"
    version = 2
    row = ActivityRow
    handles = EVENT_TYPES.values()
    key = "key"
    order = "latest_at"
    has_replica = True

    def keys(self, event: Event) -> tuple[str, ...]:
        """Return the day, the type and the source of the event."""
        return (f"{day_of(event.occurred_at)}/{type(event).__name__}/{event.source}",)

    def evolve(self, row: ActivityRow | None, event: Event) -> ActivityRow:
        """Count the event. Folding an event twice counts it twice: the event log and the checkpoint prevent this."""
        moment = event.occurred_at
        minute = minute_of(moment)
        if row is None:
            return ActivityRow(day_of(moment), type(event).__name__, event.source, 1, moment, moment, {minute: 1})
        return ActivityRow(
            row.day,
            row.event_type,
            row.source,
            row.events + 1,
            min(row.first_at, moment),
            max(row.latest_at, moment),
            _latest({**row.minutes, minute: row.minutes.get(minute, 0) + 1}),
        )

    def merge(self, row: ActivityRow, other: ActivityRow) -> ActivityRow:
        """Add the numbers of two partitions."""
        first_at, latest_at = min(row.first_at, other.first_at), max(row.latest_at, other.latest_at)
        minutes = _latest(dict(sorted((Counter(row.minutes) + Counter(other.minutes)).items())))
        return replace(row, events=row.events + other.events, first_at=first_at, latest_at=latest_at, minutes=minutes)


def _latest(minutes: dict[str, int]) -> dict[str, int]:
    """Return the latest minutes."""
    return minutes if len(minutes) <= KEPT_MINUTES else dict(sorted(minutes.items())[-KEPT_MINUTES:])
