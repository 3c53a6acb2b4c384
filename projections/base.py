"""The declarative base of every read model: projections, indexes, counts and stored rows.

A projection declares which rows an event addresses, how the event changes a row, and which queries the columns of the
row allow. The engine derives all indexes and counts from the columns. It compares the placement of a row before and
after an event and derives all changes of indexes and counts, so that they always agree with the rows.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import orjson

from domain.events import Event
from domain.streams import MARKET_LOG, family_of
from projections.columns import GroupOf, RowColumn, columns_of
from projections.views import View

Row = TypeVar("Row")
Handled = TypeVar("Handled", bound=Event)

Scope = Literal["read", "operate"]
"""The scope that a client needs to read a read model."""

ENDS_INDEX = "@ends"
"""The name of the index of the moments at which rows end. It differs from the name of every column."""

ALL_INDEX = "@all"
"""The name of the index of all rows by key. Only a projection without another index of all rows has it."""


class Index(NamedTuple):
    """An index: rows in the order of a score.

    Attributes:
        name: The name of the index, unique in its read model.
        score: Returns the score of a row. A row with the score None has no entry in the index.
        by: Returns the group of a row. Each group is ordered separately. A row with the group None has no entry. None:
            all rows are in one order.
    """

    name: str
    score: Callable[[Any], float | None]
    by: GroupOf | None = None


class Count(NamedTuple):
    """A count: the number of rows.

    Attributes:
        name: The name of the count, unique in its read model.
        by: Returns the group of a row. Each group is counted separately. A row with the group None is not counted.
            None: all rows are counted together.
        where: Returns whether the row is counted. None: every row is counted.
    """

    name: str
    by: GroupOf | None = None
    where: Callable[[Any], bool] | None = None


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
    """The class of a row, a frozen dataclass. The annotations of its fields declare the queries (``Column``)."""
    key: ClassVar[str]
    """The name of the key of a row in a path and in answers, usually the name of a column."""
    handles: ClassVar[Collection[type[Event]]]
    """The event types that the projection folds. The engine skips all others without decoding them."""
    family: ClassVar[str] = MARKET_LOG
    """The family of logs that the projection folds: ``market`` for all partitions of the market log, or ``users``."""
    tells_rows: ClassVar[bool] = True
    """Whether the changes stream carries the documents of changed rows. Otherwise it carries only their keys."""
    scope: ClassVar[Scope | None] = "read"
    """The scope that a client needs to query the read model. None: the read model has no endpoint of its own."""
    order: ClassVar[str | None] = None
    """The column of numbers that orders rows, descending, if a query names no order. None: the key, ascending."""
    ends: ClassVar[str | None] = None
    """The column of the moment at which a row ends, in epoch seconds. Queries do not return rows that have ended, and
    the expirer records the event that ``expiry`` returns. None: rows do not end by themselves."""
    has_replica: ClassVar[bool] = False
    """Whether API processes hold all rows in memory and answer from there."""
    history: ClassVar[str | None] = None
    """The name of the history in PostgreSQL, which has the validity intervals of all rows. With a history, queries can
    ask about a past moment. None: the read model has no history."""
    views: ClassVar[Mapping[str, View]] = {}
    """The views by name. A replica encodes the first view in advance."""
    summaries: ClassVar[tuple[Count, ...]] = ()
    """Counts in addition to the counts by value of every column with equality filters."""

    columns: ClassVar[Mapping[str, RowColumn]]
    """The columns by name, derived from ``row``."""
    indexes: ClassVar[tuple[Index, ...]]
    """The indexes, derived from the columns."""
    texts: ClassVar[Mapping[str, GroupOf]]
    """For each column with sorted texts the function that returns the text of a row, derived from the columns. If the
    column has equality filters that ignore the case, ``equality_index`` of the column names the function that returns
    the group of a row whose text differs from its group."""
    counts: ClassVar[tuple[Count, ...]]
    """All counts: the counts by value of columns, and ``summaries``."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Derive the columns, indexes and counts. ``check_projection`` refuses a class whose parts do not fit."""
        super().__init_subclass__(**options)
        if is_dataclass(getattr(cls, "row", None)):
            cls.columns = columns_of(cls.row)
            cls.indexes = tuple(_indexes(cls))
            cls.texts = dict(_texts(cls.columns))
            cls.counts = (*_counts_by_value(cls.columns), *cls.summaries)

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

    def expiry(self, stored: "StoredRow[Row]") -> Event:
        """Return the event that records the end of a row, with an id derived from the row. Required with ``ends``."""
        raise NotImplementedError

    def merge(self, row: Row, other: Row) -> Row:
        """Merge two rows with the same key that were built from different logs.

        Only a projection whose keys do not determine the log overrides this method. Its read model is answered from
        replicas alone, which merge the rows of all logs.
        """
        raise NotImplementedError

    @classmethod
    def merges(cls) -> bool:
        """Return whether rows of several logs can have the same key."""
        return cls.merge is not Projection.merge

    def folds(self, log: str) -> bool:
        """Return whether the projection folds the log."""
        return family_of(log) == self.family

    def group_of(self, key: str) -> str | None:
        """Return the group of the row with this key, or None if no event addresses groups."""
        del key
        return None


def _indexes(projection: type[Projection[Any, Any]]) -> Iterator[Index]:
    columns, order = projection.columns, projection.order
    group_score = columns[order].score_of() if order and order in columns else _no_score
    for name, column in columns.items():
        if column.has_scores:
            yield Index(name, column.score_of())
        if column.equality:
            yield Index(equality_index(name), group_score, column.group_of())
    if not any(column.has_scores for column in columns.values()):
        yield Index(ALL_INDEX, _no_score)
    if projection.ends:
        yield Index(ENDS_INDEX, attrgetter(projection.ends))


def _texts(columns: Mapping[str, RowColumn]) -> Iterator[tuple[str, GroupOf]]:
    for name, column in columns.items():
        if column.has_sorted_texts:
            yield name, attrgetter(name)
            if column.equality and column.declared.case:
                yield equality_index(name), column.folded_of()


def equality_index(column: str) -> str:
    """Return the name of the index by the values of a column. It differs from the name of every column."""
    return f"{column}="


def _no_score(_row: Any) -> float:
    return 0.0


def _counts_by_value(columns: Mapping[str, RowColumn]) -> Iterator[Count]:
    for column in columns.values():
        if column.equality:
            yield Count(column.count, by=column.group_of())


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
