"""Pages of past events that pass a filter: the archived events, and the events of a log that are not archived yet."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from math import inf
from typing import Any, Generic, LiteralString, NamedTuple, TypeVar

from psycopg import Connection
from psycopg.sql import Composed

from domain.codec import TOPIC_PREFIX
from infra.archive.row_format import ArchivedEvent, attribution, parse_row, received_rows
from infra.log.bounds import is_full, size_of
from infra.log.event_log import EventLog
from infra.postgres.statements import load_statements
from projections.queries import Positions
from readapi.ports.archive import EventFilter, PastEvent

LOG_SCAN_LIMIT = 10_000
"""Highest number of events of one log that a page reads behind the archive's checkpoint."""

READ_BATCH = 1_000
"""Number of events read from a log at once."""

PAGE_BYTES = 4 * 1024 * 1024
"""Highest number of bytes of the states of the events on a page, or one event. As JSON values they take several times
as much memory."""

LAST_POSITION = 2**53
"""A position that no log will ever reach."""

_statements = load_statements(__package__)
_COPY_EVENT_PAGE = _statements["copy_event_page"]
_COPY_STREAM_PAGE = _statements["copy_stream_page"]


Event = TypeVar("Event", bound=PastEvent)


class FirstEvents(NamedTuple, Generic[Event]):
    """The first events of a source that pass a filter."""

    events: list[Event]
    end: Event | None
    """The last event that was read, if the source may have more; None if the source was read to its end."""


def first_within(events: Iterable[Event], limit: int) -> FirstEvents[Event]:
    """Return the first events: at most ``limit``, and at most ``PAGE_BYTES`` or one event. Read all events."""
    kept: list[Event] = []
    size, is_cut = 0, False
    for event in events:
        size += len(event.entry.state)
        is_cut = is_cut or len(kept) >= limit or (bool(kept) and size > PAGE_BYTES)
        if not is_cut:
            kept.append(event)
    return FirstEvents(kept, kept[-1] if is_cut and kept else None)


def archived_events(
    connection: Connection, event_filter: EventFilter, after: Positions, checkpoints: Positions, limit: int
) -> FirstEvents[ArchivedEvent]:
    """Return the first archived events that pass a filter, at most ``PAGE_BYTES`` of them or one event.

    Args:
        connection: A connection to the archive.
        event_filter: The filter.
        after: The logs to read, each with the position behind which to begin.
        checkpoints: The archived position of each log.
        limit: Highest number of events.
    """
    last = _last_position(event_filter)
    values: dict[str, Any] = {
        "logs": list(after),
        "after": list(after.values()),
        "upto": [min(checkpoints.get(log, 0), last) for log in after],
        "stream": event_filter.stream,
        "topic": None if event_filter.type is None else _topic(event_filter.type),
        "source": event_filter.source,
        "event_id": event_filter.event_id,
        "correlation_id": event_filter.correlation_id,
        "from_time": _moment(event_filter.from_time),
        "to_time": _moment(event_filter.to_time),
        "limit": limit,
    }
    statement = _COPY_STREAM_PAGE if event_filter.stream else _COPY_EVENT_PAGE
    return first_within(copy_events(connection, statement, values), limit)


def copy_events(connection: Connection, statement: LiteralString | Composed, values: Any) -> Iterator[ArchivedEvent]:
    """Yield the events that a binary ``COPY`` of rows of ``tickview.events`` sends."""
    with connection.cursor().copy(statement, values) as copy:
        yield from map(parse_row, received_rows(copy))


def log_events(log: EventLog, after: int, event_filter: EventFilter, limit: int) -> FirstEvents[ArchivedEvent]:
    """Return the first events of a log behind the position ``after`` that pass a filter."""
    passed: list[ArchivedEvent] = []
    position, last = after, _last_position(event_filter)
    while True:
        batch = log.wait(position, READ_BATCH, timeout=0)
        entries = [entry for entry in batch if entry.position <= last]
        events = [ArchivedEvent(log.name, entry, *attribution(entry.state), None) for entry in entries]
        passed += [event for event in events if _passes(event, event_filter)]
        is_end = len(entries) < len(batch) or not is_full(batch, READ_BATCH)
        if is_end or entries[-1].recorded_at >= (event_filter.to_time or inf):
            return FirstEvents(passed, None)
        position = entries[-1].position
        size = size_of(event.entry for event in passed)
        if len(passed) >= limit or size >= PAGE_BYTES or position - after >= LOG_SCAN_LIMIT:
            return FirstEvents(passed, events[-1])


def _passes(event: PastEvent, event_filter: EventFilter) -> bool:
    """Return whether an event passes every part of a filter except the positions."""
    entry = event.entry
    values = (
        (event_filter.stream, entry.stream),
        (event_filter.type and _topic(event_filter.type), entry.topic),
        (event_filter.source, event.source),
        (event_filter.event_id, entry.event_id),
        (event_filter.correlation_id, event.correlation_id),
    )
    return (
        all(expected is None or expected == value for expected, value in values)
        and (event_filter.from_time is None or entry.recorded_at >= event_filter.from_time)
        and (event_filter.to_time is None or entry.recorded_at < event_filter.to_time)
    )


def _topic(event_type: str) -> str:
    return event_type if ":" in event_type else TOPIC_PREFIX + event_type


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _last_position(event_filter: EventFilter) -> int:
    return LAST_POSITION if event_filter.to_position is None else event_filter.to_position
