"""An archived event as bytes: as PostgreSQL's binary COPY carries it, which is also what is hashed.

The canonical bytes of an event are its columns, in the order of ``COLUMNS``, each as its length in bytes (4 bytes, big
endian, signed; -1 and nothing else for NULL) and its value: texts in UTF-8, whole numbers in 8 bytes, big endian,
two's complement, ``recorded_at`` as such a number of microseconds since 2000-01-01T00:00:00Z, ``state`` as it is. That
is a tuple of PostgreSQL's binary COPY format without the number of its fields
(https://www.postgresql.org/docs/current/sql-copy.html), so that bytes are hashed as they travel. ``docs/audit.md``
has a program of a few lines that recomputes a chain.
"""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import Any, NamedTuple

import orjson
from psycopg import Copy

from domain.log import LogEntry

COLUMNS = (
    *("log", "position", "recorded_at", "stream", "version", "topic", "event_id"),
    *("source", "correlation_id", "origin", "state"),
)
"""The hashed columns of ``tickview.events``, in order; ``hash`` is the last column."""

GENESIS = bytes(32)
"""The hash before the first event of a log."""

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"

_EPOCH_MICROSECONDS = 946_684_800_000_000
"""2000-01-01T00:00:00Z, in microseconds since 1970."""

_field_count = Struct("!h").pack(len(COLUMNS) + 1)
_length = Struct("!i")
_number = Struct("!iq")
_two_numbers = Struct("!iqiq")
_NULL = _length.pack(-1)
_HASH_LENGTH = _length.pack(32)
_WITHOUT_HASH = slice(2, -(4 + 32))


class ArchivedEvent(NamedTuple):
    """An event with its place in the chain."""

    log: str
    entry: LogEntry
    source: str | None
    correlation_id: str | None
    hash: bytes | None
    """None as long as the event is in the log alone."""


def canonical_bytes(log: str, entry: LogEntry) -> bytes:
    """The bytes of an event that are hashed."""
    source, correlation_id = attribution(entry.state)
    return b"".join(
        (
            _repeated(log),
            _two_numbers.pack(8, entry.position, 8, round(entry.recorded_at * 1000) * 1000 - _EPOCH_MICROSECONDS),
            _repeated(entry.stream),
            _number.pack(8, entry.version),
            _repeated(entry.topic),
            _text(entry.event_id),
            _repeated(source),
            _text(correlation_id),
            _repeated(entry.origin),
            _length.pack(len(entry.state)),
            entry.state,
        )
    )


def attribution(state: bytes) -> tuple[str | None, str | None]:
    """Source and correlation id, where the state is JSON that names them in texts that PostgreSQL can hold."""
    if not state.startswith(b"{"):
        return None, None
    try:
        fields = orjson.loads(state)
    except orjson.JSONDecodeError:
        return None, None
    return _named(fields, "source"), _named(fields, "correlation_id")


def _named(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) and "\0" not in value else None


@lru_cache(maxsize=10_000)
def _repeated(text: str | None) -> bytes:
    """``_text`` of what many events have."""
    return _text(text)


def _text(text: str | None) -> bytes:
    if text is None:
        return _NULL
    encoded = text.encode()
    return _length.pack(len(encoded)) + encoded


def chain_hash(previous: bytes, canonical_bytes: bytes) -> bytes:
    """The hash of an event, from that of the event before it in its log."""
    return sha256(previous + canonical_bytes).digest()


def encode_copy_row(canonical_bytes: bytes, hash_: bytes) -> bytes:
    """An event's row for binary COPY."""
    return b"".join((_field_count, canonical_bytes, _HASH_LENGTH, hash_))


def split_row(row: bytes) -> tuple[bytes, bytes]:
    """The canonical bytes and the hash of a copied row. Raises ValueError for a row whose hash is none."""
    if row[-36:-32] != _HASH_LENGTH:
        raise ValueError("the hash of the row has not 32 bytes")
    return row[_WITHOUT_HASH], row[-32:]


def received_rows(copy: Copy) -> Iterator[bytes]:
    """The rows of a binary COPY, of which PostgreSQL sends one at a time, without header and trailer."""
    # What has arrived is taken from libpq directly, which costs half of what ``read`` does; ``read`` waits for more.
    arrived = copy.connection.pgconn.get_copy_data
    row = bytes(copy.read()).removeprefix(COPY_HEADER)
    while row != COPY_TRAILER:
        if row:
            yield row
        size, data = arrived(1)
        row = bytes(data if size > 0 else copy.read())
    while copy.read():
        pass


def parse_row(row: bytes) -> ArchivedEvent:
    """The event of a copied row. Raises ValueError where it is none."""
    values = list(_fields(row))
    if len(values) != len(COLUMNS) + 1:
        raise ValueError(f"a row has {len(values)} fields instead of {len(COLUMNS) + 1}")
    log, position, recorded_at, stream, version, topic, event_id, source, correlation_id, origin, state, hash_ = values
    entry = LogEntry(
        position=_whole(position),
        stream=_decoded(stream) or "",
        version=_whole(version),
        topic=_decoded(topic) or "",
        event_id=_decoded(event_id) or "",
        recorded_at=(_whole(recorded_at) + _EPOCH_MICROSECONDS) / 1_000_000,
        state=state or b"",
        origin=_decoded(origin) or "",
    )
    return ArchivedEvent(_decoded(log) or "", entry, _decoded(source), _decoded(correlation_id), hash_)


def _fields(row: bytes) -> Iterator[bytes | None]:
    at = 2
    while at < len(row):
        (length,) = _length.unpack_from(row, at)
        at += 4
        if length < 0:
            yield None
        else:
            yield row[at : at + length]
            at += length


def _whole(value: bytes | None) -> int:
    return int.from_bytes(value or b"", signed=True)


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
