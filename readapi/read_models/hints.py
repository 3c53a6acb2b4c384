"""Values of filters that no row has: an error for closed sets of values, a hint in an empty answer for open sets."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from heapq import nlargest
from itertools import chain, islice
from typing import Any, NamedTuple

from projections.columns import RowColumn
from projections.queries import AnyProjection, Counts, Equality, Filter, Query, ResultRow, RowQueries
from readapi.http.problems import FieldError, invalid
from readapi.read_models.rendering import texts_of

MAX_LISTED_VALUES = 30
"""Highest number of known values that a text lists. If there are more, the text gives their number."""

MAX_HINTS = 3
"""Highest number of values that a hint explains. The comparison of each with the known values takes a millisecond."""

MAX_COMPARED = 30
"""Number of known values that are compared with an unknown value in full: those that share most pairs of characters."""


class _UnknownValue(NamedTuple):
    """A value in a filter that no row has, with the known values of the column."""

    column: str
    value: str
    known: Collection[str]


class FilterValues:
    """The values in the filters of one query, compared with the values that rows have.

    Args:
        projection: The projection of the read model.
        filters: The filters as the client named them.
        parameters: The parameter of each column whose parameter has another name than the column.
    """

    def __init__(
        self, projection: AnyProjection, filters: Iterable[Filter], parameters: Mapping[str, str] | None = None
    ) -> None:
        self._key = projection.key
        self._columns = projection.columns
        self._parameters = parameters or {}
        by_value = [each for each in filters if isinstance(each, Equality)]
        has_values = {name for name, column in self._columns.items() if column.equality}
        self._filters = [
            (self._columns[each.column], _parts(each.values)) for each in by_value if each.column in has_values
        ]
        self._keys = [key for each in by_value if each.column not in has_values for key in sorted(_parts(each.values))]

    async def check(self, queries: RowQueries[Any], now: float) -> None:
        """Check that the values of closed sets are known.

        Args:
            queries: The queries of the read model.
            now: The time of the query, in epoch seconds.

        Raises:
            Problem: 400 with the known values.
        """
        unknown = await self._unknown(queries, now, is_closed=True)
        if unknown:
            raise invalid(
                [unknown_value(self._parameter(each[0]), each[0].replace("_", " "), *each[1:]) for each in unknown]
            )

    async def hint(self, queries: RowQueries[Any], now: float) -> str | None:
        """Explain why no row matches, if a filter names a value that no row has. Call this for an empty answer only.

        Args:
            queries: The queries of the read model.
            now: The time of the query, in epoch seconds.
        """
        unknown = map(self._explain, await self._unknown(queries, now, is_closed=False))
        absent = (f"at present no row has {self._key}={key}" for key in await self._absent_keys(queries, now))
        return "; ".join(islice(chain(unknown, absent), MAX_HINTS)) or None

    def spellings(self, rows: Sequence[ResultRow[Any]], shown: Collection[str]) -> str | None:
        """Tell which values of filters stand for several texts that differ only in case.

        Args:
            rows: The rows of a page.
            shown: The columns that the page shows.
        """
        found: dict[tuple[str, str], set[str]] = {}
        for column, values in self._filters:
            if column.declared.case and column.name in shown:
                for text in texts_of(rows, column.name):
                    if (group := column.group(text)) in values:
                        found.setdefault((column.name, group), set()).add(text)
        ambiguous = (
            f"{self._parameter(name)}={group} stands for {' and '.join(sorted(texts))}: the case of letters differs"
            for (name, group), texts in sorted(found.items())
            if len(texts) > 1
        )
        return "; ".join(islice(ambiguous, MAX_HINTS)) or None

    async def _absent_keys(self, queries: RowQueries[Any], now: float) -> list[str]:
        present = {result.key for result in await queries.get_many(self._keys, now)} if self._keys else ()
        return [key for key in self._keys if key not in present]

    async def _unknown(self, queries: RowQueries[Any], now: float, *, is_closed: bool) -> list[_UnknownValue]:
        suspects = {
            column.name: missing
            for column, values in self._filters
            if column.is_closed is is_closed and (missing := values - set(map(column.group, column.values)))
        }
        if not suspects:
            return []
        counts = await queries.counts([self._columns[name].count for name in suspects], now)
        unknown: list[_UnknownValue] = []
        for name, values in suspects.items():
            column = self._columns[name]
            count = counts[column.count]
            known = dict.fromkeys((*map(column.group, column.values), *count.groups))
            absent = await _absent(queries, column, values, count, now)
            unknown += [_UnknownValue(name, value, known) for value in absent]
        return unknown

    def _explain(self, unknown: _UnknownValue) -> str:
        close = close_values(unknown.value, unknown.known)
        advice = f"close values: {', '.join(close)}" if close else f"known: {_listed(unknown.known)}"
        return f"at present no row has {self._parameter(unknown.column)}={unknown.value}; {advice}"

    def _parameter(self, column: str) -> str:
        return self._parameters.get(column, column)


def stand_together(column: RowColumn, texts: Collection[str]) -> bool:
    """Return whether one value in a filter by the column stands for two of some different texts."""
    return len(texts) > 1 and len(set(map(column.group, texts))) < len(texts)


def _parts(values: Collection[str]) -> frozenset[str]:
    """Return the values without texts that are also there in parts. Clients separate the values of a list by commas."""
    return frozenset(value for value in values if "," not in value or not {*value.split(",")} <= {*values})


async def _absent(
    queries: RowQueries[Any], column: RowColumn, values: Collection[str], count: Counts, now: float
) -> list[str]:
    """Return the values that no row has, in order. Beyond the counted groups, each value needs a query of its own."""
    missing = sorted(value for value in values if value not in count.groups)
    if count.distinct <= len(count.groups):
        return missing
    filters = {value: (Equality(column.name, frozenset((value,))),) for value in missing}
    return [value for value in missing if not (await queries.page(Query(now, filters[value], limit=0))).total]


def close_values(value: str, known: Iterable[str]) -> list[str]:
    """Return at most 3 known values that resemble a value regardless of case, the closest first, as they are stored."""
    by_lower, pairs = {each.lower(): each for each in known}, _pairs(value.lower())
    candidates = nlargest(MAX_COMPARED, by_lower, key=lambda lower: len(pairs & _pairs(lower)))
    return [by_lower[lower] for lower in get_close_matches(value.lower(), candidates)]


@lru_cache(maxsize=5_000)
def _pairs(text: str) -> frozenset[str]:
    """Return the pairs of adjacent characters in a text. Its start and its end count as characters."""
    framed = f"\0{text}\0"
    return frozenset(framed[place : place + 2] for place in range(len(framed) - 1))


def unknown_value(field: str, kind: str, value: str, known: Collection[str]) -> FieldError:
    """Describe a value that is not in a closed set.

    Args:
        field: The name of the parameter.
        kind: What the value names, in the singular.
        value: The value.
        known: The known values, in order.
    """
    return {"field": field, "reason": f"names {value!r}, and there is no such {kind}; known: {_listed(known)}"}


def _listed(known: Collection[str]) -> str:
    return (", ".join(known) if len(known) <= MAX_LISTED_VALUES else f"{len(known)} others") or "none"
