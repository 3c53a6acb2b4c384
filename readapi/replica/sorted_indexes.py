"""Orders of the replica's rows: from bounds to places and from places to rows, without looking at the others."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from readapi.replica.columns import Codes, Columns, Mask, Numbers, Ranks, Slots
from readapi.replica.lazy_index import Derived

Number = TypeVar("Number", bound="np.generic[Any]")


class Ordered(Derived):
    """Rows in some order, the lowest first, and each row's place in it."""

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self._columns = columns
        self._ranks: Ranks | None = None
        self.slots: Slots = np.zeros(0, np.int64)

    @property
    def ranks(self) -> Ranks:
        """Slot -> place in the order, for the rows that are in it."""
        if self._ranks is None:
            self._ranks = np.empty(self._columns.capacity, np.int32)
            self._ranks[self.slots] = np.arange(len(self.slots), dtype=np.int32)
        return self._ranks

    @property
    def nbytes(self) -> int:
        """The memory it takes."""
        return self.slots.nbytes + (0 if self._ranks is None else self._ranks.nbytes)

    def place(self, value: float | str, key: str) -> int:
        """How many rows are below (value, key), whether there is such a row or not."""
        raise NotImplementedError


class Order(Ordered):
    """The active rows ordered by (group, number, key), the lowest first.

    There is a group for each text of the column ``text``; without one, all rows are one group.
    """

    def __init__(self, columns: Columns, number: str, text: str | None = None) -> None:
        super().__init__(columns)
        self._number = number
        self._text = text
        self.values: Numbers = np.zeros(0)
        self._groups: NDArray[np.int32] = np.zeros(0, np.int32)

    def groups(self, codes: list[int]) -> list[tuple[int, int]]:
        """The places of some groups: from, to."""
        wanted = np.array(codes, np.int32)
        starts, ends = self._groups.searchsorted(wanted), self._groups.searchsorted(wanted, "right")
        return list(zip(starts.tolist(), ends.tolist(), strict=True))

    def between(self, lowest: float, highest: float, low: int, high: int) -> tuple[int, int]:
        """Of the places from ``low`` to ``high``, of one group, those of numbers between two bounds, both included."""
        values = self.values[low:high]
        start = int(values.searchsorted(lowest))
        return low + start, high if highest == np.inf else low + max(start, int(values.searchsorted(highest, "right")))

    def place(self, value: float | str, key: str) -> int:
        """How many rows are below (value, key), whether there is such a row or not; for an order without groups."""
        assert isinstance(value, float)
        return self._place(value, key, 0, len(self.slots))

    @property
    def nbytes(self) -> int:
        """The memory it takes."""
        return super().nbytes + self.values.nbytes + self._groups.nbytes

    def _members(self) -> Mask:
        return self._columns.active

    def _make(self) -> int:
        slots = self._columns.in_order_of_keys()
        slots = slots[self._members()[slots]]
        criteria: list[Numbers | Codes] = [self._columns.numbers[self._number][slots]]
        if self._text:
            criteria.append(self._columns.codes[self._text][slots])
        slots = slots[np.lexsort(criteria)]
        self._set(slots, self._columns.numbers[self._number][slots], self._codes(slots))
        return len(slots)

    def _move(self, changed: set[int]) -> int:
        moved = np.fromiter(changed, np.int64, len(changed))
        gone = places_of(moved, self.slots, self._columns.capacity)
        self._set(without(self.slots, gone), without(self.values, gone), without(self._groups, gone))
        added = sorted((self._place_of(slot), *self._sort_key(slot), slot) for slot in self._active(moved))
        places, slots = [one[0] for one in added], np.array([one[-1] for one in added], np.int64)
        self._set(
            with_added(self.slots, places, slots),
            with_added(self.values, places, self._columns.numbers[self._number][slots]),
            with_added(self._groups, places, self._codes(slots)),
        )
        return len(self.slots)

    def _active(self, slots: Slots) -> list[int]:
        active: list[int] = slots[self._members()[slots]].tolist()
        return active

    def _set(self, slots: Slots, values: Numbers, groups: NDArray[np.int32]) -> None:
        self.slots, self.values, self._groups, self._ranks = slots, values, groups, None

    def _codes(self, slots: Slots) -> NDArray[np.int32]:
        return self._columns.codes[self._text][slots].astype(np.int32) if self._text else self._groups

    def _sort_key(self, slot: int) -> tuple[int, float, str]:
        """Group, number and key."""
        group = int(self._columns.codes[self._text][slot]) if self._text else 0
        return group, float(self._columns.numbers[self._number][slot]), self._columns.keys[slot]

    def _place_of(self, slot: int) -> int:
        """The place that a row belongs at."""
        group, number, key = self._sort_key(slot)
        return self._place(number, key, *(self.groups([group])[0] if self._text else (0, len(self.slots))))

    def _place(self, value: float, key: str, low: int, high: int) -> int:
        low, high = self.between(value, value, low, high)
        keys = self._columns.keys
        return low + bisect_left(self.slots[low:high], key, key=lambda slot: keys[slot])


