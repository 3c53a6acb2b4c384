"""The read model ``backtests``: every backtest run with its progress and its results."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from annotated_types import Interval

from domain.events import BacktestCompleted, BacktestEvent, BacktestFailed, BacktestProgressed
from projections.base import Projection
from projections.columns import EPOCH_SECONDS, Column
from projections.views import View

METRICS = (
    "win_rate",
    "total_trades",
    "winning_trades",
    "roi",
    "sharpe_ratio",
    "max_drawdown",
    "duration_days",
)
"""The metrics in ``results`` that have a column."""

Metric = Annotated[float | None, Column(range=True, sort=True)]
"""A metric of the results. None: the producer did not announce it as a number."""

ENDED = ("completed", "failed", "cancelled")
"""The statuses of a run that has ended."""

Handled = BacktestProgressed | BacktestCompleted | BacktestFailed
"""The events that the projection folds."""


@dataclass(frozen=True, slots=True)
class BacktestRow:
    """One backtest run with its progress and its results."""

    job_id: str
    """Id of the backtest job, as the producer announced it."""
    status: Annotated[str, Column(equality=True, case="lower", closed=True, known=("processing", *ENDED))]
    """State of the run: ``processing``, ``completed``, ``failed``, ``cancelled``, or another announced state."""
    progress: Annotated[float, Interval(ge=0, le=1), Column(range=True, sort=True)]
    """Completed part of the run, from 0 to 1."""
    started_at: Annotated[float, Column(range=True, sort=True, unit=EPOCH_SECONDS)]
    """Time of the first event of the run."""
    updated_at: Annotated[float, Column(range=True, sort=True, unit=EPOCH_SECONDS)]
    """Time of the latest event of the run."""
    ended_at: Annotated[float | None, Column(unit=EPOCH_SECONDS)] = None
    """Time of the end. None while the run is in progress."""
    current_symbol: str | None = None
    """Symbol that the run processes."""
    processed_symbols: int | None = None
    """Number of symbols that the run has processed."""
    estimated_completion: Annotated[float | None, Column(unit=EPOCH_SECONDS)] = None
    """Time at which the producer expects the end."""
    results: dict[str, Any] = field(default_factory=dict)
    """Metrics by name, as the producer announced them."""
    win_rate: Metric = None
    """Share of winning trades."""
    total_trades: Metric = None
    """Number of trades."""
    winning_trades: Metric = None
    """Number of winning trades."""
    roi: Metric = None
    """Return on investment."""
    sharpe_ratio: Metric = None
    """Sharpe ratio: the return in relation to its risk."""
    max_drawdown: Metric = None
    """Largest loss from a peak."""
    duration_days: Metric = None
    """Number of days that the run simulates."""
    error_message: str | None = None
    """Reason of a failure."""
    processing_time_seconds: Annotated[float | None, Column(unit="seconds")] = None
    """Duration of the run in seconds."""
    source: str = ""
    """Name of the producer."""
    event_id: str = ""
    """Id of the event that last changed the row."""
    correlation_id: str | None = None
    """Correlation id of this event, or of an earlier event of the run."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Members of the producer's messages that have no column."""


RUN = View.of_columns(BacktestRow, without=METRICS, names={"source": "producer"})
"""The run with its results as the producer announced them."""


class Backtests(Projection[BacktestRow, Handled]):
    """The projection of backtest runs. Progress does not change a run that has ended."""

    name = "backtests"
    version = 1
    row = BacktestRow
    handles = (BacktestProgressed, BacktestCompleted, BacktestFailed)
    key = "job_id"
    order = "updated_at"
    history = "backtest_history"
    views = {"run": RUN}

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
        **{metric: _number(event.results.get(metric)) for metric in METRICS},
        error_message=None if isinstance(event, BacktestCompleted) else event.error_message,
        processing_time_seconds=event.processing_time_seconds,
    )


def _number(value: Any) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value
