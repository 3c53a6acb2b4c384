"""Given these events, when this one comes, then the row is so: the specification of a projection."""

from typing import Any

from domain.codec import encode, topic_of
from domain.events import Event
from domain.log import LogEntry
from projections.base import Projection, StoredRow
from projections.fold import FoldResult, LoadedState, decode_entries, fold, required_keys


def entries(events: list[Event]) -> list[LogEntry]:
    """The events as they lie in a log that begins with them."""
    return [
        LogEntry(position, event.stream, position, topic_of(type(event)), event.event_id, 0.0, encode(event))
        for position, event in enumerate(events, 1)
    ]


def folded(projection: Projection[Any, Any], events: list[Event]) -> FoldResult:
    """What the engine makes of the events, from nothing, in one batch."""
    readings = decode_entries(projection, entries(events))
    required_keys(projection, readings)
    return fold(projection, LoadedState(), readings)


class Given:
    """The rows after some events."""

    def __init__(self, projection: Projection[Any, Any], *events: Event) -> None:
        self._projection = projection
        self._events = list(events)

    def when(self, *events: Event) -> "Given":
        """More events."""
        return Given(self._projection, *self._events, *events)

    def rows(self) -> dict[str, Any]:
        """The rows there are then."""
        after = folded(self._projection, self._events).after
        return {key: evolved.stored.row for key, evolved in after.items() if evolved.stored}

    def row(self) -> Any:
        """The only row."""
        [row] = self.rows().values()
        return row

    def stored(self) -> StoredRow[Any]:
        """The only row, with its provenance."""
        [evolved] = [one for one in folded(self._projection, self._events).after.values() if one.stored]
        assert evolved.stored
        return evolved.stored
