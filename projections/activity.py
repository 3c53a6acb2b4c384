"""The read model ``activity``: numbers of events by day, type and source, for the dashboard's statistics."""

from dataclasses import dataclass
from datetime import UTC, datetime

from domain.event_types import EVENT_TYPES
from domain.events import Event
from projections.base import Index, Projection

SECONDS_A_DAY = 86_400
"""Seconds of one day."""


@dataclass(frozen=True, slots=True)
class ActivityRow:
    """The number of events of one type from one source on one day, in one partition of the market log."""

    day: str
    """Day in UTC, for example ``2026-11-23``."""
    event_type: str
    """Name of the event class."""
    source: str
    events: int
    """Number of events, from 1."""
    first_at: float
    """Time of the earliest event in seconds since the epoch."""
    latest_at: float
    """Time of the latest event in seconds since the epoch."""


def day_of(moment: float) -> str:
    """Return the day of a time in seconds since the epoch, in UTC: ``2026-11-23``."""
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


class Activity(Projection[ActivityRow, Event]):
    """The projection that counts events by day of occurrence, type and source."""

    name = "activity"
    version = 1
    row = ActivityRow
    handles = tuple(EVENT_TYPES.values())
    indexes = (
        Index("day", score=lambda row: row.first_at // SECONDS_A_DAY),
        Index("latest_at", score=lambda row: row.latest_at),
    )

    def keys(self, event: Event) -> tuple[str, ...]:
        """Return the day, the type and the source of the event."""
        return (f"{day_of(event.occurred_at)}/{type(event).__name__}/{event.source}",)

    def evolve(self, row: ActivityRow | None, event: Event) -> ActivityRow:
        """Count the event. Folding an event twice counts it twice: the event log and the checkpoint prevent this."""
        moment = event.occurred_at
        if row is None:
            return ActivityRow(day_of(moment), type(event).__name__, event.source, 1, moment, moment)
        return ActivityRow(
            row.day,
            row.event_type,
            row.source,
            row.events + 1,
            min(row.first_at, moment),
            max(row.latest_at, moment),
        )
