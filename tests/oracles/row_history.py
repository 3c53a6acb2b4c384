"""The active patterns at a moment of the past: the events known at the moment, folded from the beginning."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from domain.events import Event
from projections.queries import Timeline
from tests.oracles.read_models import expected_patterns


class RecordedEvent(NamedTuple):
    """An event with its position in the log and the time of its recording."""

    event: Event
    position: int
    recorded_at: float


class PastPattern(NamedTuple):
    """A past state of a pattern: its fields, and the position of the event that last changed it."""

    row: dict[str, Any]
    position: int


def patterns_at(history: Sequence[RecordedEvent], timeline: Timeline, moment: float) -> dict[str, PastPattern]:
    """Return the active patterns by id. ``history`` contains the events of one log in order."""
    if timeline == "recorded":
        known = [item for item in history if item.recorded_at <= moment]
    else:
        happened = (item for item in history if item.event.occurred_at <= moment)
        known = sorted(happened, key=lambda item: (item.event.occurred_at, item.position))
    model = expected_patterns([item.event for item in known])
    return {
        key: PastPattern(row, known[model.positions[key] - 1].position)
        for key, row in model.rows.items()
        if row["expires_at"] is None or row["expires_at"] > moment
    }


def moments_of_change(history: Iterable[RecordedEvent]) -> Iterator[float]:
    """Every moment at which a pattern may change, and the moment half a millisecond before."""
    for item in history:
        for moment in (item.recorded_at, item.event.occurred_at, getattr(item.event, "expires_at", None)):
            if moment is not None:
                yield moment
                yield moment - 0.0005
