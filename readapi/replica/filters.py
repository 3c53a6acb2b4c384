"""The filters of a scan: how many rows each lets pass, which, and whether it lets given rows pass."""

import numpy as np

from projections.base import LOWEST_VALUE
from projections.queries import PatternQuery
from readapi.replica.columns import Codes, Columns, Mask, Slots
from readapi.replica.indexes import Indexes

INFINITY = float("inf")

FEW_TEXTS = 8
"""So many texts are compared one after the other."""

MANY_TEXTS = 200
"""Of so many, as the symbols of a universe are, it is not worth the time to count the rows of each."""


class ByNumber:
    """Lets rows pass whose number lies between two bounds, both included."""

    def __init__(self, indexes: Indexes, columns: Columns, number: str, lowest: float, highest: float) -> None:
        self._indexes = indexes
        self._columns = columns
        self.number = number
        self._lowest = lowest
        self._highest = highest
        self.places = (0, 0)
        """Those in its order of the rows that pass: from, to; once they are counted."""

    def count(self) -> int:
        """How many rows pass."""
        self.order = self._indexes.order(self.number)
        low, high = self.places = self.order.between(self._lowest, self._highest, 0, len(self.order.slots))
        return high - low

    def rows(self) -> Slots:
        """The rows that pass."""
        low, high = self.places
        return self.order.slots[low:high]

    def keep(self, slots: Slots) -> Mask:
        """Which of these rows pass."""
        numbers = self._columns.numbers[self.number].take(slots)
        kept = numbers >= self._lowest
        return kept if self._highest == INFINITY else kept & (numbers <= self._highest)

    def mark(self, out: Mask) -> Mask:
        """Set ``out``, for each slot with an active row that it has room for, to whether it passes."""
        return self._indexes.steps(self.number).mark(self._lowest, self._highest, out)


class ByText:
    """Lets rows pass that have one of some texts; among ``runs``, those of a confidence of so much at least."""

    number = None

    def __init__(self, indexes: Indexes, columns: Columns, text: str, names: frozenset[str], confidence: float) -> None:
        self._indexes = indexes
        self._columns = columns
        self._text = text
        self._codes = columns.dictionaries[text].known(names)
        self._confidence = confidence
        self.places: list[tuple[int, int]] = []
        """Those in its order of the rows that pass, by text: from, to; once they are counted."""

    def count(self) -> int:
        """How many rows pass."""
        self._order = order = self._indexes.order("confidence", self._text)
        confidence = self._confidence
        self.places = [order.between(confidence, INFINITY, *group) for group in order.groups(self._codes)]
        return sum([high - low for low, high in self.places])

    def runs(self) -> list[Slots]:
        """The rows that pass, by text, each run in order of confidence."""
        return [self._order.slots[low:high] for low, high in self.places if low < high]

    def rows(self) -> Slots:
        """The rows that pass."""
        runs = self.runs()
        return runs[0] if len(runs) == 1 else np.concatenate(runs)

    def keep(self, slots: Slots) -> Mask:
        """Which of these rows have one of the texts."""
        codes = self._columns.codes[self._text].take(slots)
        return self._have(codes, np.empty(len(codes), np.bool_))

    def mark(self, out: Mask) -> Mask:
        """Set ``out``, for each slot it has room for, to whether its row has one of the texts."""
        return self._have(self._columns.codes[self._text][: len(out)], out)

    def _have(self, codes: Codes, out: Mask) -> Mask:
        if not self._codes or len(self._codes) > FEW_TEXTS:
            wanted = np.zeros(len(self._columns.dictionaries[self._text].texts), np.bool_)
            wanted[self._codes] = True
            return wanted.take(codes, out=out)
        first, *others = self._codes
        np.equal(codes, first, out=out)
        for code in others:
            out |= codes == code
        return out


Filter = ByNumber | ByText


def filters_of(query: PatternQuery, indexes: Indexes, columns: Columns) -> tuple[list[Filter], list[Filter]]:
    """The filters that ``query`` has, and those of them that are never the narrowest.

    Filters by text know how many rows of their texts have the confidence, too.
    """
    choice: list[Filter] = []
    others: list[Filter] = []
    for text, names in (
        ("symbol", query.symbols),
        ("type", query.pattern_types or None),
        ("tier", query.tiers or None),
    ):
        if names is not None:
            by_text = ByText(indexes, columns, text, names, query.confidence_min)
            (others if len(names) > MANY_TEXTS else choice).append(by_text)
    if query.confidence_min > 0 or (others and not choice):
        by_confidence = ByNumber(indexes, columns, "confidence", query.confidence_min, INFINITY)
        (others if choice else choice).append(by_confidence)
    for number, (lowest, highest) in (
        ("relative_strength", (query.rs_min, INFINITY)),
        ("relative_volume", (query.vol_min, INFINITY)),
        ("rsi", query.rsi_range or (None, INFINITY)),
    ):
        if lowest is not None:
            choice.append(ByNumber(indexes, columns, number, max(lowest, LOWEST_VALUE), highest))
    return choice, others


def checks(narrowest: Filter, filters: list[Filter]) -> list[Filter]:
    """What is left to be looked at in the rows of the narrowest filter."""
    return [
        one
        for one in filters
        if one is not narrowest and not (one.number == "confidence" and isinstance(narrowest, ByText))
    ]


def passing(slots: Slots, checks: list[Filter]) -> Slots:
    """Those of the rows that pass."""
    for one in checks:
        slots = slots[one.keep(slots)]
    return slots
