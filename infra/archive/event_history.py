"""The past events of all logs as one sequence without gaps: from the archive, and behind it from the logs.

A page reads the archive up to its checkpoints, and the logs behind the checkpoints. If events are archived and trimmed
in between, the log reads them from the archive. A page ends at a position of each log and not at a moment. Therefore no
event is missing or repeated on the next page, whatever is recorded or archived between the two.
"""

from collections.abc import Mapping, Sequence

from psycopg.sql import SQL

from domain.codec import decode
from domain.log import LogEntry
from domain.partitions import Partitions
from domain.streams import USERS_LOG, is_market_log, symbol_stream
from infra.archive.archiver import ARCHIVE
from infra.archive.event_pages import LOG_SCAN_LIMIT, READ_BATCH, archived_events, copy_events, first_within, log_events
from infra.archive.row_format import ArchivedEvent, attribution
from infra.archive.row_history.tables import HistoryTables, storable
from infra.log.event_log import EventLog
from infra.log.partitions import locate
from infra.postgres.database import Database
from infra.postgres.statements import load_statements
from infra.user_keys.key_store import UserKeys
from projections.base import Group
from projections.patterns import ActivePatterns
from projections.queries import Positions
from readapi.ports.archive import EventFilter, EventPage, PastEvent

_statements = load_statements(__package__)
_SELECT_CHECKPOINTS = _statements["select_checkpoints"]
_SELECT_HISTORY_CHECKPOINT = _statements["select_history_checkpoint"]
_COPY_UNIT_EVENTS = SQL(_statements["copy_unit_events"])
_BEGIN_READ_ONLY_SNAPSHOT = _statements["begin_read_only_snapshot"]


