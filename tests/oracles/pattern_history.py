"""What the scan must have shown at a moment: the events known by then, folded from the beginning."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from domain.events import Event
from projections.pattern_history import Timeline
from tests.oracles.read_models import expected_patterns


class RecordedEvent(NamedTuple):
    """An event, where it stands in its log, and when it was recorded there."""

    event: Event
    position: int
    recorded_at: float


class PastPattern(NamedTuple):
    """A pattern as it was: its fields, and the position of the event that last changed it."""

    row: dict[str, Any]
    position: int


def patterns_at(history: Sequence[RecordedEvent], timeline: Timeline, moment: float) -> dict[str, PastPattern]:
    """The patterns that had not elapsed, by their ids. ``history`` is that of one log, in order."""
    if timeline == "recorded":
        known = [past for past in history if past.recorded_at <= moment]
    else:
        happened = (past for past in history if past.event.occurred_at <= moment)
        known = sorted(happened, key=lambda past: (past.event.occurred_at, past.position))
    model = expected_patterns([past.event for past in known])
    return {
        key: PastPattern(row, known[model.positions[key] - 1].position)
        for key, row in model.rows.items()
        if row["expires_at"] is None or row["expires_at"] > moment
    }


def moments_of_change(history: Iterable[RecordedEvent]) -> Iterator[float]:
    """Every moment at which something may change, and one shortly before each."""
    for past in history:
        for moment in (past.recorded_at, past.event.occurred_at, getattr(past.event, "expires_at", None)):
            if moment is not None:
                yield moment
                yield moment - 0.0005
