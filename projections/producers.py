"""The read model ``producers``: the latest health report of each producer."""

from dataclasses import dataclass, field
from typing import Any

from domain.events import HealthReported
from projections.base import Count, Index, Projection


@dataclass(frozen=True, slots=True)
class ProducerRow:
    """The latest health report of one producer, and the number of its reports."""

    source: str
    status: str
    reported_at: float
    """Time of the latest report in seconds since the epoch."""
    reports: int = 1
    """Number of reports, from 1."""
    metrics: dict[str, Any] = field(default_factory=dict)
    event_id: str = ""
    """Id of the latest report's event."""
    extra: dict[str, Any] = field(default_factory=dict)


class Producers(Projection[ProducerRow, HealthReported]):
    """The projection of health reports."""

    name = "producers"
    version = 1
    row = ProducerRow
    handles = (HealthReported,)
    indexes = (Index("reported_at", score=lambda row: row.reported_at),)
    summaries = (Count("by_status", by=lambda row: row.status),)

    def keys(self, event: HealthReported) -> tuple[str, ...]:
        """Return the name of the producer."""
        return (event.source,)

    def evolve(self, row: ProducerRow | None, event: HealthReported) -> ProducerRow:
        """Count the report and keep the latest report. Reports may arrive in any order."""
        reports = row.reports + 1 if row else 1
        if row and event.occurred_at < row.reported_at:
            return ProducerRow(row.source, row.status, row.reported_at, reports, row.metrics, row.event_id, row.extra)
        return ProducerRow(
            event.source, event.status, event.occurred_at, reports, event.metrics, event.event_id, event.extra
        )
