"""The plan of a query on the indexes in Redis: clauses of score ranges, filters by texts, and an order.

``infra/redis/functions/query.lua`` runs a plan in one segment. ``docs/queries.md`` describes the cost.
"""

from collections.abc import Collection, Sequence
from math import inf
from typing import Literal, NamedTuple

from infra.read_models.keys import SegmentKeys
from infra.redis.functions import Argument
from projections.base import ALL_INDEX, ENDS_INDEX, equality_index
from projections.columns import LOWEST, LOWEST_NUMBER
from projections.queries import AnyProjection, Equality, Query, Range

MANY_VALUES = 100
"""Highest number of values of a column with sorted texts that are looked up in the index of each value. With more
values, as with the symbols of a universe, the server compares the text of each row."""


class ScoreRange(NamedTuple):
    """The rows of an index, or of one group of an index, whose scores lie between two bounds, both included."""

    name: str
    """Name of the index."""
    group: str
    """Group of the index. Empty for an index without groups."""
    lowest: float
    highest: float


class Clause(NamedTuple):
    """The rows of several ranges. No two ranges have a row in common."""

    ranges: Sequence[ScoreRange]
    is_sorted: bool
    """Whether the scores are the query's sort values."""


class TextFilter(NamedTuple):
    """The rows whose text in a column with sorted texts is one of many values."""

    column: str
    values: Collection[str]
    has_groups: bool
    """Whether the hash ``equality_index(column)`` has the values that stand for the texts of some rows."""


class Order(NamedTuple):
    """The order of a query: by the scores of an index, by the texts of a column, or by keys only."""

    by: Literal["number", "text", "id"]
    name: str | None
    """The name of the index or of the texts. None with ``id``."""


class Plan(NamedTuple):
    """The rows that match every clause and every filter by texts, in an order. There is at least one clause."""

    clauses: Sequence[Clause]
    text_filters: Sequence[TextFilter]
    order: Order


def plan_query(projection: AnyProjection, query: Query) -> Plan:
    """Plan a query without a filter by key.

    The scores of a group are the values of the column ``projection.order``, so that a clause of groups includes the
    bounds of that column.
    """
    order = _order(projection, query.sort_by)
    equalities = [each for each in query.filters if isinstance(each, Equality)]
    bounds = {each.column: each for each in query.filters if isinstance(each, Range)}
    text_filters = [_text_filter(projection, each) for each in equalities if _has_many_texts(projection, each)]
    grouped = [each for each in equalities if not _has_many_texts(projection, each)]
    lowest, highest = -inf, inf
    if grouped and projection.order in bounds and not bounds[projection.order].missing_matches:
        lowest, highest = _bounds(bounds.pop(projection.order))
    clauses = [
        Clause(
            [ScoreRange(equality_index(column), value, lowest, highest) for value in values],
            query.sort_by == projection.order,
        )
        for column, values in grouped
    ]
    clauses += [Clause(_score_ranges(each), order.name == column) for column, each in bounds.items()]
    if not clauses:
        index = order.name if order.by == "number" and order.name else _index_of_all_rows(projection)
        clauses = [Clause([ScoreRange(index, "", -inf, inf)], order.name == index)]
    return Plan(clauses, text_filters, order)


def column_without_index(projection: AnyProjection, query: Query) -> str | None:
    """Return a column by which the query filters or sorts and of which there is no index, or None."""
    columns = projection.columns.values()
    by_value = {column.name for column in columns if column.equality}
    by_bounds = {column.name for column in columns if column.has_scores}
    for filter_ in query.filters:
        if filter_.column not in (by_value if isinstance(filter_, Equality) else by_bounds):
            return filter_.column
    sortable = {None, *(column.name for column in columns if column.sort)}
    return None if query.sort_by in sortable else query.sort_by


def _order(projection: AnyProjection, sort_by: str | None) -> Order:
    if sort_by is None:
        index = _index_of_all_rows(projection)
        return Order("number", index) if index == ALL_INDEX else Order("id", None)
    return Order("number" if projection.columns[sort_by].has_scores else "text", sort_by)


def _index_of_all_rows(projection: AnyProjection) -> str:
    return next(index.name for index in projection.indexes if index.by is None and index.name != ENDS_INDEX)


def _score_ranges(bounds: Range) -> list[ScoreRange]:
    ranges = [ScoreRange(bounds.column, "", *_bounds(bounds))]
    # The score of a missing number is LOWEST, below that of every number.
    return [ScoreRange(bounds.column, "", LOWEST, LOWEST), *ranges] if bounds.missing_matches else ranges


def _bounds(bounds: Range) -> tuple[float, float]:
    return max(bounds.lowest, LOWEST_NUMBER), bounds.highest


def _has_many_texts(projection: AnyProjection, equality: Equality) -> bool:
    return len(equality.values) > MANY_VALUES and projection.columns[equality.column].has_sorted_texts


def _text_filter(projection: AnyProjection, equality: Equality) -> TextFilter:
    return TextFilter(equality.column, equality.values, equality_index(equality.column) in projection.texts)


def query_arguments(
    plan: Plan, query: Query, has_ends: bool, names: SegmentKeys
) -> tuple[Sequence[str], Sequence[Argument]]:
    """Return the keys and the arguments of ``query.lua`` for a segment.

    Args:
        plan: The plan of the query.
        query: The query.
        has_ends: Whether rows end.
        names: The keys of the segment.
    """
    numbers: dict[str, int] = {}

    def number(key: str) -> int:
        return numbers.setdefault(key, len(numbers) + 1)

    by, name = plan.order
    arguments: list[Argument] = [
        by,
        0 if name is None else number(names.index(name) if by == "number" else names.texts(name)),
        number(names.index(ENDS_INDEX)) if has_ends else 0,
        query.now,
        int(query.descending),
        query.page_end if query.limit else 0,
        *_cursor_arguments(query),
        len(plan.text_filters),
    ]
    for column, values, has_groups in plan.text_filters:
        groups = number(names.texts(equality_index(column))) if has_groups else 0
        arguments += (number(names.texts(column)), groups, len(values), *values)
    for ranges, is_sorted in plan.clauses:
        arguments += (int(is_sorted), len(ranges))
        for index, group, lowest, highest in ranges:
            arguments += (number(names.index(index, group)), lowest, highest)
    return list(numbers), arguments


def _cursor_arguments(query: Query) -> tuple[Argument, Argument, Argument]:
    if query.after is None:
        return "", "", ""
    value, key = query.after
    if query.sort_by is None:
        return "value", 0, key
    return ("missing", "", key) if value is None else ("value", value, key)
