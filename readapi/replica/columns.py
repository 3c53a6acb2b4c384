"""The columns of the replica: the rows of the read model as NumPy arrays, one array per attribute.

A column store answers a filter with one vectorized comparison over contiguous numbers instead of a loop over objects.
Numbers are stored as they are. Texts are dictionary-encoded: a column holds small integer codes, and a dictionary maps
codes to texts.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projections.base import Index, Projection

Numbers = NDArray[np.float64]
Codes = NDArray[np.integer[Any]]
"""Codes of texts. See ``TextDictionary``."""

Slots = NDArray[np.int64]
"""Slots of rows: their indexes in every column. See ``Columns``."""

Ranks = NDArray[np.int32]
"""Ranks of rows: their positions in the order of a sorted index."""

Mask = NDArray[np.bool_]
"""One truth value for each slot."""

NO_SCORE = float("inf")
"""Number of a row that has no score in an index of the projection. It lies above every bound."""

ROW_OVERHEAD_BYTES = 230
"""Approximate bytes of a row's Python objects (key, payload, prefix, slot) besides their content."""

_INITIAL_CAPACITY = 1_024

_NEXT_CODE_TYPE = {1: np.int16, 2: np.int32}
"""Bytes per code -> the next wider type. Codes are as narrow as possible, because a scan reads all of them."""


class TextDictionary:
    """The dictionary of a text column: each text has a code, numbered in the order of first use."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        """The texts, by code."""
        self._codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        """Return the code of a text, and assign one if the text is new."""
        code = self._codes.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
        return code

    def codes_of(self, texts: frozenset[str]) -> list[int]:
        """Return the codes of the texts that have one."""
        return [self._codes[text] for text in texts if text in self._codes]


class Columns:
    """All rows of the replica in columns.

    A slot is a row's index in every column. The slot of a removed row is used again. The columns follow from the
    indexes of the projection: a column of numbers for each index over all rows, a column of texts for each index by
    group. ``put`` and ``remove`` take amortized constant time: columns grow by half when they are full.

    Args:
        projection: The projection of the read model.
    """

    def __init__(self, projection: Projection[Any, Any]) -> None:
        self._number_indexes: Mapping[str, Index[Any]] = {i.name: i for i in projection.indexes if not i.by}
        self._text_indexes: Mapping[str, Index[Any]] = {i.name: i for i in projection.indexes if i.by}
        self.numbers: dict[str, Numbers] = {name: np.zeros(0) for name in self._number_indexes}
        self.codes: dict[str, Codes] = {name: np.zeros(0, np.uint8) for name in self._text_indexes}
        self.dictionaries: dict[str, TextDictionary] = {name: TextDictionary() for name in self._text_indexes}
        self.present: Mask = np.zeros(0, np.bool_)
        """Whether the slot holds a row."""
        self.active: Mask = np.zeros(0, np.bool_)
        """Whether the slot holds a row that has not expired."""
        self.keys: list[str] = []
        self.logs: list[str] = []
        self.payloads: list[bytes] = []
        """Encoded attributes of the row that no column has. See ``row_codec``."""
        self.prefixes: list[bytes] = []
        """Start of the row's compact JSON document, up to the values that change with time."""
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

    def put(self, key: str, row: Any, log: str, payload: bytes, prefix: bytes) -> int:
        """Add or replace a row. The caller sets ``active`` afterwards.

        Returns:
            The slot of the row.
        """
        slot = self._slots.get(key)
        if slot is None:
            slot = self._take_slot(key)
        for name, index in self._number_indexes.items():
            score = index.score(row)
            self.numbers[name][slot] = NO_SCORE if score is None else score
        for name, index in self._text_indexes.items():
            assert index.by is not None
            code = self.dictionaries[name].code(index.by(row))
            if code > np.iinfo(self.codes[name].dtype).max:
                self.codes[name] = self.codes[name].astype(_NEXT_CODE_TYPE[self.codes[name].itemsize])
            self.codes[name][slot] = code
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

    def text(self, name: str, slot: int) -> str:
        """Return the text of a row in a column."""
        return self.dictionaries[name].texts[int(self.codes[name][slot])]

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
        objects = self._bytes + ROW_OVERHEAD_BYTES * len(self)
        return sum(array.nbytes for array in arrays) + sum(map(sys.getsizeof, lists)) + objects

    def _set_encoded(self, slot: int, payload: bytes, prefix: bytes) -> None:
        self._bytes += len(payload) + len(prefix) - len(self.payloads[slot]) - len(self.prefixes[slot])
        self.payloads[slot] = payload
        self.prefixes[slot] = prefix

    def _take_slot(self, key: str) -> int:
        if not self._free:
            self._grow(self.capacity * 3 // 2)
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
