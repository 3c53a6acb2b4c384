"""The read model ``producers``: the latest health report of each producer."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from domain.events import HealthReported
from projections.base import Projection
from projections.columns import EPOCH_SECONDS, Column


@dataclass(frozen=True, slots=True)
class ProducerRow:
    """The latest health report of one producer, and the number of its reports."""

    source: str
    """Name of the producer."""
    status: Annotated[str, Column(equality=True, case="lower")]
    """State that the producer reported."""
    reported_at: Annotated[float, Column(range=True, sort=True, unit=EPOCH_SECONDS)]
    """Time of the latest report."""
    reports: Annotated[int, Column(range=True, sort=True)] = 1
    """Number of reports, from 1."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Metrics by name, as the producer reported them."""
    event_id: str = ""
    """Id of the latest report's event."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Members of the report that have no column."""


class Producers(Projection[ProducerRow, HealthReported]):
    """The projection of health reports."""

    name = "producers"
    version = 1
    row = ProducerRow
    handles = (HealthReported,)
    key = "source"
    order = "reported_at"

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
