"""Dictionary encoding: a column holds small integer codes, and a dictionary maps the codes to values."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from readapi.replica.arrays import Codes

VALUE_BYTES = 300
"""Approximate bytes of one value with its code and its group."""


class Dictionary:
    """The dictionary of one column: each value has a code, numbered in the order of first use.

    Values whose texts differ only in the case that filters ignore have different codes, but are in one group.

    Args:
        group: Returns the group of a value that is not None. None is in no group.
    """

    def __init__(self, group: Callable[[Any], str]) -> None:
        self._group = group
        self.values: list[Any] = []
        """The values, by code."""
        self._codes: dict[Any, int] = {}
        self._groups: list[str | None] = []
        """The groups of the values, by code."""
        self._first: dict[str, int] = {}
        """Group -> code of its first value."""
        self._others: dict[str, list[int]] = {}
        """Group -> codes of its other values. Most groups have one value."""

    def code(self, value: Any) -> int:
        """Return the code of a value, and assign one if the value is new."""
        code = self._codes.get(value)
        if code is None:
            code = self._codes[value] = len(self.values)
            self.values.append(value)
            group = None if value is None else self._group(value)
            self._groups.append(group)
            if group is not None and self._first.setdefault(group, code) != code:
                self._others.setdefault(group, []).append(code)
        return code

    def codes_of(self, groups: Collection[str]) -> list[int]:
        """Return the codes of all values in some groups. Unknown groups have none."""
        first, others = self._first, self._others
        codes = [first[group] for group in groups if group in first]
        return codes + [code for group in groups for code in others.get(group, ())] if others else codes

    def without_unused(self, codes: Codes) -> tuple["Dictionary", Codes]:
        """Return a dictionary of the used values alone, and the codes in it.

        Args:
            codes: The codes of all rows, and of no others.
        """
        used, positions = np.unique(codes, return_inverse=True)
        dictionary = Dictionary(self._group)
        new_codes = np.array([dictionary.code(self.values[code]) for code in used.tolist()], codes.dtype)
        return dictionary, new_codes[positions]

    @property
    def nbytes(self) -> int:
        """Approximate memory of the dictionary, in bytes."""
        return VALUE_BYTES * len(self.values)

    def count(self, codes: Codes) -> dict[str, int]:
        """Count the codes by group. Groups without a code are missing."""
        counts = np.bincount(codes)
        counted = np.flatnonzero(counts)
        sums: dict[str, int] = {}
        for code, number in zip(counted.tolist(), counts[counted].tolist(), strict=True):
            group = self._groups[code]
            if group is not None:
                sums[group] = sums.get(group, 0) + number
        return sums

    def ranks(self) -> NDArray[np.int32]:
        """Return, for each code, the rank of its text among all texts. A missing text has the lowest rank."""
        ranks = np.empty(len(self.values), np.int32)
        order = sorted(range(len(self.values)), key=lambda code: text_key(self.values[code]))
        ranks[order] = np.arange(len(self.values), dtype=np.int32)
        return ranks


def text_key(text: str | None) -> tuple[bool, str]:
    """Return the sort key of a text. A missing text is lower than every text."""
    return text is not None, text or ""
