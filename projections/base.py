"""The declarative base of every read model: what a row is, and what follows from it.

A projection says which rows an event speaks of and what becomes of them. Indexes and summaries are declared as
functions of a row; the engine compares the old row with the new and derives every change to them, so they cannot drift.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import orjson

from domain.events import Event
from domain.streams import MARKET_LOG, family_of

Row = TypeVar("Row")
Handled = TypeVar("Handled", bound=Event)

LOWEST = float("-inf")
"""The score of a row that has no value: below every bound, so that only a sort meets it."""

LOWEST_VALUE = -sys.float_info.max
"""Below every value that a row can have, above that of a row that has none."""


@dataclass(frozen=True)
class Index(Generic[Row]):
    """Rows ordered by a score: one order for the whole read model, or one for each group that ``by`` names.

    A row whose score is None is left out.
    """

    name: str
    score: Callable[[Row], float | None]
    by: Callable[[Row], str] | None = None


@dataclass(frozen=True)
class Count(Generic[Row]):
    """How many rows there are: of each group that ``by`` names, of those for which ``where`` holds, or both."""

    name: str
    by: Callable[[Row], str] | None = None
    where: Callable[[Row], bool] | None = None


class Group(NamedTuple):
    """All rows of one group: what an event names that speaks of rows without naming each."""

    name: str


class Projection(Generic[Row, Handled]):
    """What one read model tells. Subclasses declare the class variables and define ``keys`` and ``evolve``.

    Both must be pure and total over the events in ``handles``: no clock, no I/O, no randomness.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised with every change to the class, so that the read model is built anew."""
    row: ClassVar[type[Any]]
    """The frozen dataclass of a row."""
    handles: ClassVar[tuple[type[Event], ...]]
    """The event types it folds; all others pass it by unread."""
    family: ClassVar[str] = MARKET_LOG
    """The logs that it folds: the partitions of the market's, or that of the users."""
    tells_rows: ClassVar[bool] = True
    """Whether ``changes`` tell what became of the rows, for those who follow them; else only which they are."""
    indexes: ClassVar[tuple[Index[Any], ...]] = ()
    summaries: ClassVar[tuple[Count[Any], ...]] = ()

    def keys(self, event: Handled) -> Iterable[str | Group]:
        """The rows that ``event`` speaks of: none, one, a few, or those of a group."""
        raise NotImplementedError

    def evolve(self, row: Row | None, event: Handled) -> Row | None:
        """What becomes of a row (None: there is none yet) by ``event``; None: there is none any more."""
        raise NotImplementedError

    def folds(self, log: str) -> bool:
        """Whether it folds ``log``."""
        return family_of(log) == self.family

    def group_of(self, key: str) -> str | None:
        """The group that the row ``key`` is in, if events speak of groups."""
        del key
        return None


class StoredRow(NamedTuple, Generic[Row]):
    """A row with its provenance: the position, in the log of its segment, of the event that last changed it."""

    row: Row
    position: int


def encode_row(row: Any, position: int) -> bytes:
    """A row and its provenance as one JSON object, the position under ``position``."""
    return b'{"position":%d,' % position + orjson.dumps(row)[1:]


def decode_row(row_type: type[Row], document: bytes) -> StoredRow[Row]:
    """The row that ``encode_row`` wrote. Raises TypeError where the fields are not those of ``row_type``."""
    values = orjson.loads(document)
    position = values.pop("position")
    return StoredRow(row_type(**values), position)


def read_row(row_type: type[Row], document: bytes) -> StoredRow[Row]:
    """The row, as far as this code knows its fields: while a deploy is under way, other code may have written it."""
    try:
        return decode_row(row_type, document)
    except TypeError:
        values = orjson.loads(document)
        known = {field.name: values[field.name] for field in fields(row_type) if field.name in values}  # type: ignore[arg-type]
        return StoredRow(row_type(**known), values["position"])
