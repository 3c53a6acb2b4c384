"""The rows of states in PostgreSQL's binary COPY format. A state that is on both timelines has one row."""

from collections.abc import Iterable, Iterator
from itertools import islice
from struct import Struct
from typing import Any

from psycopg import Connection

from infra.archive.row_format import (
    COPY_HEADER,
    COPY_TRAILER,
    NULL_FIELD,
    POSTGRES_EPOCH,
    encode_shared_text,
    encode_text,
)
from infra.archive.row_history.tables import NUMBER, HistoryTables, storable
from projections.queries import Timeline
from projections.row_history import State, ValidityInterval

SEND_BATCH = 250
"""Number of rows sent at once. The server stores a batch while this process encodes the next one."""

_OTHER_FIELDS = 7
"""Number of fields of a row beside the values."""

_head = Struct("!hii")
_integer = Struct("!iq")
_number = Struct("!id")
_length = Struct("!i")
_open_span = Struct("!iBiq")
_closed_span = Struct("!iBiqiq")
_HAS_START, _HAS_NO_END = 0x02, 0x10
"""Flags of a range: the start is included, and there is no end."""


def copy_states(connection: Connection, tables: HistoryTables, version: int, log: str, states: Iterable[State]) -> None:
    """Store states.

    Args:
        connection: A connection in a transaction.
        tables: The tables of the history.
        version: The version of the history.
        log: The name of the log.
        states: The states. The same state on both timelines becomes one row if the two follow each other.
    """
    with connection.cursor().copy(tables.copy_states) as copy:
        copy.write(COPY_HEADER)
        rows = _rows(tables, version, log, states)
        while batch := b"".join(islice(rows, SEND_BATCH)):
            copy.write(batch)
        copy.write(COPY_TRAILER)


def _rows(tables: HistoryTables, version: int, log: str, states: Iterable[State]) -> Iterator[bytes]:
    head = _head.pack(_OTHER_FIELDS + len(tables.columns), 4, version)
    log_field = encode_text(log)
    columns = [
        (column.value_of, _encode_number if column.type is NUMBER else encode_shared_text) for column in tables.columns
    ]
    for recorded, valid in _pairs(states):
        state = recorded or valid
        assert state is not None
        row = state.row
        yield b"".join(
            (
                head,
                _encode_span(recorded),
                _encode_span(valid),
                _integer.pack(8, state.position),
                *[encode(value_of(row)) for value_of, encode in columns],
                encode_text(storable(state.key)),
                log_field,
                _length.pack(len(state.document)),
                state.document,
            )
        )


def _pairs(states: Iterable[State]) -> Iterator[tuple[ValidityInterval | None, ValidityInterval | None]]:
    """Yield each state with its intervals on the timelines ``recorded`` and ``valid``."""
    pair: dict[Timeline, ValidityInterval] = {}
    document: bytes | None = None
    for timeline, state in states:
        if pair and (state.document is not document or timeline in pair):
            yield pair.get("recorded"), pair.get("valid")
            pair = {}
        pair[timeline] = state
        document = state.document
    if pair:
        yield pair.get("recorded"), pair.get("valid")


def _encode_span(interval: ValidityInterval | None) -> bytes:
    if interval is None:
        return NULL_FIELD
    start = interval.start - POSTGRES_EPOCH
    if interval.end is None:
        return _open_span.pack(13, _HAS_START | _HAS_NO_END, 8, start)
    return _closed_span.pack(25, _HAS_START, 8, start, 8, interval.end - POSTGRES_EPOCH)


def _encode_number(value: Any) -> bytes:
    return NULL_FIELD if value is None else _number.pack(8, value)
