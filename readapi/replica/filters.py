"""The filters of a scan on the replica.

Each filter offers three operations of different cost, between which the scan chooses:

- ``count``: the number of rows that pass, by bisection in a sorted index, in logarithmic time.
- ``test``: which of some given rows pass, in time proportional to these rows.
- ``mark``: which of all rows pass, in one vectorized pass over a column.
"""

import numpy as np

from projections.base import LOWEST_VALUE
from projections.queries import PatternQuery
from readapi.replica.columns import Codes, Columns, Mask, Slots
from readapi.replica.indexes import Indexes

INFINITY = float("inf")

MAX_COMPARED_TEXTS = 8
"""Highest number of texts for which codes are compared one by one. More texts use a lookup table."""

MAX_COUNTED_TEXTS = 200
"""Highest number of texts for which rows are counted. To count costs more than it saves for more texts."""


class RangeFilter:
    """A filter that passes rows whose number lies between two bounds, both included.

    Args:
        indexes: The indexes of the replica.
        columns: The rows.
        number: Column of the numbers.
        lowest: The lower bound.
        highest: The upper bound. Infinity if there is none.
    """

    def __init__(self, indexes: Indexes, columns: Columns, number: str, lowest: float, highest: float) -> None:
        self._indexes = indexes
        self._columns = columns
        self.number = number
        self._lowest = lowest
        self._highest = highest
        self.rank_range = (0, 0)
        """Rank range (start, end) of the rows that pass, in the index of the number. Set by ``count``."""

    def count(self) -> int:
        """Return the number of rows that pass."""
        self.index = self._indexes.by_number(self.number)
        start, end = self.rank_range = self.index.between(self._lowest, self._highest, 0, len(self.index.slots))
        return end - start

    def rows(self) -> Slots:
        """Return the rows that pass. Call ``count`` before."""
        start, end = self.rank_range
        return self.index.slots[start:end]

    def test(self, slots: Slots) -> Mask:
        """Test whether each of the rows passes."""
        numbers = self._columns.numbers[self.number].take(slots)
        passes = numbers >= self._lowest
        return passes if self._highest == INFINITY else passes & (numbers <= self._highest)

    def mark(self, out: Mask) -> Mask:
        """Set each element of ``out`` to whether the row in the slot passes. Undefined without an active row."""
        return self._indexes.quantized(self.number).mark(self._lowest, self._highest, out)


class TextFilter:
    """A filter that passes rows with one of some texts.

    ``count``, ``runs`` and ``rows`` also apply the lower bound on confidence, because the index by (text, confidence)
    gives them this for free. ``test`` and ``mark`` do not.

    Args:
        indexes: The indexes of the replica.
        columns: The rows.
        text: Column of the texts.
        names: The texts that pass.
        confidence: Lowest confidence.
    """

    number = None

    def __init__(self, indexes: Indexes, columns: Columns, text: str, names: frozenset[str], confidence: float) -> None:
        self._indexes = indexes
        self._columns = columns
        self._text = text
        self._codes = columns.dictionaries[text].codes_of(names)
        self._confidence = confidence
        self.rank_ranges: list[tuple[int, int]] = []
        """Rank range (start, end) of the rows that pass, for each text. Set by ``count``."""

    def count(self) -> int:
        """Return the number of rows that pass."""
        self._index = index = self._indexes.by_number("confidence", self._text)
        confidence = self._confidence
        self.rank_ranges = [index.between(confidence, INFINITY, *group) for group in index.groups(self._codes)]
        return sum([end - start for start, end in self.rank_ranges])

    def runs(self) -> list[Slots]:
        """Return the rows that pass: one run for each text, ordered by confidence. Call ``count`` before."""
        return [self._index.slots[start:end] for start, end in self.rank_ranges if start < end]

    def rows(self) -> Slots:
        """Return the rows that pass. Call ``count`` before."""
        runs = self.runs()
        return runs[0] if len(runs) == 1 else np.concatenate(runs)

    def test(self, slots: Slots) -> Mask:
        """Test whether each of the rows has one of the texts."""
        codes = self._columns.codes[self._text].take(slots)
        return self._has_text(codes, np.empty(len(codes), np.bool_))

    def mark(self, out: Mask) -> Mask:
        """Set each element of ``out`` to whether the row in the slot has one of the texts."""
        return self._has_text(self._columns.codes[self._text][: len(out)], out)

    def _has_text(self, codes: Codes, out: Mask) -> Mask:
        if not self._codes or len(self._codes) > MAX_COMPARED_TEXTS:
            passes = np.zeros(len(self._columns.dictionaries[self._text].texts), np.bool_)
            passes[self._codes] = True
            return passes.take(codes, out=out)
        first, *others = self._codes
        np.equal(codes, first, out=out)
        for code in others:
            out |= codes == code
        return out


Filter = RangeFilter | TextFilter


def filters_of(query: PatternQuery, indexes: Indexes, columns: Columns) -> tuple[list[Filter], list[Filter]]:
    """Make the filters of a query.

    Returns:
        The filters among which the scan looks for the narrowest, and the filters whose rows are not worth counting.
        The bound on confidence is in the second list if another filter can be counted, because text filters include it.
    """
    counted: list[Filter] = []
    uncounted: list[Filter] = []
    for text, names in (
        ("symbol", query.symbols),
        ("type", query.pattern_types or None),
        ("tier", query.tiers or None),
    ):
        if names is not None:
            text_filter = TextFilter(indexes, columns, text, names, query.confidence_min)
            (uncounted if len(names) > MAX_COUNTED_TEXTS else counted).append(text_filter)
    if query.confidence_min > 0 or (uncounted and not counted):
        confidence = RangeFilter(indexes, columns, "confidence", query.confidence_min, INFINITY)
        (uncounted if counted else counted).append(confidence)
    for number, (lowest, highest) in (
        ("relative_strength", (query.rs_min, INFINITY)),
        ("relative_volume", (query.vol_min, INFINITY)),
        ("rsi", query.rsi_range or (None, INFINITY)),
    ):
        if lowest is not None:
            counted.append(RangeFilter(indexes, columns, number, max(lowest, LOWEST_VALUE), highest))
    return counted, uncounted


def remaining_filters(narrowest: Filter, filters: list[Filter]) -> list[Filter]:
    """Return the filters that the rows of the narrowest filter must still be tested against."""
    return [
        other
        for other in filters
        if other is not narrowest and not (other.number == "confidence" and isinstance(narrowest, TextFilter))
    ]


def passing(slots: Slots, filters: list[Filter]) -> Slots:
    """Return the rows that pass all filters."""
    for each in filters:
        slots = slots[each.test(slots)]
    return slots
