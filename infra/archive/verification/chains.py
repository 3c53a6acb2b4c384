"""Recomputes a chain of hashes from the rows of a log as PostgreSQL's binary COPY sends them."""

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
    """An event's place in the chain of its log."""

    position: int
    hash: bytes


class RowLayout:
    """Where things stand in the rows of one log."""

    def __init__(self, log: str) -> None:
        self._at = 2 + 4 + len(log.encode()) + 4

    def position(self, row: bytes) -> int:
        """The row's position."""
        found: int = _position.unpack_from(row, self._at)[0]
        return found

    def hash_after(self, previous: bytes, row: bytes, position: int | None = None) -> bytes:
        """What the row's hash must be behind the hash ``previous``, if it stood at ``position``."""
        if position is None:
            return sha256(previous + row[2:-36]).digest()
        at = self._at
        moved = _position.pack(position)
        return sha256(previous + row[2:at] + moved + row[at + 8 : -36]).digest()

    def follow(self, link: ChainLink, rows: Iterator[bytes], upto: int) -> tuple[ChainLink, bytes | None]:
        """Follow the chain from ``link`` through the rows, as far as they fit, to the position ``upto`` at most.

        Returns the last link that fits, and the row that does not; None where the rows ended or ``upto`` is reached.
        """
        position, hash_ = link
        at, position_in = self._at, _position.unpack_from
        # Every nanosecond counts here: whole archives go through.
        for row in islice(rows, upto - position):
            following = sha256(hash_ + row[2:-36]).digest()
            if following != row[-32:] or position_in(row, at)[0] != position + 1:
                return ChainLink(position, hash_), row
            hash_ = following
            position += 1
        return ChainLink(position, hash_), None


def hash_of(row: bytes) -> bytes:
    """The hash that a row carries."""
    return row[-32:]


def has_valid_hash(row: bytes) -> bool:
    """Whether its last column is one of SHA-256."""
    return row[-36:-32] == _HASH_LENGTH


def split_state(row: bytes) -> tuple[bytes, bytes]:
    """All that stands before the state, and the state with its length."""
    at = 2
    for _ in COLUMNS[:-1]:
        at += 4 + max(_length.unpack_from(row, at)[0], 0)
    return row[:at], row[at : at + 4 + max(_length.unpack_from(row, at)[0], 0)]
