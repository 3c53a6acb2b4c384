"""The read model ``producers``: the latest health report of each producer, and its expiries that ended no detection."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from domain.events import HealthReported, UndatedExpiry
from projections.base import Projection
from projections.columns import EPOCH_SECONDS, Column

UNREPORTED = "unknown"
"""The status of a producer that has not reported its health."""

Handled = HealthReported | UndatedExpiry
"""The events that the projection folds. The log has only the undated expiries that ended no detection."""


@dataclass(frozen=True, slots=True)
class ProducerRow:
    """The latest health report of one producer, the number of its reports and of its expiries without a detection."""

    source: str
    """Name of the producer."""
    status: Annotated[str, Column(equality=True, case="lower")]
    """State that the producer reported. ``unknown`` without a report."""
    reported_at: Annotated[float, Column(range=True, sort=True, unit=EPOCH_SECONDS)]
    """Time of the latest report. Without a report: time of the latest expiry that ended no detection."""
    reports: Annotated[int, Column(range=True, sort=True)] = 1
    """Number of reports."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Metrics by name, as the producer reported them."""
    event_id: str = ""
    """Id of the latest report's event."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Members of the report that have no column."""
    unmatched_expiries: Annotated[int, Column(range=True, sort=True)] = 0
    """Number of expiries that named no time of detection and found no active detection."""


class Producers(Projection[ProducerRow, Handled]):
    """The projection of health reports. A producer's reports are in one log, its expiries in those of the symbols."""

    name = "producers"
    version = 2
    row = ProducerRow
    handles = (HealthReported, UndatedExpiry)
    key = "source"
    order = "reported_at"
    has_replica = True

    def keys(self, event: Handled) -> tuple[str, ...]:
        """Return the name of the producer."""
        return (event.source,)

    def evolve(self, row: ProducerRow | None, event: Handled) -> ProducerRow:
        """Count the event, and keep the latest report. Events may arrive in any order."""
        said = _row_of(event)
        return said if row is None else self.merge(row, said)

    def merge(self, row: ProducerRow, other: ProducerRow) -> ProducerRow:
        """Add the numbers of both rows, and keep the later report. ``other`` wins if they are of the same time."""
        latest = max(row, other, key=lambda each: (each.reports > 0, each.reported_at, each is other))
        return replace(
            latest,
            reports=row.reports + other.reports,
            unmatched_expiries=row.unmatched_expiries + other.unmatched_expiries,
        )


def _row_of(event: Handled) -> ProducerRow:
    """Return the row of a producer with this event alone."""
    if isinstance(event, UndatedExpiry):
        return ProducerRow(event.source, UNREPORTED, event.occurred_at, reports=0, unmatched_expiries=1)
    return ProducerRow(event.source, event.status, event.occurred_at, 1, event.metrics, event.event_id, event.extra)
