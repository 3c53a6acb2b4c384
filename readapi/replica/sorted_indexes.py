"""Sorted indexes of the replica: the slots of rows in the order of a column.

Bisection finds the range of rows between two bounds in logarithmic time, without a look at the other rows. The rank of
a row is its position in the order: rows are put in order by sorting their ranks, which are small integers.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import chain, pairwise
from math import inf
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from readapi.replica.arrays import Codes, Mask, Numbers, Ranks, Slots
from readapi.replica.columns import Columns
from readapi.replica.dictionary import text_key
from readapi.replica.lazy_index import LazyIndex

FEW_ROWS = 32
"""Number of rows up to which a bisection in Python is faster than NumPy's."""

Element = TypeVar("Element", bound="np.generic[Any]")


class SortedIndex(LazyIndex):
    """Slots of rows in ascending order, and the rank of each row."""

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self._columns = columns
        self._ranks: Ranks | None = None
        self.slots: Slots = np.zeros(0, np.int64)
        """Rank -> slot."""

    @property
    def ranks(self) -> Ranks:
        """Slot -> rank, for the rows in the index. Computed when needed after a change, in linear time."""
        if self._ranks is None:
            self._ranks = np.empty(self._columns.capacity, np.int32)
            self._ranks[self.slots] = np.arange(len(self.slots), dtype=np.int32)
        return self._ranks

    @property
    def nbytes(self) -> int:
        """The memory of the index, in bytes."""
        return self.slots.nbytes + (0 if self._ranks is None else self._ranks.nbytes)

    def rank_of(self, value: float | str | None, key: str) -> int:
        """Return the number of rows below (value, key), whether or not such a row exists. Takes logarithmic time."""
        raise NotImplementedError


class NumberIndex(SortedIndex):
    """The active rows ordered by (group, number, key).

    A rebuild sorts all rows. An update removes the changed rows and inserts them at their new ranks, each found by
    bisection, and copies the arrays once.

    Args:
        columns: The rows.
        number: Column of the numbers.
        group: Dictionary-encoded column of the groups. None for a single group of all rows.
    """

    def __init__(self, columns: Columns, number: str, group: str | None = None) -> None:
        super().__init__(columns)
        self._number = number
        self._group = group
        self.values: Numbers = np.zeros(0)
        """Rank -> number."""
        self._groups: NDArray[np.int32] = np.zeros(0, np.int32)
        """Rank -> code of the group. Empty without groups."""
        self._group_ranges: dict[int, tuple[int, int]] = {}
        """Code -> rank range of the group, for the groups that were looked up."""

    def group(self, code: int) -> tuple[int, int]:
        """Return the rank range (start, end) of a group. It is found once for each state of the index."""
        found = self._group_ranges.get(code)
        if found is None:
            group = np.int32(code)
            found = int(self._groups.searchsorted(group)), int(self._groups.searchsorted(group, "right"))
            self._group_ranges[code] = found
        return found

    def between(self, lowest: float, highest: float, start: int, end: int) -> tuple[int, int]:
        """Return the rank range of the numbers between two bounds, both included, within a rank range of one group."""
        if end - start <= FEW_ROWS:
            low = bisect_left(self.values, lowest, start, end)
            return low, end if highest == inf else bisect_right(self.values, highest, low, end)
        values = self.values[start:end]
        low = int(values.searchsorted(lowest))
        return start + low, end if highest == inf else start + max(low, int(values.searchsorted(highest, "right")))

    def rank_of(self, value: float | str | None, key: str) -> int:
        """Return the number of rows below (value, key). Only for an index without groups."""
        # Rows in the order of their keys all have the number 0.
        return self._rank_of(float(value or 0), key, 0, len(self.slots))

    @property
    def nbytes(self) -> int:
        """The memory of the index, in bytes."""
        return super().nbytes + self.values.nbytes + self._groups.nbytes

    def _indexed(self) -> Mask:
        """Return the mask of the rows that belong to the index."""
        return self._columns.active

    def _rebuild(self) -> int:
        slots = self._columns.slots_by_key()
        slots = slots[self._indexed()[slots]]
        sort_keys: list[Numbers | Codes] = [self._columns.numbers[self._number][slots]]
        if self._group:
            sort_keys.append(self._columns.codes[self._group][slots])
        # lexsort is stable, so that rows with equal sort keys stay ordered by key.
        slots = slots[np.lexsort(sort_keys)]
        self._set(slots, self._columns.numbers[self._number][slots], self._codes(slots))
        return len(slots)

    def _update(self, changed: set[int]) -> int:
        moved = np.fromiter(changed, np.int64, len(changed))
        removed = ranks_of(moved, self.slots, self._columns.capacity)
        self._set(without(self.slots, removed), without(self.values, removed), without(self._groups, removed))
        inserted = sorted((self._new_rank(slot), *self._sort_key(slot), slot) for slot in self._select(moved))
        ranks, slots = [item[0] for item in inserted], np.array([item[-1] for item in inserted], np.int64)
        self._set(
            with_inserted(self.slots, ranks, slots),
            with_inserted(self.values, ranks, self._columns.numbers[self._number][slots]),
            with_inserted(self._groups, ranks, self._codes(slots)),
        )
        return len(self.slots)

    def _select(self, slots: Slots) -> list[int]:
        selected: list[int] = slots[self._indexed()[slots]].tolist()
        return selected

    def _set(self, slots: Slots, values: Numbers, groups: NDArray[np.int32]) -> None:
        self.slots, self.values, self._groups, self._ranks = slots, values, groups, None
        self._group_ranges = {}

    def _codes(self, slots: Slots) -> NDArray[np.int32]:
        return self._columns.codes[self._group][slots].astype(np.int32) if self._group else self._groups

    def _sort_key(self, slot: int) -> tuple[int, float, str]:
        group = int(self._columns.codes[self._group][slot]) if self._group else 0
        return group, float(self._columns.numbers[self._number][slot]), self._columns.keys[slot]

    def _new_rank(self, slot: int) -> int:
        """Return the rank at which a row must be inserted."""
        group, number, key = self._sort_key(slot)
        return self._rank_of(number, key, *(self.group(group) if self._group else (0, len(self.slots))))

    def _rank_of(self, value: float, key: str, start: int, end: int) -> int:
        start, end = self.between(value, value, start, end)
        keys = self._columns.keys
        return start + bisect_left(self.slots[start:end], key, key=lambda slot: keys[slot])


