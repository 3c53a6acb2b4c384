"""``producers``: the latest health report of each producer. Answers whether those we listen to are well."""

from dataclasses import dataclass, field
from typing import Any

from domain.events import HealthReported
from projections.base import Count, Index, Projection


@dataclass(frozen=True, slots=True)
class ProducerRow:
    """What a producer last said of itself, and how often it has reported."""

    source: str
    status: str
    reported_at: float
    reports: int = 1
    metrics: dict[str, Any] = field(default_factory=dict)
    event_id: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


class Producers(Projection[ProducerRow, HealthReported]):
    """Producers by their latest report."""

    name = "producers"
    version = 1
    row = ProducerRow
    handles = (HealthReported,)
    indexes = (Index("reported_at", score=lambda row: row.reported_at),)
    summaries = (Count("by_status", by=lambda row: row.status),)

    def keys(self, event: HealthReported) -> tuple[str, ...]:
        """The source."""
        return (event.source,)

    def evolve(self, row: ProducerRow | None, event: HealthReported) -> ProducerRow:
        """The latest report counts, whatever the order of arrival."""
        reports = row.reports + 1 if row else 1
        if row and event.occurred_at < row.reported_at:
            return ProducerRow(row.source, row.status, row.reported_at, reports, row.metrics, row.event_id, row.extra)
        return ProducerRow(
            event.source, event.status, event.occurred_at, reports, event.metrics, event.event_id, event.extra
        )
