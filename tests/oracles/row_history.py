"""The rows of a read model at a moment of the past: the events known at the moment, folded from the beginning."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from domain.events import Event
from projections.backtests import Backtests
from projections.base import Projection
from projections.patterns import ActivePatterns
from projections.producers import Producers
from projections.queries import Timeline
from projections.symbols import Symbols
from tests.oracles.read_models import (
    ReadModelContent,
    expected_backtests,
    expected_patterns,
    expected_producers,
    expected_symbols,
)

PROJECTIONS: Mapping[Projection[Any, Any], Callable[[list[Event]], ReadModelContent]] = {
    ActivePatterns(): expected_patterns,
    Backtests(): expected_backtests,
    Producers(): expected_producers,
    Symbols(): expected_symbols,
}
"""Projections with groups and without, and the separate code that folds the same events."""


class RecordedEvent(NamedTuple):
    """An event with its position in the log and the time of its recording."""

    event: Event
    position: int
    recorded_at: float


class PastRow(NamedTuple):
    """A past state of a row: its fields, and the position of the event that last changed it."""

    row: dict[str, Any]
    position: int


def rows_at(
    projection: Projection[Any, Any], history: Sequence[RecordedEvent], timeline: Timeline, moment: float
) -> dict[str, PastRow]:
    """Return the rows that had not ended, by key. ``history`` contains the events of one log in order."""
    if timeline == "recorded":
        known = [item for item in history if item.recorded_at <= moment]
    else:
        happened = (item for item in history if item.event.occurred_at <= moment)
        known = sorted(happened, key=lambda item: (item.event.occurred_at, item.position))
    [expected] = [fold for each, fold in PROJECTIONS.items() if each.name == projection.name]
    model = expected([item.event for item in known])
    return {
        key: PastRow(row, known[model.positions[key] - 1].position)
        for key, row in model.rows.items()
        if projection.ends is None or row[projection.ends] is None or row[projection.ends] > moment
    }


def moments_of_change(history: Iterable[RecordedEvent]) -> Iterator[float]:
    """Every moment at which a row may change, and the moment half a millisecond before."""
    for item in history:
        for moment in (item.recorded_at, item.event.occurred_at, getattr(item.event, "expires_at", None)):
            if moment is not None:
                yield moment
                yield moment - 0.0005