class EndsIndex(NumberIndex):
    """The rows ordered by the moment at which they end, ended rows included."""

    def _indexed(self) -> Mask:
        return self._columns.present


class TextIndex(SortedIndex):
    """The active rows ordered by (text, key). A missing text is the lowest.

    Args:
        columns: The rows.
        text: Column of the texts.
    """

    def __init__(self, columns: Columns, text: str) -> None:
        super().__init__(columns)
        self._text = text

    def rank_of(self, value: float | str | None, key: str) -> int:
        """Return the number of rows below (value, key), whether or not such a row exists."""
        assert not isinstance(value, float | int)
        return bisect_left(self.slots, (text_key(value), key), key=self._sort_key)

    def _rebuild(self) -> int:
        slots = self._columns.slots_by_key()
        slots = slots[self._columns.active[slots]]
        text_ranks = self._columns.dictionaries[self._text].ranks()
        self.slots = slots[np.argsort(text_ranks[self._columns.codes[self._text][slots]], kind="stable")]
        self._ranks = None
        return len(slots)

    def _update(self, changed: set[int]) -> int:
        moved = np.fromiter(changed, np.int64, len(changed))
        self.slots = without(self.slots, ranks_of(moved, self.slots, self._columns.capacity))
        inserted = sorted(moved[self._columns.active[moved]].tolist(), key=self._sort_key)
        ranks = [bisect_left(self.slots, self._sort_key(slot), key=self._sort_key) for slot in inserted]
        self.slots = with_inserted(self.slots, ranks, np.array(inserted, np.int64))
        self._ranks = None
        return len(self.slots)

    def _sort_key(self, slot: int) -> tuple[tuple[bool, str], str]:
        return text_key(self._columns.value(self._text, slot)), self._columns.keys[slot]


def ranks_of(selected: Slots, slots: Slots, capacity: int) -> list[int]:
    """Return the ascending ranks at which ``slots`` has one of the ``selected`` slots.

    Args:
        selected: The slots to find.
        slots: Rank -> slot.
        capacity: A number above every slot.
    """
    is_selected = np.zeros(capacity, np.bool_)
    is_selected[selected] = True
    ranks: list[int] = np.flatnonzero(is_selected.take(slots)).tolist()
    return ranks


def without(array: NDArray[Element], ranks: Sequence[int]) -> NDArray[Element]:
    """Return an array without the elements at some ascending ranks. Copies the long ranges between them."""
    if not ranks or not len(array):
        return array
    edges = [-1, *ranks, len(array)]
    return np.concatenate([array[start + 1 : end] for start, end in pairwise(edges)])


def with_inserted(array: NDArray[Element], ranks: Sequence[int], inserted: NDArray[Element]) -> NDArray[Element]:
    """Return an array with each inserted element before its rank, the ranks ascending."""
    if not ranks or not len(inserted):
        return array
    edges = [0, *ranks, len(array)]
    parts = [array[start:end] for start, end in pairwise(edges)]
    return np.concatenate([*chain.from_iterable(zip(parts, inserted[:, None], strict=False)), parts[-1]])
