"""What the past tells: one sequence of events, from the archive and, behind it, from the logs, without gap or overlap.

A page is read from the archive up to its checkpoints; what stands behind these is read from the logs, and where it has
been archived and trimmed meanwhile, the log reads it from the archive again. A page ends at a position of each log, not
at a moment, so that what is recorded or archived between two pages can be neither missed nor told twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any, NamedTuple

from psycopg import Connection

from domain.codec import TOPIC_PREFIX, decode
from domain.streams import is_market_log, log_of, symbol_stream
from infra.archive.archiver import ARCHIVE
from infra.archive.row_format import ArchivedEvent, attribution, parse_row, received_rows
from infra.log.event_log import EventLog
from infra.postgres.database import Database
from projections.base import Group
from projections.patterns import ActivePatterns
from projections.queries import Positions
from readapi.ports.archive import EventFilter, EventPage, PastEvent

TAIL = 10_000
"""Events of one log that one page looks at behind the archive's checkpoint, at most."""

READ_AT_ONCE = 1_000

LAST_POSITION = 2**53
"""No log will ever come so far."""

_CHECKPOINTS = "SELECT log, position FROM tickview.segments WHERE name = %s"

# Bounded by time as well as by position, so that only the partitions of these months are looked into.
_PAGE = """
COPY (
    WITH place AS MATERIALIZED (
        SELECT given.*,
            coalesce((SELECT recorded_at FROM tickview.events AS first
                WHERE first.log = given.log AND first.position = given.after), '-infinity') AS since,
            coalesce((SELECT recorded_at FROM tickview.events AS last
                WHERE last.log = given.log AND last.position = given.upto), 'infinity') AS until
        FROM unnest(%(logs)s::text[], %(after)s::bigint[], %(upto)s::bigint[]) AS given (log, after, upto)
    )
    SELECT found.* FROM place CROSS JOIN LATERAL (
        SELECT * FROM tickview.events AS event
        WHERE log = place.log AND position > place.after AND position <= place.upto
            AND recorded_at >= place.since AND recorded_at <= place.until {conditions}
        ORDER BY {order} LIMIT %(limit)s
    ) AS found
    ORDER BY found.recorded_at, found.log COLLATE "C", found.position LIMIT %(limit)s
) TO STDOUT (FORMAT binary)
"""

_CONDITIONS = {
    "stream": """ AND stream = %(stream)s AND version > coalesce((SELECT version FROM tickview.events AS first
        WHERE first.log = place.log AND first.position = place.after AND first.recorded_at = place.since
            AND first.stream = %(stream)s), -1)""",
    "topic": " AND topic = %(topic)s",
    "source": " AND source = %(source)s",
    "event_id": " AND event_id = %(event_id)s",
    "correlation_id": " AND correlation_id = %(correlation_id)s",
    "from_time": " AND recorded_at >= %(from_time)s",
    "to_time": " AND recorded_at < %(to_time)s",
}

_PATTERN_CHECKPOINT = """
SELECT live.version, coalesce(segment.position, 0) FROM tickview.live_versions AS live
LEFT JOIN tickview.segments AS segment
    ON segment.name = live.name AND segment.version = live.version AND segment.log = %s
WHERE live.name = 'pattern_history'
"""

_PATTERN_EVENTS = """
COPY (
    SELECT event.* FROM tickview.pattern_events AS spoke
    JOIN tickview.events AS event USING (log, position, recorded_at)
    WHERE spoke.version = %s AND spoke.detection = %s AND spoke.log = %s AND spoke.position <= %s
    ORDER BY spoke.position LIMIT %s
) TO STDOUT (FORMAT binary)
"""


class _Tail(NamedTuple):
    """What was found of a log behind the archive's checkpoint."""

    events: list[ArchivedEvent]
    end: ArchivedEvent | None
    """The last event looked at, where there may be more behind it; None where that is all."""


