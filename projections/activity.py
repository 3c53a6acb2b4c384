"""``activity``: how many events there were, per day, type and source. Answers the dashboard's statistics."""

from dataclasses import dataclass
from datetime import UTC, datetime

from domain.events import EVENT_TYPES, Event
from projections.base import Index, Projection

SECONDS_A_DAY = 86_400


@dataclass(frozen=True, slots=True)
class ActivityRow:
    """The events of one type from one source on one day (UTC). A row stands in each partition that has some."""

    day: str
    event_type: str
    source: str
    events: int
    first_at: float
    latest_at: float


def day_of(moment: float) -> str:
    """The day, UTC, ``2026-11-23``."""
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


class Activity(Projection[ActivityRow, Event]):
    """Events counted by the day they happened, their type and their source."""

    name = "activity"
    version = 1
    row = ActivityRow
    handles = tuple(EVENT_TYPES.values())
    indexes = (
        Index("day", score=lambda row: row.first_at // SECONDS_A_DAY),
        Index("latest_at", score=lambda row: row.latest_at),
    )

    def keys(self, event: Event) -> tuple[str, ...]:
        """The day, type and source."""
        return (f"{day_of(event.occurred_at)}/{type(event).__name__}/{event.source}",)

    def evolve(self, row: ActivityRow | None, event: Event) -> ActivityRow:
        """One more."""
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
