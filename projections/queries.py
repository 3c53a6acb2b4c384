"""The queries of the read models: one form of query for all read models, results, and the ports that answer queries.

Every implementation of a port gives the same answers: equal rows, in the same order, with equal totals.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from functools import reduce
from math import inf
from operator import attrgetter, itemgetter
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from domain.errors import TickViewError
from projections.base import Projection, read_row

Row = TypeVar("Row")

MAX_OFFSET = 10_000
"""Highest number of rows that a page can skip. Deeper pages need a cursor, whose cost does not grow with depth."""

MAX_GROUPS = 1_000
"""Highest number of groups of a count that an answer contains."""

ALWAYS = -inf
"""A moment before the end of every row, in epoch seconds."""

Positions = Mapping[str, int]
"""A position for each log, by the name of the log."""

AnyProjection = Projection[Any, Any] | type[Projection[Any, Any]]
"""A projection, or its class: the declarations of a read model belong to the class."""

Timeline = Literal["recorded", "valid"]
"""Timeline of the past: ``recorded`` by the times of recording, ``valid`` by the times of occurrence."""


class ResultRow(NamedTuple, Generic[Row]):
    """A row with its key and its provenance.

    Attributes:
        row: The row.
        log: The log of the event that last changed the row.
        position: The position of that event in the log.
        key: The key of the row.
    """

    row: Row
    log: str
    position: int
    key: str


def read_result(row_type: type[Row], log: str, key: str, document: bytes) -> ResultRow[Row]:
    """Deserialize a stored row of the log ``log``, and ignore unknown fields."""
    row, position = read_row(row_type, document)
    return ResultRow(row, log, position, key)


class Equality(NamedTuple):
    """A filter by value: a row must have one of the values in a column.

    Attributes:
        column: The name of the column, or the name of the key.
        values: The accepted values as texts (see ``RowColumn.group``), possibly thousands. Empty: no row matches.
    """

    column: str
    values: frozenset[str]


class Range(NamedTuple):
    """A filter by bounds, both included.

    Attributes:
        column: The name of the column.
        lowest: The lower bound.
        highest: The upper bound.
        missing_matches: Whether a row without a value in the column matches.
    """

    column: str
    lowest: float = -inf
    highest: float = inf
    missing_matches: bool = False


Filter = Equality | Range
"""A filter of a query."""


class Cursor(NamedTuple):
    """The end of a page: the sort value and the key of its last row."""

    value: float | str | None
    """The sort value. The value of a missing number is ``LOWEST``, and None is the value of a missing text."""
    key: str


class Query(NamedTuple):
    """A query of a read model.

    A row must satisfy every filter. Rows are ordered by sort value and key. A missing value is lower than every other.
    Descending order is the exact reverse of ascending order.
    """

    now: float
    """Time of the query in seconds since the epoch. Rows that have ended by then do not match."""
    filters: tuple[Filter, ...] = ()
    """At most one filter by value and one filter by bounds for each column."""
    sort_by: str | None = None
    """The column to sort by. None: the key."""
    descending: bool = False
    offset: int = 0
    """Number of rows to skip, from 0."""
    after: Cursor | None = None
    """End of the previous page. With a cursor, ``offset`` must be 0."""
    limit: int = 30
    """Highest number of rows on the page."""

    @property
    def page_end(self) -> int:
        """Number of rows up to and including the first row behind the page."""
        return self.offset + self.limit + 1


class Page(NamedTuple, Generic[Row]):
    """One page of the rows that match a query, in order."""

    rows: Sequence[ResultRow[Row]]
    total: int
    """Exact number of matching rows on all pages."""
    end: Cursor | None
    """Cursor of the next page. None: this is the last page."""


class Counts(NamedTuple):
    """The numbers of rows by group.

    Attributes:
        groups: The number of rows of each group, ordered by number and name, descending, at most ``MAX_GROUPS``.
        total: The number of all counted rows.
        distinct: The number of all groups that have rows.
    """

    groups: Mapping[str, int]
    total: int
    distinct: int


class HistoryPage(NamedTuple):
    """A page of a query about the past, with the state of the history that answered."""

    page: Page[Any]
    version: int
    """Version of the projection under which the history was built."""
    positions: Positions
    """The position up to which each log is folded."""
    recorded_at: Mapping[str, float]
    """Time at which the event at that position was recorded, in seconds since the epoch. 0: there is no event."""


class TooDeepError(TickViewError, ValueError):
    """The page begins after ``MAX_OFFSET``, and there are matching rows."""

    def __init__(self, query: Query, total: int) -> None:
        super().__init__(
            f"The page begins at row {query.offset} of {total}, but pages by number reach only the first {MAX_OFFSET} "
            "rows. Use a cursor for the following rows."
        )


def most_frequent(counts: Mapping[str, int], limit: int = MAX_GROUPS) -> dict[str, int]:
    """Return the highest positive counts, ordered by count and name, descending."""
    ordered = sorted(sorted(counts.items(), reverse=True), key=itemgetter(1), reverse=True)
    return {name: count for name, count in ordered[:limit] if count > 0}


Matches = Callable[[str, Any], bool]
"""Returns whether a row matches. The arguments are the key and the row."""


def matcher(projection: AnyProjection, filters: Iterable[Filter], now: float) -> Matches:
    """Compile filters to one function.

    Args:
        projection: The projection of the read model.
        filters: The filters that a row must satisfy.
        now: Time in seconds since the epoch. Rows that have ended by then do not match.
    """
    tests = [_test_of(projection, filter_) for filter_ in filters]
    if projection.ends and now > ALWAYS:
        tests.append(_unended(attrgetter(projection.ends), now))
    # The first test is called first and alone: it rejects most rows.
    return reduce(_both, reversed(tests)) if tests else lambda _key, _row: True


def _both(second: Matches, first: Matches) -> Matches:
    return lambda key, row: first(key, row) and second(key, row)


def _test_of(projection: AnyProjection, filter_: Filter) -> Matches:
    if isinstance(filter_, Range):
        get, (_, lowest, highest, missing_matches) = attrgetter(filter_.column), filter_
        return lambda _key, row: missing_matches if (value := get(row)) is None else lowest <= value <= highest
    values = filter_.values
    if filter_.column == projection.key:
        return lambda key, _row: key in values
    group_of = projection.columns[filter_.column].group_of()
    return lambda _key, row: group_of(row) in values


def _unended(ends: Callable[[Any], float | None], now: float) -> Matches:
    return lambda _key, row: (moment := ends(row)) is None or moment > now


class RowQueries(Protocol[Row]):
    """Queries of one build of a read model."""

    source: str
    """Origin of the answers: ``redis`` or ``replica``."""

    def state(self, now: float) -> Hashable | None:
        """Return a token of the read model's state at the time ``now``, in seconds since the epoch.

        Answers are equal as long as the token is equal, except for values that depend on the time. None: the state is
        not known without a query.
        """
        ...

    async def page(self, query: Query) -> Page[Row]:
        """Return a page of the rows that match a query.

        Raises:
            TooDeepError: The page begins after ``MAX_OFFSET``, and there are matching rows.
        """
        ...

    async def get(self, key: str, now: float) -> ResultRow[Row] | None:
        """Return the row with a key, or None if there is no such row, or if it has ended at ``now``."""
        ...

    async def get_many(self, keys: Collection[str], now: float) -> Sequence[ResultRow[Row]]:
        """Return the rows with the keys, in the order of ``keys``, without rows that do not exist or have ended."""
        ...

    async def counts(self, names: Sequence[str], now: float) -> Mapping[str, Counts]:
        """Return counts by name, of the rows that have not ended at ``now``, in seconds since the epoch."""
        ...


class HistoryQueries(Protocol):
    """Queries of a read model about the past."""

    async def page(self, query: Query, timeline: Timeline) -> HistoryPage:
        """Return a page of the rows that matched as of the time ``query.now``.

        Raises:
            TooDeepError: The page begins after ``MAX_OFFSET``, and there are matching rows.
        """
        ...

    async def folded(self) -> Positions:
        """Return the position up to which each log is folded."""
        ...
