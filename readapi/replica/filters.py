"""The filters of a query on a replica.

Each filter offers three operations of different cost, between which the scan chooses:

- ``count``: the number of rows that pass, by bisection in a sorted index, in logarithmic time.
- ``test``: which of some given rows pass, in time proportional to these rows.
- ``mark``: which of all rows pass, in one vectorized pass over a column.
"""

from collections.abc import Iterable
from math import inf

import numpy as np

from projections.columns import LOWEST, LOWEST_NUMBER
from projections.queries import Equality, Query, Range
from readapi.replica.arrays import Codes, Mask, Slots
from readapi.replica.columns import Columns
from readapi.replica.indexes import Indexes
from readapi.replica.sorted_indexes import NumberIndex

MAX_COMPARED_CODES = 8
"""Highest number of codes that are compared one by one. More codes use a lookup table."""

MAX_COUNTED_VALUES = 200
"""Highest number of values for which rows are counted. To count costs more than it saves for more values."""


class RangeFilter:
    """A filter that passes rows whose number lies between two bounds, both included, and maybe rows without a number.

    Args:
        indexes: The indexes of the replica.
        columns: The rows.
        bounds: The column of the numbers, and the bounds.
    """

    def __init__(self, indexes: Indexes, columns: Columns, bounds: Range) -> None:
        self._indexes = indexes
        self._columns = columns
        self.number = bounds.column
        self._lowest, self._highest = max(bounds.lowest, LOWEST_NUMBER), bounds.highest
        self.missing_matches = bounds.missing_matches
        self._rank_range: tuple[int, int] | None = None

    @property
    def index(self) -> NumberIndex:
        """The index of the number."""
        return self._indexes.by_number(self.number)

    @property
    def rank_range(self) -> tuple[int, int]:
        """The rank range (start, end) of the rows whose number passes, in the index of the number."""
        if self._rank_range is None:
            index = self.index
            self._rank_range = index.between(self._lowest, self._highest, 0, len(index.slots))
        return self._rank_range

    @property
    def _missing_end(self) -> int:
        """The rank behind the rows without a number, in the index of the number. 0 if they do not pass."""
        index = self.index
        return index.between(LOWEST, LOWEST, 0, len(index.slots))[1] if self.missing_matches else 0

    def count(self) -> int:
        """Return the number of rows that pass."""
        start, end = self.rank_range
        return end - start + self._missing_end if self.missing_matches else end - start

    def rows(self) -> Slots:
        """Return the rows that pass."""
        start, end = self.rank_range
        rows = self.index.slots[start:end]
        return np.concatenate((self.index.slots[: self._missing_end], rows)) if self.missing_matches else rows

    def test(self, slots: Slots) -> Mask:
        """Test whether each of the rows passes."""
        numbers = self._columns.numbers[self.number].take(slots)
        passes = numbers >= self._lowest
        if self._highest != inf:
            passes &= numbers <= self._highest
        return passes | (numbers == LOWEST) if self.missing_matches else passes

    def mark(self, out: Mask) -> Mask:
        """Set each element of ``out`` to whether the row in the slot passes. Undefined without an active row."""
        marks = self._indexes.quantized(self.number).mark(self._lowest, self._highest, self.rank_range, out)
        if self.missing_matches:
            marks[self.index.slots[: self._missing_end]] = True
        return marks