class EventHistory:
    """The past events of the given logs, and of logs that only the archive has.

    Every method raises ArchiveUnavailableError, and the errors of the logs.
    """

    def __init__(self, database: Database, logs: Mapping[str, EventLog]) -> None:
        self._database = database
        self._logs = logs
        self._keys = UserKeys(logs[USERS_LOG]) if USERS_LOG in logs else None

    def events(self, event_filter: EventFilter, after: Positions, limit: int) -> EventPage:
        """Return a page of events that pass a filter.

        Args:
            event_filter: The filter.
            after: The position of each log behind which the page begins. A log that is missing is read from its
                beginning.
            limit: Highest number of events. A page with fewer events is not always the last, because a log that is far
                ahead of the archive is read in parts, and because large events end a page.
        """
        with self._database.connection() as connection:
            checkpoints = dict(connection.execute(_SELECT_CHECKPOINTS, [ARCHIVE]).fetchall())
            begin = self._first_positions(event_filter, after, checkpoints)
            events, end = archived_events(connection, event_filter, begin, checkpoints, limit + 1)
        ends = [end] if end else []
        for name, position in begin.items():
            if name in self._logs:
                behind = max(position, checkpoints.get(name, 0))
                tail = log_events(self._logs[name], behind, event_filter, limit + 1)
                events += tail.events
                ends += [tail.end] if tail.end else []
        events.sort(key=_order)
        # Behind the end of a source that was read in part, earlier events of that source may still come.
        horizon = min(ends, key=_order, default=None)
        if horizon is not None:
            events = [event for event in events if _order(event) <= _order(horizon)]
        page = first_within(events, limit).events
        is_cut = len(page) < len(events)
        reached = page if is_cut or horizon is None else [*page, horizon]
        is_last = not is_cut and horizon is None
        return EventPage(self._reveal(page), None if is_last else _advance(after, reached))

    def _reveal(self, events: Sequence[ArchivedEvent]) -> list[ArchivedEvent]:
        """Decrypt the states of the events of users. The hashes are those of the encrypted states."""
        if self._keys is None:
            return list(events)
        entries = self._keys.reveal([event.entry for event in events])
        return [
            event if entry is event.entry else _revealed(event, entry)
            for event, entry in zip(events, entries, strict=True)
        ]

    def has_stream(self, stream: str) -> bool:
        """Return whether a stream ever had an event."""
        event_filter, after = EventFilter(stream=stream), dict[str, int]()
        while True:
            page = self.events(event_filter, after, 1)
            if page.events or page.next is None:
                return bool(page.events)
            after = dict(page.next)

    def of_list(self, event_filter: EventFilter, list_id: str, after: Positions, limit: int) -> EventPage:
        """Return a page of the events about a list of a user.

        Reads at most ``LOG_SCAN_LIMIT`` events of the user, so that a page with fewer events is not always the last.

        Args:
            event_filter: The filter, which names the stream of the user and the log of the users.
            list_id: The id of the watchlist or preset.
            after: The positions behind which the page begins.
            limit: Highest number of events.
        """
        events: list[PastEvent] = []
        following: Positions | None = after
        scanned = 0
        while following is not None and len(events) <= limit and scanned < LOG_SCAN_LIMIT:
            page = self.events(event_filter, following, READ_BATCH)
            events += (event for event in page.events if _names_list(event, list_id))
            scanned, following = scanned + READ_BATCH, page.next
        kept = first_within(events, limit)
        return EventPage(kept.events, _advance(after, [kept.end]) if kept.end else following)

    def of_pattern(self, pattern_id: str, limit: int) -> list[PastEvent]:
        """Return the first events about a pattern, including events about all tiers of its detection.

        Reads at most ``LOG_SCAN_LIMIT`` events: those of the detection, and the events of the symbol that the
        history of ``patterns`` has not folded yet. Returns at most ``PAGE_BYTES`` of them or one event.

        Raises:
            ValueError: The pattern id is malformed.
        """
        symbol, *parts = pattern_id.rsplit(":", 3)
        if len(parts) != 3:
            raise ValueError(
                f"{pattern_id!r} is not a pattern id. Write SYMBOL:pattern:tier:epoch millisecond of detection."
            )
        stream = symbol_stream(symbol)
        log = self._log_of(stream)
        unit, tables = storable(ActivePatterns().group_of(pattern_id)), HistoryTables(ActivePatterns)
        events: list[PastEvent] = []
        scanned = 0
        with self._database.connection() as connection:
            connection.execute(_BEGIN_READ_ONLY_SNAPSHOT)
            live = connection.execute(_SELECT_HISTORY_CHECKPOINT, [log, tables.name]).fetchone()
            version, folded = live or (0, 0)
            if live:
                statement = _COPY_UNIT_EVENTS.format(events=tables.events)
                copied = copy_events(connection, statement, [version, unit, log, folded, LOG_SCAN_LIMIT])
                events += first_within((event for event in copied if _is_about(event, pattern_id)), limit).events
        after: Positions | None = {log: folded}
        while after and scanned < LOG_SCAN_LIMIT:
            page = self.events(EventFilter(stream=stream, log=log), after, READ_BATCH)
            related = (event for event in page.events if _is_about(event, pattern_id))
            events = first_within([*events, *related], limit).events
            scanned, after = scanned + READ_BATCH, page.next
        return events

    def _log_of(self, stream: str) -> str:
        """Return the partition of a stream, which may have begun before the number of partitions was raised."""
        logs = [log for name, log in self._logs.items() if is_market_log(name)]
        return locate(logs[0].client, stream, Partitions(number=len(logs), created=1))

    def _first_positions(self, event_filter: EventFilter, after: Positions, checkpoints: Positions) -> dict[str, int]:
        """Return the logs that a filter selects, each with the position behind which a page begins."""
        names = sorted({*checkpoints, *self._logs})
        first = max(event_filter.from_position or 1, 1)
        return {log: max(after.get(log, 0), first - 1) for log in names if event_filter.log in (None, log)}


def _revealed(event: ArchivedEvent, entry: LogEntry) -> ArchivedEvent:
    """Return an event with its decrypted entry, or without content if its key is destroyed."""
    if entry.topic != event.entry.topic:
        return event._replace(is_forgotten=True)
    source, correlation_id = attribution(entry.state)
    return event._replace(entry=entry, source=source, correlation_id=correlation_id)


def _is_about(event: PastEvent, pattern_id: str) -> bool:
    """Return whether an event is about a pattern. An event that names no tier is about all tiers of its detection."""
    entry = event.entry
    try:
        decoded = decode(entry.topic, entry.event_id, entry.state)
    except ValueError:
        return False
    patterns = ActivePatterns()
    if not isinstance(decoded, patterns.handles):
        return False
    return not {pattern_id, Group(patterns.group_of(pattern_id))}.isdisjoint(patterns.keys(decoded))


def _names_list(event: PastEvent, list_id: str) -> bool:
    """Return whether an event is about a list. The content of a forgotten event is unknown."""
    entry = event.entry
    try:
        decoded = decode(entry.topic, entry.event_id, entry.state)
    except ValueError:
        return False
    return getattr(decoded, "list_id", None) == list_id


def _order(event: PastEvent) -> tuple[float, str, int]:
    return event.entry.recorded_at, event.log, event.entry.position


def _advance(after: Positions, reached: Sequence[PastEvent]) -> Positions:
    """Return the positions behind which the next page begins."""
    return {**after, **{event.log: event.entry.position for event in reached}}
