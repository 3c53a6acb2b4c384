"""The declarative base of every read model: projections, indexes, counts and stored rows.

A projection declares which rows an event addresses and how the event changes a row. Indexes and counts are declared as
functions of a row. The engine compares the placement of a row before and after an event and derives all changes of
indexes and counts, so that they always agree with the rows.
"""

import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import orjson

from domain.events import Event
from domain.streams import MARKET_LOG, family_of

Row = TypeVar("Row")
Handled = TypeVar("Handled", bound=Event)

LOWEST = float("-inf")
"""The score of a row without a value. It is below every bound, so that range filters exclude the row."""

LOWEST_VALUE = -sys.float_info.max
"""A bound below every value of a row, but above the score of a row without a value."""


@dataclass(frozen=True)
class Index(Generic[Row]):
    """An index: rows in the order of a score.

    Attributes:
        name: The name of the index, unique in its read model.
        score: Returns the score of a row. A row with the score None has no entry in the index.
        by: Returns the group of a row. Each group is ordered separately. None: all rows are in one order.
    """

    name: str
    score: Callable[[Row], float | None]
    by: Callable[[Row], str] | None = None


@dataclass(frozen=True)
class Count(Generic[Row]):
    """A count: the number of rows.

    Attributes:
        name: The name of the count, unique in its read model.
        by: Returns the group of a row. Each group is counted separately. None: all rows are counted together.
        where: Returns whether the row is counted. None: every row is counted.
    """

    name: str
    by: Callable[[Row], str] | None = None
    where: Callable[[Row], bool] | None = None


class Group(NamedTuple):
    """The address of all rows in a group, for an event that does not name each row."""

    name: str


class Projection(Generic[Row, Handled]):
    """The declaration of one read model. Subclasses set the class variables and define ``keys`` and ``evolve``.

    ``keys`` and ``evolve`` must be pure functions that accept every event in ``handles``: no clock, no I/O, no
    randomness. ``evolve`` need not be idempotent: the event log drops duplicates by their event id, and the checkpoint
    keeps the engine from folding an entry twice.
    """

    name: ClassVar[str]
    """The name of the read model."""
    version: ClassVar[int]
    """The version of the declaration, from 1. Every change of the class needs a higher version and thus a new build."""
    row: ClassVar[type[Any]]
    """The class of a row, a frozen dataclass."""
    handles: ClassVar[Collection[type[Event]]]
    """The event types that the projection folds. The engine skips all others without decoding them."""
    family: ClassVar[str] = MARKET_LOG
    """The family of logs that the projection folds: ``market`` for all partitions of the market log, or ``users``."""
    tells_rows: ClassVar[bool] = True
    """Whether the changes stream carries the documents of changed rows. Otherwise it carries only their keys."""
    indexes: ClassVar[tuple[Index[Any], ...]] = ()
    """The indexes of the read model."""
    summaries: ClassVar[tuple[Count[Any], ...]] = ()
    """The counts of the read model."""

    def keys(self, event: Handled) -> Iterable[str | Group]:
        """Return the keys of the rows that the event addresses, or groups of rows."""
        raise NotImplementedError

    def evolve(self, row: Row | None, event: Handled) -> Row | None:
        """Apply an event to a row.

        Args:
            row: The present row, or None if the row does not exist.
            event: The event.

        Returns:
            The new row, or None to remove the row. The identical object means that nothing changes.
        """
        raise NotImplementedError

    def folds(self, log: str) -> bool:
        """Return whether the projection folds the log."""
        return family_of(log) == self.family

    def group_of(self, key: str) -> str | None:
        """Return the group of the row with this key, or None if no event addresses groups."""
        del key
        return None


class StoredRow(NamedTuple, Generic[Row]):
    """A row with its provenance.

    Attributes:
        row: The row.
        position: The position of the event that last changed the row, in the log of the segment.
    """

    row: Row
    position: int


def encode_row(row: Any, position: int) -> bytes:
    """Serialize a row and its provenance as one JSON object with the position in the field ``position``."""
    return b'{"position":%d,' % position + orjson.dumps(row)[1:]


def decode_row(row_type: type[Row], document: bytes) -> StoredRow[Row]:
    """Deserialize a row that ``encode_row`` wrote.

    Raises:
        TypeError: The fields of the document are not the fields of ``row_type``.
    """
    values = orjson.loads(document)
    position = values.pop("position")
    return StoredRow(row_type(**values), position)


def read_row(row_type: type[Row], document: bytes) -> StoredRow[Row]:
    """Deserialize a row and ignore unknown fields. During a deploy another version of TickView may have written it."""
    try:
        return decode_row(row_type, document)
    except TypeError:
        values = orjson.loads(document)
        known = {field.name: values[field.name] for field in fields(row_type) if field.name in values}  # type: ignore[arg-type]
        return StoredRow(row_type(**known), values["position"])
