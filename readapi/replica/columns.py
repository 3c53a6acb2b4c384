"""The rows of the replica, column by column: numbers as they are, texts as codes, and beside them what is shown."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projections.base import Index, Projection

Numbers = NDArray[np.float64]
Codes = NDArray[np.integer[Any]]
Slots = NDArray[np.int64]
Ranks = NDArray[np.int32]
Mask = NDArray[np.bool_]

NEVER = float("inf")
"""The score of a row that the projection leaves out of an index: above every bound."""

OBJECT_BYTES = 230
"""What a row's key, what is packed of it, its head and its slot number take besides their content, about."""

_FIRST_CAPACITY = 1_024

_WIDER = {1: np.int16, 2: np.int32}
"""Bytes that a code takes -> the type of one that takes more: codes are as narrow as they can be."""


class Dictionary:
    """The texts of one column, numbered in the order in which they came."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        """The number of a text, given now if it has none."""
        code = self._codes.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
        return code

    def known(self, texts: frozenset[str]) -> list[int]:
        """The numbers of those texts that have one."""
        return [self._codes[text] for text in texts if text in self._codes]


class Columns:
    """Rows in slots. A slot is a row's place in every column; it is given out again when the row is gone.

    The columns follow from the projection: a number for each index that orders the whole read model, a text for each
    that orders its groups.
    """

    def __init__(self, projection: Projection[Any, Any]) -> None:
        self._scores: Mapping[str, Index[Any]] = {index.name: index for index in projection.indexes if not index.by}
        self._groups: Mapping[str, Index[Any]] = {index.name: index for index in projection.indexes if index.by}
        self.numbers: dict[str, Numbers] = {name: np.zeros(0) for name in self._scores}
        self.codes: dict[str, Codes] = {name: np.zeros(0, np.uint8) for name in self._groups}
        self.dictionaries: dict[str, Dictionary] = {name: Dictionary() for name in self._groups}
        self.present: Mask = np.zeros(0, np.bool_)
        """Whether the slot holds a row."""
        self.active: Mask = np.zeros(0, np.bool_)
        """Whether it holds one that can be shown."""
        self.keys: list[str] = []
        self.logs: list[str] = []
        self.packed: list[bytes] = []
        """What no column has of the row."""
        self.heads: list[bytes] = []
        """The start of the row as it is shown, all that does not depend on the time."""
        self.used = 0
        """No slot from here on has ever held a row."""
        self._shown = 0
        """Bytes of what is packed, and of the heads."""
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._in_order_of_keys: Slots | None = None
        self._grow(_FIRST_CAPACITY)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def capacity(self) -> int:
        """Slots there are."""
        return len(self.keys)

    def slot(self, key: str) -> int | None:
        """Where the row is."""
        return self._slots.get(key)

    def put(self, key: str, row: Any, log: str, packed: bytes, head: bytes) -> int:
        """Add a row or replace it; returns its slot. It is not active before somebody says so."""
        slot = self._slots.get(key)
        if slot is None:
            slot = self._take_slot(key)
        for name, index in self._scores.items():
            score = index.score(row)
            self.numbers[name][slot] = NEVER if score is None else score
        for name, index in self._groups.items():
            assert index.by is not None
            code = self.dictionaries[name].code(index.by(row))
            if code > np.iinfo(self.codes[name].dtype).max:
                self.codes[name] = self.codes[name].astype(_WIDER[self.codes[name].itemsize])
            self.codes[name][slot] = code
        self.logs[slot] = log
        self._show(slot, packed, head)
        return slot

    def remove(self, key: str) -> int | None:
        """Take a row out; returns the slot that it had."""
        slot = self._slots.pop(key, None)
        if slot is not None:
            self.present[slot] = self.active[slot] = False
            self._show(slot, b"", b"")
            self.keys[slot] = self.logs[slot] = ""
            self._free.append(slot)
            self._in_order_of_keys = None
        return slot

    def text(self, name: str, slot: int) -> str:
        """A row's text."""
        return self.dictionaries[name].texts[int(self.codes[name][slot])]

    def in_order_of_keys(self) -> Slots:
        """The slots of all rows."""
        if self._in_order_of_keys is None:
            self._in_order_of_keys = np.array([self._slots[key] for key in sorted(self._slots)], np.int64)
        return self._in_order_of_keys

    @property
    def nbytes(self) -> int:
        """The memory that the rows take, what Python's objects need beside their content included, about."""
        arrays: list[NDArray[Any]] = [*self.numbers.values(), *self.codes.values(), self.present, self.active]
        lists: list[Any] = [self._slots, self._free, self.keys, self.logs, self.packed, self.heads]
        objects = self._shown + OBJECT_BYTES * len(self)
        return sum(array.nbytes for array in arrays) + sum(map(sys.getsizeof, lists)) + objects

    def _show(self, slot: int, packed: bytes, head: bytes) -> None:
        self._shown += len(packed) + len(head) - len(self.packed[slot]) - len(self.heads[slot])
        self.packed[slot] = packed
        self.heads[slot] = head

    def _take_slot(self, key: str) -> int:
        if not self._free:
            self._grow(self.capacity * 3 // 2)
        slot = self._free.pop()
        self.used = max(self.used, slot + 1)
        self._slots[key] = slot
        self.keys[slot] = key
        self.present[slot] = True
        self._in_order_of_keys = None
        return slot

    def _grow(self, capacity: int) -> None:
        more = capacity - self.capacity
        for columns in (self.numbers, self.codes):
            for name, column in columns.items():
                columns[name] = np.concatenate((column, np.zeros(more, column.dtype)))
        self.present = np.concatenate((self.present, np.zeros(more, np.bool_)))
        self.active = np.concatenate((self.active, np.zeros(more, np.bool_)))
        self._free.extend(range(capacity - 1, self.capacity - 1, -1))
        for texts in (self.keys, self.logs):
            texts.extend([""] * more)
        for shown in (self.packed, self.heads):
            shown.extend([b""] * more)
