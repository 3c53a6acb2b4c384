"""The events of units: which events each unit has, and the events themselves from the archive."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.sql import SQL

from infra.archive.log_archive import copy_entries
from infra.archive.row_history.tables import HistoryTables, original, storable
from infra.postgres.statements import load_statements
from projections.base import Projection
from projections.decoding import DecodedEntry, decode_entries
from projections.row_history import by_unit

LONGEST_KEY = 1_000
"""Highest number of bytes of a key and of a unit. No index takes much longer ones. The recorder accepts about 500."""

LAST_POSITION = 2**63 - 1
"""Highest position that PostgreSQL stores."""

Units = dict[str, list[DecodedEntry]]
"""Events by unit."""

References = dict[str, dict[int, datetime]]
"""For each unit the positions of its events, with the times of recording."""

_statements = load_statements(__package__)
_SELECT_UNIT_EVENTS = SQL(_statements["select_unit_events"])
_COPY_EVENTS_AT = _statements["copy_events_at"]


class HistorySegment(NamedTuple):
    """A version of a history on one log."""

    projection: Projection[Any, Any]
    """The projection of this version."""
    tables: HistoryTables
    version: int
    log: str


def unreadable_reason(decoded: DecodedEntry) -> str | None:
    """Return why an entry is in no history: it was not decoded, or PostgreSQL cannot index its keys. Else None."""
    if decoded.error is not None:
        return decoded.error
    keys = (target if isinstance(target, str) else target.name for target in decoded.targets)
    if all(len(storable(key).encode()) <= LONGEST_KEY for key in keys):
        return None
    return f"the event addresses a key of more than {LONGEST_KEY} bytes"


def readable(entries: Iterable[DecodedEntry]) -> Iterator[DecodedEntry]:
    """Yield the entries that a history has."""
    return (decoded for decoded in entries if unreadable_reason(decoded) is None)


def read_references(
    connection: Connection, segment: HistorySegment, units: Iterable[str], upto: int = LAST_POSITION
) -> References:
    """Return the references of units to events up to a position. A unit without such events is left out."""
    references: References = {}
    key = [segment.version, list(map(storable, units)), segment.log, upto]
    for unit, position, recorded_at in connection.execute(
        _SELECT_UNIT_EVENTS.format(events=segment.tables.events), key
    ):
        references.setdefault(original(unit), {})[position] = recorded_at
    return references


def read_unit_events(connection: Connection, segment: HistorySegment, references: References) -> Units:
    """Return the archived events to which references point, by the units that the events are really about."""
    moments = {position: moment for events in references.values() for position, moment in events.items()}
    if not moments:
        return {}
    values = [list(moments), list(moments.values()), segment.log]
    entries = decode_entries(segment.projection, copy_entries(connection, _COPY_EVENTS_AT, values))
    return by_unit(segment.projection, readable(entries))
