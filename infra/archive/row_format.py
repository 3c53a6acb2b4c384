"""The binary format of archived events: the canonical bytes that are hashed, and the rows of PostgreSQL's binary COPY.

The canonical bytes of an event are its columns in the order of ``COLUMNS``. Each column is its length in bytes,
followed by its value. The length has 4 bytes (big endian, signed); NULL has the length -1 and no value. Texts are in
UTF-8. Whole numbers have 8 bytes (big endian, two's complement). ``recorded_at`` is such a number: the
microseconds since 2000-01-01T00:00:00Z. ``state`` is stored unchanged.

These bytes are a tuple of PostgreSQL's binary COPY format without the field count
(https://www.postgresql.org/docs/current/sql-copy.html), so that hashing needs no second encoding of an event.
``docs/audit.md`` has a short program that recomputes a chain.
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
"""The hashed columns of ``tickview.events`` in their order. The column ``hash`` follows them."""

GENESIS = bytes(32)
"""The hash that precedes the first event of a log."""

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"

POSTGRES_EPOCH = 946_684_800_000_000
"""The moment 2000-01-01T00:00:00Z in microseconds since 1970."""

_field_count = Struct("!h").pack(len(COLUMNS) + 1)
_length = Struct("!i")
_number = Struct("!iq")
_two_numbers = Struct("!iqiq")
NULL_FIELD = _length.pack(-1)
"""The field of a row that has no value."""
_HASH_LENGTH = _length.pack(32)
_WITHOUT_HASH = slice(2, -(4 + 32))


class ArchivedEvent(NamedTuple):
    """A stored event with its log and its hash."""

    log: str
    entry: LogEntry
    source: str | None
    correlation_id: str | None
    hash: bytes | None
    """None for an event that is not archived yet."""
    is_forgotten: bool = False
    """Whether the state cannot be decrypted, because the key of the user is destroyed."""


def canonical_bytes(log: str, entry: LogEntry) -> bytes:
    """Return the bytes of an event that are hashed."""
    source, correlation_id = attribution(entry.state)
    return b"".join(
        (
            encode_shared_text(log),
            _two_numbers.pack(8, entry.position, 8, round(entry.recorded_at * 1000) * 1000 - POSTGRES_EPOCH),
            encode_shared_text(entry.stream),
            _number.pack(8, entry.version),
            encode_shared_text(entry.topic),
            encode_text(entry.event_id),
            encode_shared_text(source),
            encode_text(correlation_id),
            encode_shared_text(entry.origin),
            _length.pack(len(entry.state)),
            entry.state,
        )
    )


def attribution(state: bytes) -> tuple[str | None, str | None]:
    """Return source and correlation id of a state in JSON. A value that PostgreSQL cannot store as text is None."""
    if not state.startswith(b"{"):
        return None, None
    try:
        fields = orjson.loads(state)
    except orjson.JSONDecodeError:
        return None, None
    return _text_field(fields, "source"), _text_field(fields, "correlation_id")


def _text_field(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) and "\0" not in value else None


@lru_cache(maxsize=10_000)
def encode_shared_text(text: str | None) -> bytes:
    """Return the field of a text that many rows share."""
    return encode_text(text)


def encode_text(text: str | None) -> bytes:
    """Return the field of a text in a row."""
    if text is None:
        return NULL_FIELD
    encoded = text.encode()
    return _length.pack(len(encoded)) + encoded


def chain_hash(previous: bytes, event_bytes: bytes) -> bytes:
    """Return the hash of an event.

    Args:
        previous: The hash of the previous event of the log, or ``GENESIS``.
        event_bytes: The canonical bytes of the event.
    """
    return sha256(previous + event_bytes).digest()


def encode_copy_row(event_bytes: bytes, event_hash: bytes) -> bytes:
    """Return the row of an event for binary COPY."""
    return b"".join((_field_count, event_bytes, _HASH_LENGTH, event_hash))


def split_row(row: bytes) -> tuple[bytes, bytes]:
    """Return the canonical bytes and the hash of a row. Raises ValueError if the hash has a wrong length."""
    if row[-36:-32] != _HASH_LENGTH:
        raise ValueError("The hash of a row does not have 32 bytes.")
    return row[_WITHOUT_HASH], row[-32:]


def received_rows(copy: Copy) -> Iterator[bytes]:
    """Yield the rows of a binary COPY without header and trailer. PostgreSQL sends each row in a message of its own."""
    # Rows that have arrived are taken from libpq directly, at half the cost of ``read``. ``read`` waits for more rows.
    receive = copy.connection.pgconn.get_copy_data
    row = bytes(copy.read()).removeprefix(COPY_HEADER)
    while row != COPY_TRAILER:
        if row:
            yield row
        size, data = receive(1)
        row = bytes(data if size > 0 else copy.read())
    while copy.read():
        pass


def parse_row(row: bytes) -> ArchivedEvent:
    """Return the event of a row. Raises ValueError if the row has a wrong number of fields."""
    values = _fields(row)
    if len(values) != len(COLUMNS) + 1:
        raise ValueError(f"A row has {len(values)} fields instead of {len(COLUMNS) + 1}.")
    log, position, recorded_at, stream, version, topic, event_id, source, correlation_id, origin, state, hash_ = values
    entry = LogEntry(
        position=_integer(position),
        stream=_decode_text(stream) or "",
        version=_integer(version),
        topic=_decode_text(topic) or "",
        event_id=_decode_text(event_id) or "",
        recorded_at=(_integer(recorded_at) + POSTGRES_EPOCH) / 1_000_000,
        state=state or b"",
        origin=_decode_text(origin) or "",
    )
    return ArchivedEvent(_decode_text(log) or "", entry, _decode_text(source), _decode_text(correlation_id), hash_)


def _fields(row: bytes) -> list[bytes | None]:
    fields: list[bytes | None] = []
    offset, end = 2, len(row)
    while offset < end:
        (length,) = _length.unpack_from(row, offset)
        offset += 4
        if length < 0:
            fields.append(None)
        else:
            fields.append(row[offset : offset + length])
            offset += length
    return fields


def _integer(value: bytes | None) -> int:
    return int.from_bytes(value or b"", signed=True)


def _decode_text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
