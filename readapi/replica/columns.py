"""The columns of a replica: the rows of a read model as NumPy arrays, one array per attribute.

A column store answers a filter with one vectorized comparison over contiguous numbers instead of a loop over objects.
Numbers are stored as they are. Texts and truth values are dictionary-encoded.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projections.base import ENDS_INDEX, Count
from projections.queries import AnyProjection, ResultRow
from projections.views import View
from readapi.replica.arrays import Codes, Mask, Numbers, Slots
from readapi.replica.dictionary import Dictionary

NO_END = float("inf")
"""Number of a row that does not end, in the column ``ENDS_INDEX``."""

KEY_ORDER = "@key"
"""The column with the same number for every row. An index of this column is ordered by key."""

ROW_OVERHEAD_BYTES = 230
"""Approximate bytes of a row's Python objects (key, payload, prefix, slot) besides their content."""

MAX_VALUES_PER_ROW = 2
"""Values of a dictionary for each row, above which values that no row has any more are removed."""

GROWTH_FRACTION = 8
"""Full columns grow by 1 / ``GROWTH_FRACTION``. At most an eighth of their memory is therefore unused."""

_INITIAL_CAPACITY = 1_024

_NEXT_CODE_TYPE = {1: np.int16, 2: np.int32}
"""Bytes per code -> the next wider type. Codes are as narrow as possible, because a scan reads all of them."""

_HIGHEST_CODES = {1: 2**8 - 1, 2: 2**15 - 1, 4: 2**31 - 1}
"""Bytes per code -> the highest code."""


def encoded_view(projection: AnyProjection) -> View | None:
    """Return the view that is encoded in advance: the first view, if only its last members change with time."""
    view = next(iter(projection.views.values()), None)
    return view if view and view.has_moving_end else None


def summary_column(count: str) -> str:
    """Return the name of the column with the groups of a count that is not by the values of a column."""
    return f"@{count}"


def _number_columns(projection: AnyProjection) -> Iterator[tuple[str, Callable[[Any], float]]]:
    """Yield the columns that are filtered, sorted, or shown as time spans, each with the function of the number."""
    view = encoded_view(projection)
    moments = {member.column for member in view.moving.values()} - {projection.ends} if view else set()
    for name, column in projection.columns.items():
        if column.has_scores or name == projection.order or name in moments:
            yield name, column.score_of()
    if projection.ends:
        yield ENDS_INDEX, _end_of(projection.ends)


def _end_of(ends: str) -> Callable[[Any], float]:
    get = attrgetter(ends)
    return lambda row: NO_END if (moment := get(row)) is None else moment


def _coded_columns(projection: AnyProjection) -> Iterator[tuple[str, Callable[[Any], Any], Dictionary]]:
    """Yield the columns that are filtered by value, sorted by text or counted, each with the function of the value."""
    for name, column in projection.columns.items():
        if column.equality or column.has_sorted_texts:
            yield name, attrgetter(name), Dictionary(column.group)
    for count in projection.summaries:
        if count.by or count.where:
            yield summary_column(count.name), _group_of(count), Dictionary(str)


def _group_of(count: Count) -> Callable[[Any], str | None]:
    _, by, where = count
    return lambda row: None if where and not where(row) else by(row) if by else ""