class EventHistory:
    """The past of these logs, and of those that the archive alone knows.

    Every method raises ArchiveUnavailableError, and what the logs raise.
    """

    def __init__(self, database: Database, logs: Mapping[str, EventLog]) -> None:
        self._database = database
        self._logs = logs

    def events(self, wanted: EventFilter, after: Positions, limit: int) -> EventPage:
        """The events behind these positions (of logs that are not named: from the beginning), ``limit`` at most.

        A page that is shorter than ``limit`` need not be the last: a log that is far ahead of the archive is looked
        through piece by piece.
        """
        with self._database.connection() as connection:
            checkpoints = dict(connection.execute(_CHECKPOINTS, [ARCHIVE]).fetchall())
            places = self._places(wanted, after, checkpoints)
            found = _archived(connection, wanted, places, checkpoints, limit + 1)
        ends = []
        for log, place in places.items():
            if log in self._logs:
                behind = max(place, checkpoints.get(log, 0))
                tail = _tail(self._logs[log], behind, wanted, limit + 1)
                found += tail.events
                ends += [tail.end] if tail.end else []
        found.sort(key=_order)
        horizon = min(ends, key=_order, default=None)
        if horizon is not None:
            found = [event for event in found if _order(event) <= _order(horizon)]
        page = found[:limit]
        reached = page if len(found) > limit or horizon is None else [*page, horizon]
        is_last = len(found) <= limit and horizon is None
        return EventPage(page, None if is_last else _advanced(after, reached))

    def has_stream(self, stream: str) -> bool:
        """Whether there ever was an event of a stream."""
        wanted, after = EventFilter(stream=stream), dict[str, int]()
        while True:
            page = self.events(wanted, after, 1)
            if page.events or page.next is None:
                return bool(page.events)
            after = dict(page.next)

    def of_pattern(self, pattern_id: str, limit: int) -> list[PastEvent]:
        """The first events that spoke of a pattern, of its tier or of all.

        Looks at ``TAIL`` events at most of those of its detection, and of those of its symbol that are not yet sorted
        by detection. Raises ValueError for what is no pattern id.
        """
        symbol, *rest = pattern_id.rsplit(":", 3)
        if len(rest) != 3:
            raise ValueError(f"{pattern_id!r} is no pattern id: SYMBOL:pattern:tier:epoch millisecond of detection")
        stream = symbol_stream(symbol)
        log = log_of(stream, sum(map(is_market_log, self._logs)))
        detection = ActivePatterns().group_of(pattern_id)
        found: list[PastEvent] = []
        with self._database.connection() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            version, sorted_upto = connection.execute(_PATTERN_CHECKPOINT, [log]).fetchone() or (0, 0)
            found += _copied(connection, _PATTERN_EVENTS, [version, detection, log, sorted_upto, TAIL])
        looked = len(found)
        behind: Positions | None = {log: sorted_upto}
        while behind and looked < TAIL:
            page = self.events(EventFilter(stream=stream, log=log), behind, READ_AT_ONCE)
            found += page.events
            looked, behind = looked + READ_AT_ONCE, page.next
        return [event for event in found if _speaks_of(event, pattern_id)][:limit]

    def _places(self, wanted: EventFilter, after: Positions, checkpoints: Positions) -> dict[str, int]:
        """The logs that are asked, and behind which position."""
        names = sorted({*checkpoints, *self._logs})
        first = max(wanted.from_position or 1, 1)
        return {log: max(after.get(log, 0), first - 1) for log in names if wanted.log in (None, log)}


def _archived(
    connection: Connection, wanted: EventFilter, places: Positions, checkpoints: Positions, limit: int
) -> list[ArchivedEvent]:
    """The first events behind ``places`` that the archive has up to its checkpoints."""
    values: dict[str, Any] = {
        "stream": wanted.stream,
        "topic": None if wanted.type is None else _topic(wanted.type),
        "source": wanted.source,
        "event_id": wanted.event_id,
        "correlation_id": wanted.correlation_id,
        "from_time": _moment(wanted.from_time),
        "to_time": _moment(wanted.to_time),
    }
    conditions = "".join(condition for name, condition in _CONDITIONS.items() if values[name] is not None)
    # A stream's versions are in the order of its log, and have an index.
    sql = _PAGE.format(conditions=conditions, order="version" if wanted.stream else "recorded_at, position")
    last = [min(checkpoints.get(log, 0), _last_position(wanted)) for log in places]
    values |= {"logs": list(places), "after": list(places.values()), "upto": last, "limit": limit}
    return list(_copied(connection, sql, values))


def _copied(connection: Connection, sql: str, values: Any) -> Iterator[ArchivedEvent]:
    with connection.cursor().copy(sql, values) as copy:
        yield from map(parse_row, received_rows(copy))


def _tail(log: EventLog, after: int, wanted: EventFilter, limit: int) -> _Tail:
    """The first events of a log behind the position ``after``."""
    found: list[ArchivedEvent] = []
    place = after
    while True:
        entries = log.read(place, READ_AT_ONCE, _last_position(wanted))
        events = [ArchivedEvent(log.name, entry, *attribution(entry.state), None) for entry in entries]
        found += [event for event in events if _fits(event, wanted)]
        if len(entries) < READ_AT_ONCE or entries[-1].recorded_at >= (wanted.to_time or inf):
            return _Tail(found, None)
        place = entries[-1].position
        if len(found) >= limit or place - after >= TAIL:
            return _Tail(found, events[-1])


def _fits(event: ArchivedEvent, wanted: EventFilter) -> bool:
    """Whether an event that was read from a log passes, in the bounds of time and in all else but the positions."""
    entry = event.entry
    return (
        (wanted.stream is None or entry.stream == wanted.stream)
        and (wanted.type is None or entry.topic == _topic(wanted.type))
        and (wanted.source is None or event.source == wanted.source)
        and (wanted.event_id is None or entry.event_id == wanted.event_id)
        and (wanted.correlation_id is None or event.correlation_id == wanted.correlation_id)
        and (wanted.from_time is None or entry.recorded_at >= wanted.from_time)
        and (wanted.to_time is None or entry.recorded_at < wanted.to_time)
    )


def _speaks_of(event: PastEvent, pattern_id: str) -> bool:
    """Whether an event is about a pattern; one that names no tier is about every tier of the detection."""
    entry = event.entry
    try:
        decoded = decode(entry.topic, entry.event_id, entry.state)
    except ValueError:
        return False
    patterns = ActivePatterns()
    if not isinstance(decoded, patterns.handles):
        return False
    return not {pattern_id, Group(patterns.group_of(pattern_id))}.isdisjoint(patterns.keys(decoded))


def _order(event: PastEvent) -> tuple[float, str, int]:
    return event.entry.recorded_at, event.log, event.entry.position


def _advanced(after: Positions, reached: Sequence[PastEvent]) -> Positions:
    """The positions behind which the next page begins."""
    return {**after, **{event.log: event.entry.position for event in reached}}


def _topic(event_type: str) -> str:
    return event_type if ":" in event_type else TOPIC_PREFIX + event_type


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _last_position(wanted: EventFilter) -> int:
    return LAST_POSITION if wanted.to_position is None else wanted.to_position