class ValueFilter:
    """A filter that passes rows with one of some values.

    ``count``, ``runs`` and ``rows`` also apply the bounds on the column ``order`` of the projection, because the index
    by (value, order) gives them this for free. ``test`` and ``mark`` do not.

    Args:
        indexes: The indexes of the replica.
        columns: The rows.
        equality: The column of the values, and the groups of values that pass.
        order: The bounds on the column ``order``. None: there are no bounds.
    """

    def __init__(self, indexes: Indexes, columns: Columns, equality: Equality, order: Range | None) -> None:
        self._indexes = indexes
        self._columns = columns
        self._column = equality.column
        self._codes = columns.dictionaries[equality.column].codes_of(equality.values)
        self._lowest = max(order.lowest, LOWEST_NUMBER) if order else LOWEST
        self._highest = order.highest if order else inf
        self.rank_ranges: list[tuple[int, int]] = []
        """Rank range (start, end) of the rows that pass, for each code. Set by ``count``."""

    def count(self) -> int:
        """Return the number of rows that pass."""
        self._index = index = self._indexes.by_group(self._column)
        self.rank_ranges = [index.between(self._lowest, self._highest, *index.group(code)) for code in self._codes]
        return sum([end - start for start, end in self.rank_ranges])

    def runs(self) -> list[Slots]:
        """Return the rows that pass: one run for each code, in the order of ``order``. Call ``count`` before."""
        return [self._index.slots[start:end] for start, end in self.rank_ranges if start < end]

    def rows(self) -> Slots:
        """Return the rows that pass. Call ``count`` before."""
        runs = self.runs()
        return runs[0] if len(runs) == 1 else np.concatenate(runs)

    def test(self, slots: Slots) -> Mask:
        """Test whether each of the rows has one of the values."""
        codes = self._columns.codes[self._column].take(slots)
        return self._has_value(codes, np.empty(len(codes), np.bool_))

    def mark(self, out: Mask) -> Mask:
        """Set each element of ``out`` to whether the row in the slot has one of the values."""
        return self._has_value(self._columns.codes[self._column][: len(out)], out)

    def _has_value(self, codes: Codes, out: Mask) -> Mask:
        if not self._codes or len(self._codes) > MAX_COMPARED_CODES:
            passes = np.zeros(len(self._columns.dictionaries[self._column].values), np.bool_)
            passes[self._codes] = True
            return passes.take(codes, out=out)
        first, *others = self._codes
        np.equal(codes, first, out=out)
        for code in others:
            out |= codes == code
        return out


class KeyFilter:
    """A filter that passes rows with one of some keys.

    Args:
        columns: The rows.
        keys: The keys.
    """

    def __init__(self, columns: Columns, keys: Iterable[str]) -> None:
        slots = columns.slots(keys)
        self._passes: Mask = np.zeros(columns.capacity, np.bool_)
        self._passes[slots] = True
        self._rows = slots[columns.active[slots]]

    def count(self) -> int:
        """Return the number of rows that pass."""
        return len(self._rows)

    def rows(self) -> Slots:
        """Return the rows that pass."""
        return self._rows

    def test(self, slots: Slots) -> Mask:
        """Test whether each of the rows has one of the keys."""
        return self._passes.take(slots)

    def mark(self, out: Mask) -> Mask:
        """Set each element of ``out`` to whether the row in the slot has one of the keys."""
        out[:] = self._passes[: len(out)]
        return out


Filter = RangeFilter | ValueFilter | KeyFilter


class FilterPlan:
    """The filters of a query, in the order of their use.

    Args:
        query: The query.
        key: The name of the key.
        indexes: The indexes of the replica.
        columns: The rows.
    """

    def __init__(self, query: Query, key: str, indexes: Indexes, columns: Columns) -> None:
        ranges: list[Filter] = []
        bounds: Range | None = None
        values: list[Equality] = []
        for each in query.filters:
            if isinstance(each, Equality):
                values.append(each)
            elif each.column == indexes.order and not each.missing_matches:
                bounds = each
            else:
                ranges.append(RangeFilter(indexes, columns, each))
        self.counted: list[Filter] = []
        """The filters among which the scan looks for the narrowest."""
        self.uncounted: list[Filter] = []
        """The filters whose rows are not worth counting."""
        for equality in values:
            if equality.column == key:
                self.counted.append(KeyFilter(columns, equality.values))
            else:
                is_counted = len(equality.values) <= MAX_COUNTED_VALUES
                (self.counted if is_counted else self.uncounted).append(ValueFilter(indexes, columns, equality, bounds))
        self._order = RangeFilter(indexes, columns, bounds) if bounds else None
        if self._order:
            # Not worth counting beside filters by value, which include the bounds.
            (self.uncounted if self.counted else self.counted).append(self._order)
        self.counted += ranges
        self.all = self.counted + self.uncounted
        """All filters."""

    def remaining(self, narrowest: Filter | None) -> list[Filter]:
        """Return the filters that the rows of the narrowest filter must still be tested against."""
        included = self._order if isinstance(narrowest, ValueFilter) else None
        return [other for other in self.all if other is not narrowest and other is not included]


def passing(slots: Slots, filters: list[Filter]) -> Slots:
    """Return the rows that pass all filters."""
    for each in filters:
        slots = slots[each.test(slots)]
    return slots