class Columns:
    """All rows of a replica in columns.

    A slot is a row's index in every column. The slot of a removed row is used again. ``put`` and ``remove`` take
    amortized constant time: columns grow by an eighth when they are full.

    Args:
        projection: The projection of the read model.
    """

    def __init__(self, projection: AnyProjection) -> None:
        self._scores = dict(_number_columns(projection))
        self.numbers: dict[str, Numbers] = {name: np.zeros(0) for name in (*self._scores, KEY_ORDER)}
        """The numbers of each column. The number of a missing value is ``LOWEST``, or ``NO_END``."""
        self._values: dict[str, Callable[[Any], Any]] = {}
        self.dictionaries: dict[str, Dictionary] = {}
        for name, value_of, dictionary in _coded_columns(projection):
            self._values[name], self.dictionaries[name] = value_of, dictionary
        self.codes: dict[str, Codes] = {name: np.zeros(0, np.uint8) for name in self._values}
        self.present: Mask = np.zeros(0, np.bool_)
        """Whether the slot holds a row."""
        self.active: Mask = np.zeros(0, np.bool_)
        """Whether the slot holds a row that has not expired."""
        self.keys: list[str] = []
        self.logs: list[str] = []
        self.payloads: list[bytes] = []
        """Encoded attributes of the row that no column has. See ``row_codec``."""
        self.prefixes: list[bytes] = []
        """Start of the row's JSON document in the encoded view, up to the values that change with time."""
        self.used_slots = 0
        """Number of leading slots that hold a row or have held one."""
        self._bytes = 0
        """Bytes of all payloads and prefixes."""
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._slots_by_key: Slots | None = None
        self._grow(_INITIAL_CAPACITY)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def capacity(self) -> int:
        """The number of slots."""
        return len(self.keys)

    def slot(self, key: str) -> int | None:
        """Return the slot of a row, or None if there is no such row."""
        return self._slots.get(key)

    def slots(self, keys: Iterable[str]) -> Slots:
        """Return the slots of the rows with the keys, in the order of ``keys``. Keys without a row have none."""
        slots = [slot for slot in map(self._slots.get, keys) if slot is not None]
        return np.array(slots, np.int64)

    def put(self, result: ResultRow[Any], payload: bytes, prefix: bytes) -> int:
        """Add or replace a row. The caller sets ``active`` afterwards.

        Returns:
            The slot of the row.
        """
        row, log, _, key = result
        slot = self._slots.get(key)
        if slot is None:
            slot = self._take_slot(key)
        for name, score_of in self._scores.items():
            self.numbers[name][slot] = score_of(row)
        for name, value_of in self._values.items():
            code = self.dictionaries[name].code(value_of(row))
            codes = self.codes[name]
            if code > _HIGHEST_CODES[codes.itemsize]:
                codes = self.codes[name] = codes.astype(_NEXT_CODE_TYPE[codes.itemsize])
            codes[slot] = code
        self.logs[slot] = log
        self._set_encoded(slot, payload, prefix)
        return slot

    def remove(self, key: str) -> int | None:
        """Remove a row. Return its former slot, or None if there was no such row."""
        slot = self._slots.pop(key, None)
        if slot is not None:
            self.present[slot] = self.active[slot] = False
            self._set_encoded(slot, b"", b"")
            self.keys[slot] = self.logs[slot] = ""
            self._free.append(slot)
            self._slots_by_key = None
        return slot

    def value(self, name: str, slot: int) -> Any:
        """Return the value of a row in a dictionary-encoded column."""
        return self.dictionaries[name].values[self.codes[name].item(slot)]

    def remove_unused_values(self) -> list[str]:
        """Remove the values that no row has any more from dictionaries that mostly consist of them.

        Returns:
            The columns whose codes have changed.
        """
        bound = MAX_VALUES_PER_ROW * max(len(self), _INITIAL_CAPACITY)
        names = [name for name, dictionary in self.dictionaries.items() if len(dictionary.values) > bound]
        for name in names:
            used = np.flatnonzero(self.present)
            dictionary, codes = self.dictionaries[name].without_unused(self.codes[name][used])
            self.dictionaries[name], self.codes[name] = dictionary, np.zeros_like(self.codes[name])
            self.codes[name][used] = codes
        return names

    def slots_by_key(self) -> Slots:
        """Return the slots of all rows, ordered by key. Cached until a row is added or removed."""
        if self._slots_by_key is None:
            self._slots_by_key = np.array([self._slots[key] for key in sorted(self._slots)], np.int64)
        return self._slots_by_key

    @property
    def nbytes(self) -> int:
        """Approximate memory of all rows, in bytes, with the overhead of Python objects."""
        arrays: list[NDArray[Any]] = [*self.numbers.values(), *self.codes.values(), self.present, self.active]
        lists: list[Any] = [self._slots, self._free, self.keys, self.logs, self.payloads, self.prefixes]
        dictionaries = sum(dictionary.nbytes for dictionary in self.dictionaries.values())
        objects = self._bytes + ROW_OVERHEAD_BYTES * len(self) + dictionaries
        return sum(array.nbytes for array in arrays) + sum(map(sys.getsizeof, lists)) + objects

    def _set_encoded(self, slot: int, payload: bytes, prefix: bytes) -> None:
        self._bytes += len(payload) + len(prefix) - len(self.payloads[slot]) - len(self.prefixes[slot])
        self.payloads[slot] = payload
        self.prefixes[slot] = prefix

    def _take_slot(self, key: str) -> int:
        if not self._free:
            self._grow(self.capacity + self.capacity // GROWTH_FRACTION)
        slot = self._free.pop()
        self.used_slots = max(self.used_slots, slot + 1)
        self._slots[key] = slot
        self.keys[slot] = key
        self.present[slot] = True
        self._slots_by_key = None
        return slot

    def _grow(self, capacity: int) -> None:
        added = capacity - self.capacity
        for columns in (self.numbers, self.codes):
            for name, column in columns.items():
                columns[name] = np.concatenate((column, np.zeros(added, column.dtype)))
        self.present = np.concatenate((self.present, np.zeros(added, np.bool_)))
        self.active = np.concatenate((self.active, np.zeros(added, np.bool_)))
        # In descending order: pop() takes the lowest slot first, which keeps the used slots together.
        self._free.extend(range(capacity - 1, self.capacity - 1, -1))
        for texts in (self.keys, self.logs):
            texts.extend([""] * added)
        for encoded in (self.payloads, self.prefixes):
            encoded.extend([b""] * added)