class ExpiryOrder(Order):
    """The rows by the moment at which they elapse; those that have elapsed are in it too."""

    def _members(self) -> Mask:
        return self._columns.present


class TextOrder(Ordered):
    """The active rows ordered by (text, key), the lowest first."""

    def __init__(self, columns: Columns, text: str) -> None:
        super().__init__(columns)
        self._text = text

    def place(self, value: float | str, key: str) -> int:
        """How many rows are below (value, key), whether there is such a row or not."""
        return bisect_left(self.slots, (value, key), key=self._sort_key)

    def _make(self) -> int:
        slots = self._columns.in_order_of_keys()
        slots = slots[self._columns.active[slots]]
        places = alphabetical_places(self._columns.dictionaries[self._text].texts)
        self.slots = slots[np.argsort(places[self._columns.codes[self._text][slots]], kind="stable")]
        self._ranks = None
        return len(slots)

    def _move(self, changed: set[int]) -> int:
        moved = np.fromiter(changed, np.int64, len(changed))
        self.slots = without(self.slots, places_of(moved, self.slots, self._columns.capacity))
        added = sorted(moved[self._columns.active[moved]].tolist(), key=self._sort_key)
        places = [self.place(*self._sort_key(slot)) for slot in added]
        self.slots = with_added(self.slots, places, np.array(added, np.int64))
        self._ranks = None
        return len(self.slots)

    def _sort_key(self, slot: int) -> tuple[str, str]:
        code = self._columns.codes[self._text][slot]
        return self._columns.dictionaries[self._text].texts[code], self._columns.keys[slot]


def places_of(some: Slots, slots: Slots, capacity: int) -> list[int]:
    """The places at which ``some`` stand among ``slots``, the first first."""
    wanted = np.zeros(capacity, np.bool_)
    wanted[some] = True
    places: list[int] = np.flatnonzero(wanted.take(slots)).tolist()
    return places


def without(array: NDArray[Number], places: Sequence[int]) -> NDArray[Number]:
    """What is left when these places, the first first, are cut out: few long copies."""
    if not places or not len(array):
        return array
    edges = [-1, *places, len(array)]
    return np.concatenate([array[start + 1 : end] for start, end in pairwise(edges)])


def with_added(array: NDArray[Number], places: Sequence[int], added: NDArray[Number]) -> NDArray[Number]:
    """``added`` put in, each before the place it belongs at, the first first."""
    if not places or not len(added):
        return array
    edges = [0, *places, len(array)]
    parts = [array[start:end] for start, end in pairwise(edges)]
    return np.concatenate([*chain.from_iterable(zip(parts, added[:, None], strict=False)), parts[-1]])


def alphabetical_places(texts: Sequence[str]) -> NDArray[np.int32]:
    """Code -> place of its text among all texts."""
    places = np.empty(len(texts), np.int32)
    places[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts), dtype=np.int32)
    return places
