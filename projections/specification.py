"""Specifications of projections for tests: ``Given(projection, *events).when(event).rows()`` are its rows."""

from collections.abc import Iterable
from typing import Any

from domain.codec import encode, topic_of
from domain.events import Event
from domain.log import LogEntry
from projections.base import Projection, StoredRow, decode_row
from projections.decoding import decode_entries
from projections.fold import FoldResult, LoadedState, fold, overlay
from projections.mutations import derive


def log_entry(event: Event, position: int, recorded_at: float | None = None) -> LogEntry:
    """Return the entry of an event at a position of a log. The version of the stream is the position.

    Args:
        event: The event.
        position: The position, from 1.
        recorded_at: The time of recording in seconds since the epoch. None: the time of the event.
    """
    topic = topic_of(type(event))
    recorded_at = event.occurred_at if recorded_at is None else recorded_at
    return LogEntry(position, event.stream, position, topic, event.event_id, recorded_at, encode(event))


def log_entries(events: Iterable[Event], first: int = 1) -> list[LogEntry]:
    """Return the entries of events at consecutive positions of a log, from ``first``."""
    return [log_entry(event, position) for position, event in enumerate(events, first)]


class Given:
    """A projection and its history of events."""

    def __init__(self, projection: Projection[Any, Any], *events: Event) -> None:
        self._projection = projection
        self._events = list(events)

    def when(self, *events: Event) -> "Given":
        """Return the specification with more events."""
        return Given(self._projection, *self._events, *events)

    def folded(self) -> FoldResult:
        """Fold all events in one batch without existing rows, as a replay does."""
        return fold(self._projection, LoadedState(), decode_entries(self._projection, log_entries(self._events)))

    def stored_rows(self) -> dict[str, StoredRow[Any]]:
        """Return the rows with their provenance after a replay."""
        return {key: evolved.stored for key, evolved in self.folded().after.items() if evolved.stored}

    def rows(self) -> dict[str, Any]:
        """Return the rows after a replay."""
        return {key: stored.row for key, stored in self.stored_rows().items()}

    def row(self) -> Any:
        """Return the only row."""
        [row] = self.rows().values()
        return row

    def stored(self) -> StoredRow[Any]:
        """Return the only row with its provenance."""
        [stored] = self.stored_rows().values()
        return stored

    def live(self) -> dict[str, StoredRow[Any]]:
        """Return the rows after folding each event in its own batch, with rows loaded from stored documents."""
        loaded = LoadedState()
        for entry in log_entries(self._events):
            self._commit(loaded, entry)
        return loaded.rows

    def _commit(self, loaded: LoadedState, entry: LogEntry) -> None:
        folded = fold(self._projection, loaded, decode_entries(self._projection, [entry]))
        overlay(loaded, folded)
        for key, document in derive(self._projection, folded).rows.items():
            if document is not None:
                loaded.rows[key] = decode_row(self._projection.row, document)
