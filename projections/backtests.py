"""The read model ``backtests``: every backtest run with its progress and its results."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from domain.events import BacktestCompleted, BacktestEvent, BacktestFailed, BacktestProgressed
from projections.base import LOWEST, Count, Index, Projection

METRICS = (
    "win_rate",
    "total_trades",
    "winning_trades",
    "roi",
    "sharpe_ratio",
    "max_drawdown",
    "duration_days",
)
"""The metrics in ``results`` by which runs can be sorted."""

ENDED = ("completed", "failed", "cancelled")
"""The statuses of a run that has ended."""

Handled = BacktestProgressed | BacktestCompleted | BacktestFailed
"""The events that the projection folds."""


@dataclass(frozen=True, slots=True)
class BacktestRow:
    """One backtest run. All times are in seconds since the epoch."""

    job_id: str
    status: str
    progress: float
    """Completed part of the run, from 0 to 1."""
    started_at: float
    """Time of the first event of the run."""
    updated_at: float
    """Time of the latest event of the run."""
    ended_at: float | None = None
    """Time of the end. None while the run is in progress."""
    current_symbol: str | None = None
    processed_symbols: int | None = None
    """Number of symbols that the run has processed."""
    estimated_completion: float | None = None
    results: dict[str, Any] = field(default_factory=dict)
    """Metrics by name, as the producer announced them."""
    error_message: str | None = None
    processing_time_seconds: float | None = None
    """Duration of the run in seconds."""
    source: str = ""
    event_id: str = ""
    """Id of the event that last changed the row."""
    correlation_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def _metric(name: str) -> Callable[[BacktestRow], float]:
    def score(row: BacktestRow) -> float:
        value = row.results.get(name)
        return LOWEST if isinstance(value, bool) or not isinstance(value, int | float) else float(value)

    return score


class Backtests(Projection[BacktestRow, Handled]):
    """The projection of backtest runs. Progress does not change a run that has ended."""

    name = "backtests"
    version = 1
    row = BacktestRow
    handles = (BacktestProgressed, BacktestCompleted, BacktestFailed)
    indexes = (
        Index("started_at", score=lambda row: row.started_at),
        Index("updated_at", score=lambda row: row.updated_at),
        Index("progress", score=lambda row: row.progress),
        Index("status", by=lambda row: row.status, score=lambda row: row.updated_at),
        *(Index(metric, score=_metric(metric)) for metric in METRICS),
    )
    summaries = (Count("by_status", by=lambda row: row.status),)

    def keys(self, event: Handled) -> tuple[str, ...]:
        """Return the job id of the run."""
        return (event.job_id,)

    def evolve(self, row: BacktestRow | None, event: Handled) -> BacktestRow | None:
        """Apply progress or the end of a run. After the end, progress and older events change nothing."""
        if row is None:
            row = BacktestRow(event.job_id, "", 0.0, event.occurred_at, event.occurred_at)
        elif (row.status in ENDED and isinstance(event, BacktestProgressed)) or (
            event.occurred_at < row.updated_at and row.status in ENDED
        ):
            return row
        if isinstance(event, BacktestProgressed):
            return _progressed(row, event)
        return _ended(row, event)


def _heard(row: BacktestRow, event: BacktestEvent, **changes: Any) -> BacktestRow:
    """Return the row with the changes and with the provenance of the event."""
    return replace(
        row,
        updated_at=max(row.updated_at, event.occurred_at),
        source=event.source,
        event_id=event.event_id,
        correlation_id=event.correlation_id or row.correlation_id,
        extra={**row.extra, **event.extra},
        **changes,
    )


def _progressed(row: BacktestRow, event: BacktestProgressed) -> BacktestRow:
    if event.progress < row.progress and event.occurred_at <= row.updated_at:
        return row
    return _heard(
        row,
        event,
        status=event.status,
        progress=event.progress,
        current_symbol=event.current_symbol,
        processed_symbols=event.processed_symbols,
        estimated_completion=event.estimated_completion,
    )


def _ended(row: BacktestRow, event: BacktestCompleted | BacktestFailed) -> BacktestRow:
    completed = isinstance(event, BacktestCompleted)
    return _heard(
        row,
        event,
        status="completed" if isinstance(event, BacktestCompleted) else event.status,
        progress=1.0 if completed else row.progress,
        ended_at=event.occurred_at,
        current_symbol=None,
        estimated_completion=None,
        results=event.results,
        error_message=None if isinstance(event, BacktestCompleted) else event.error_message,
        processing_time_seconds=event.processing_time_seconds,
    )
