"""The expected results of queries of any read model: every row is examined, all matches are sorted, the page is cut."""

from collections import Counter
from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple

from projections.base import Projection
from projections.queries import Equality, Query, Range


class QueryResult(NamedTuple):
    """The keys of a page in order, the total, and the (sort value, key) of the last row if more rows follow."""

    keys: list[str]
    total: int
    end: tuple[Any, str] | None


def has_ended(projection: type[Projection[Any, Any]], row: Any, now: float) -> bool:
    """Return whether the row has ended."""
    moment = getattr(row, projection.ends) if projection.ends else None
    return moment is not None and moment <= now


def as_text(value: Any, case: str | None) -> str:
    """Return a value as it is written in a filter."""
    if value is True or value is False:
        return str(value).lower()
    if isinstance(value, str):
        return {"upper": value.upper(), "lower": value.lower(), None: value}[case]
    return repr(int(value)) if int(value) == value else repr(value)


def matches(projection: type[Projection[Any, Any]], key: str, row: Any, query: Query) -> bool:
    """Return whether the row passes every filter."""
    if has_ended(projection, row, query.now):
        return False
    for each in query.filters:
        if each.column == projection.key and isinstance(each, Equality):
            if key not in each.values:
                return False
            continue
        value = getattr(row, each.column)
        if value is None:
            if isinstance(each, Equality) or not each.missing_matches:
                return False
            continue
        if isinstance(each, Equality):
            if as_text(value, projection.columns[each.column].declared.case) not in each.values:
                return False
        elif not each.lowest <= value <= each.highest:
            return False
    return True


def asked(projection: type[Projection[Any, Any]], query: Query) -> Query:
    """Return the query that a client asks for by these bounds: a bound at the end of its scale excludes no row."""
    read = [each if isinstance(each, Equality) else _bounds(projection, each) for each in query.filters]
    return query._replace(filters=tuple(each for each in read if each[1:3] != (-inf, inf)))


def _bounds(projection: type[Projection[Any, Any]], each: Range) -> Range:
    start, end = projection.columns[each.column].scale
    lowest, highest = each.lowest if each.lowest > start else -inf, each.highest if each.highest < end else inf
    return Range(each.column, lowest, highest)


def sort_value(projection: type[Projection[Any, Any]], row: Any, column: str | None) -> Any:
    """Return the value by which the row is ordered. A missing number is -inf, a missing text is None."""
    if column is None:
        return None
    value = getattr(row, column)
    return -inf if value is None and projection.columns[column].kind == "number" else value


def _comparable(item: tuple[Any, str]) -> tuple[bool, Any, str]:
    value, key = item
    return (False, 0, key) if value is None else (True, value, key)


def page(projection: type[Projection[Any, Any]], rows: Mapping[str, Any], query: Query) -> QueryResult:
    """Run a query."""
    found = [
        (sort_value(projection, row, query.sort_by), key)
        for key, row in rows.items()
        if matches(projection, key, row, query)
    ]
    found.sort(key=_comparable, reverse=query.descending)
    total = len(found)
    if query.after is not None:
        edge = _comparable((query.after.value, query.after.key))
        found = [item for item in found if (_comparable(item) < edge if query.descending else _comparable(item) > edge)]
    cut = found[query.offset : query.offset + query.limit]
    has_more = len(found) > query.offset + query.limit
    return QueryResult([key for _, key in cut], total, cut[-1] if cut and has_more else None)


def counts(
    projection: type[Projection[Any, Any]], rows: Mapping[str, Any], name: str, now: float
) -> tuple[list[tuple[str, int]], int, int]:
    """Return the groups of a count in order, the number of counted rows, and the number of groups."""
    [declared] = [count for count in projection.counts if count.name == name]
    counter: Counter[str] = Counter()
    for row in rows.values():
        if has_ended(projection, row, now) or (declared.where and not declared.where(row)):
            continue
        group = declared.by(row) if declared.by else ""
        if group is not None:
            counter[group] += 1
    groups = sorted(counter.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return groups[:1000], sum(counter.values()), len(counter)
