"""Hash chains over the rows of a log, in the format of PostgreSQL's binary COPY (``row_format.py``)."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from struct import Struct
from typing import NamedTuple

from infra.archive.row_format import COLUMNS

_position = Struct("!q")
_length = Struct("!i")
_HASH_LENGTH = _length.pack(32)


class ChainLink(NamedTuple):
    """The position and the hash of an event."""

    position: int
    hash: bytes


class RowLayout:
    """The layout of the rows of one log."""

    def __init__(self, log: str) -> None:
        # Field count, length of the log's name, name, length of the position.
        self._offset = 2 + 4 + len(log.encode()) + 4

    def position(self, row: bytes) -> int:
        """Return the position of a row."""
        position: int = _position.unpack_from(row, self._offset)[0]
        return position

    def hash_after(self, previous: bytes, row: bytes, position: int | None = None) -> bytes:
        """Compute the hash of a row.

        Args:
            previous: The hash of the event before the row.
            row: The row.
            position: The position to hash instead of that of the row.
        """
        if position is None:
            return sha256(previous + row[2:-36]).digest()
        offset = self._offset
        moved = _position.pack(position)
        return sha256(previous + row[2:offset] + moved + row[offset + 8 : -36]).digest()

    def follow(self, link: ChainLink, rows: Iterator[bytes], upto: int) -> tuple[ChainLink, bytes | None]:
        """Follow the chain from ``link`` through the rows as far as they fit, up to the position ``upto``.

        Returns:
            The last link that fits, and the row that does not fit. The row is None if the rows ended or the chain
            reached ``upto``.
        """
        position, last_hash = link
        offset, unpack_position = self._offset, _position.unpack_from
        # This loop hashes whole archives. It calls no other function of this module, because calls cost time.
        for row in islice(rows, upto - position):
            row_hash = sha256(last_hash + row[2:-36]).digest()
            if row_hash != row[-32:] or unpack_position(row, offset)[0] != position + 1:
                return ChainLink(position, last_hash), row
            last_hash = row_hash
            position += 1
        return ChainLink(position, last_hash), None


def hash_of(row: bytes) -> bytes:
    """Return the stored hash of a row."""
    return row[-32:]


def has_valid_hash(row: bytes) -> bool:
    """Return whether the stored hash of a row has the length of a SHA-256 hash."""
    return row[-36:-32] == _HASH_LENGTH


def split_state(row: bytes) -> tuple[bytes, bytes]:
    """Split a row into the columns before the state, and the state with its length."""
    offset = 2
    for _ in COLUMNS[:-1]:
        offset += 4 + max(_length.unpack_from(row, offset)[0], 0)
    return row[:offset], row[offset : offset + 4 + max(_length.unpack_from(row, offset)[0], 0)]
